"""`reproduce`: from a manifest to a rebuilt checkpoint, compared digest by digest.

    uv run proofcard reproduce checkpoint=runs/checkpoints/demo
    uv run proofcard reproduce manifest=FILE source=DIR
    uv run proofcard reproduce run=MLFLOW_RUN_ID

What differs from the recorded environment, and how to get that one, is shown before any work.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from proofcard import joining, manifest, portable, tracking
from proofcard.calibration.sample_files import TEXTS
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.config import QuantizeConfig, ReproduceConfig, compose
from proofcard.determinism import make_deterministic
from proofcard.digest import sha256_json
from proofcard.disk import check_writable, write_whole
from proofcard.documents.manifest import Manifest
from proofcard.documents.reproduction import Difference, Reproduction, Samples
from proofcard.errors import Stop, Usage, before_work
from proofcard.files import plain
from proofcard.fingerprint import choose_device, environment, lock_digest, numeric_platform
from proofcard.grid import Grid
from proofcard.outcome import present
from proofcard.progress import console, shown
from proofcard.quantize import planning, stages
from proofcard.quantize.checkpoint_stage import Plan
from proofcard.ranks import Ranks
from proofcard.reproduce import environment_differences, recorded, result
from proofcard.reproduce.configuring import configured
from proofcard.reproduce.cost import duration
from proofcard.reproduce.environment_differences import Here
from proofcard.reproduce.recorded import Recorded
from proofcard.screen import Screen
from proofcard.units import counted

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}", re.ASCII)
_SHOWN = 12  # differences of the environment on the screen; the document has all


def run(overrides: list[str]) -> int:
    """Compose and rebuild. Returns 0 bit for bit, 3 within ULP on another platform, 1 not reproduced.

    Raises:
        Usage: before any work, when the manifest, an input or the request is wrong.
        Stop: when the work itself fails.
    """
    request = compose(ReproduceConfig, "reproduce", [_as_text(word) for word in overrides])
    with before_work():
        record = recorded.read(request)
        config = _placed(configured(record, request), record, request)
        recorded.check_keys(record, config)
    with joining.joined(config.hardware.device) as team:
        return _rebuild(record, config, request, team)


def _as_text(word: str) -> str:
    """A run's id as a string: Hydra would take one of digits, or with a single e, for a number."""
    return f"run='{word[4:]}'" if word.startswith("run=") and word[4:].isalnum() else word


def _placed(config: QuantizeConfig, record: Recorded, request: ReproduceConfig) -> QuantizeConfig:
    """The configuration with a separate output folder, since a sealed result elsewhere would be reused."""
    name = config.recipe.name
    if not _NAME.fullmatch(name):
        raise Usage(f"the manifest's recipe is called {plain(name, 80)!r}, which cannot be a file's name")
    folder = request.output_dir
    if folder is None:
        folder = request.work_dir / "reproductions" / f"{name}-{record.body['key'][:12]}"
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Usage(
            f"output_dir={folder} is not empty: choose a new or empty folder for the rebuilt checkpoint"
        )
    return config.model_copy(update={"output_dir": folder})


def _rebuild(record: Recorded, config: QuantizeConfig, request: ReproduceConfig, team: Ranks) -> int:
    report = _report_path(config, request)
    if team.leads:
        console.print(f"rebuilding {record.recipe}, key {record.body['key']}", soft_wrap=True)
    config, plan = planning.agreed(config, team)
    changes, here = _compared(record, config, plan)
    if team.leads:
        _show_environment(record, changes, here)
        _show_plan(record, config, plan)
    if request.strict and any(one.may_change != "nothing by itself" for one in changes):
        raise Usage("strict=true: the environment is not the recorded one (see above); nothing was started")
    subject = tracking.Subject(record.body["key"], record.recipe)
    run = tracking.opened(config.tracking, "reproduce", config.work_dir, subject=subject, leads=team.leads)
    with run as tracker:
        tracker.tags({"rebuilt.key": plan.key})
        with tracker.stage("quantize"):
            made = stages.made(config, plan, tracker, team)
        status = 0
        if made is not None:
            document = _document(record, made, changes, config, plan, request)
            report.parent.mkdir(parents=True, exist_ok=True)
            write_whole(report, portable.document(document).text())
            _track(tracker, document, report)
            last = _WORDS[document.outcome].format(document)
            present(document, partial(_show, document, plan, report), last)
            status = result.STATUS[document.outcome]
    team.wait()
    return status


def _report_path(config: QuantizeConfig, request: ReproduceConfig) -> Path:
    """Where the document goes: never into the rebuilt checkpoint, which it would make another one."""
    final = config.output_dir
    assert final is not None
    report = request.report or final.with_name(f"{final.name}.reproduction.json")
    if final.resolve() in report.resolve().parents or report.is_dir():
        raise Usage(f"report={report} cannot be written: choose a file outside the rebuilt checkpoint")
    with before_work():
        check_writable(report.parent)
    return report


def _compared(record: Recorded, config: QuantizeConfig, plan: Plan) -> tuple[list[Difference], Here]:
    """What differs before the work.

    Raises:
        Usage: when the source is not the recorded one: nothing can be reproduced from another.
    """
    before, now = (side["inputs"]["source"]["files"] for side in (record.body, plan.checkpoint_from))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            what = "is missing" if name not in now else "is not recorded" if name not in before else "differs"
            raise Usage(
                f"the source {shown(plan.source.path)} is not the recorded one: {plain(name)} {what}; "
                f"{_origin(config)}"
            )
    make_deterministic(config.hardware.threads, config.seed)
    here = Here(
        toolchain=plan.checkpoint_from["toolchain"] | {"lock": lock_digest()} | environment(),
        platform=numeric_platform(choose_device(config.hardware.device)),
        samples=plan.samples_from,
    )
    return environment_differences.differences(record.body, here), here


def _origin(config: QuantizeConfig) -> str:
    model = config.model
    if model.repository is None:
        return "set source=DIR to the folder that has it"
    return (
        f"it is {model.repository} at commit {model.revision}: download that, or set source=DIR to its folder"
    )


def _show_environment(record: Recorded, changes: list[Difference], here: Here) -> None:
    if not changes:
        console.print("environment: as recorded: toolchain, packages, code, lock and numeric platform")
        return
    console.print(f"environment: {counted(len(changes), 'difference')} from the recorded one")
    table = Grid("what", "recorded", "here", "may change", left=(0, 1, 2, 3))
    for one in changes[:_SHOWN]:
        values = (environment_differences.identity(value)[:24] for value in (one.recorded, one.here))
        table.add_row(plain(one.what, 60), *map(plain, values), one.may_change)
    console.print()
    console.print(table)
    console.print()
    if len(changes) > _SHOWN:
        console.print(f"and {len(changes) - _SHOWN} more, in the report")
    for line in environment_differences.advice(record, changes, here):
        console.print(f"to restore it: {line}", soft_wrap=True)


def _show_plan(record: Recorded, config: QuantizeConfig, plan: Plan) -> None:
    frozen = config.calibration.frozen
    samples = f"the recorded set, {shown(frozen)}" if frozen is not None else "drawn again from the datasets"
    console.print(f"samples: {samples}", soft_wrap=True)
    if plan.checkpoint is not None:
        console.print(f"rebuilt before: {shown(plan.final)} (remove it to rebuild it again)", soft_wrap=True)
        return
    console.print(planning.disk(config, plan.source), soft_wrap=True)
    console.print(duration(config, plan.source, record.seconds), soft_wrap=True)


def _document(
    record: Recorded,
    made: Manifest,
    changes: list[Difference],
    config: QuantizeConfig,
    plan: Plan,
    request: ReproduceConfig,
) -> Reproduction:
    stored = _tensors(record.folder)
    rebuilt = _tensors(plan.final)

    def read(tensors: dict[str, Tensor], name: str, entry: dict[str, Any]) -> bytes | None:
        tensor = tensors.get(name)
        if tensor is None or tensor.size > _LARGEST or tensor.sha256() != entry["sha256"]:
            return None
        return tensor.raw().tobytes()

    return result.judged(
        record.recipe,
        record.body,
        recorded.values(made),
        changes,
        _samples(record, plan, drawn=config.calibration.frozen is None),
        read=lambda name, entry: read(stored, name, entry),
        read_made=lambda name, entry: read(rebuilt, name, entry),
        bound=config.ulp_bound if request.ulp_bound is None else request.ulp_bound,
    )


def _samples(record: Recorded, plan: Plan, drawn: bool) -> Samples:
    """Digests of the recorded and of the present set; sets of earlier versions hold no texts."""
    wanted = record.body["inputs"]["samples"]["digest"]
    outputs = manifest.read(plan.samples_dir).outputs.values()
    without = {name: entry for name, entry in outputs["files"].items() if name != TEXTS}
    earlier = sha256_json(outputs | {"files": without})
    return Samples(drawn=drawn, recorded=wanted, made=earlier if earlier == wanted else sha256_json(outputs))


_LARGEST = 64 << 20  # bytes of a calibrated tensor that is read: biases have some thousand


def _tensors(folder: Path | None) -> dict[str, Tensor]:
    """Tensors of a sealed folder, none where it cannot be read: the manifest alone is what counts."""
    try:
        return read_folder(folder) if folder is not None else {}
    except (Stop, OSError):
        return {}


def _track(tracker: tracking.Tracker, document: Reproduction, report: Path) -> None:
    tracker.tags({"outcome": document.outcome} | ({"cause": document.cause} if document.cause else {}))
    numbers = {
        "files.equal": document.files.equal,
        "tensors.equal": document.tensors.equal,
        "calibrated.equal": document.calibrated.equal,
        "environment.differences": len(document.differences),
    }
    if document.largest_ulp is not None:
        numbers["calibrated.largest_ulp"] = document.largest_ulp
    tracker.metrics({"tensors_reproduced": document.tensors.equal / max(1, document.tensors.recorded)})
    tracker.numbers({name: float(value) for name, value in numbers.items()}, "reproduction/numbers.json")
    tracker.file(report, "reproduction")


def _show(document: Reproduction, plan: Plan, report: Path, out: Screen) -> None:
    files, tensors = document.files, document.tensors
    out.print(f"rebuilt      {shown(plan.final)}", soft_wrap=True)
    out.print(f"files        {files.equal} of {files.recorded} as recorded")
    out.print(f"tensors      {tensors.equal} of {tensors.recorded} as recorded")
    calibrated = document.calibrated
    apart = ""
    if calibrated.equal < calibrated.recorded:
        far = document.largest_ulp
        distance = "at unknown distance" if far is None else f"at most {far} ULP apart"
        apart = f", {distance}, {document.ulp_bound} allowed"
    out.print(f"calibrated   {calibrated.equal} of {calibrated.recorded} scales as recorded{apart}")
    if (first := document.first) is not None:
        where = f"{first.tensor} in {first.file}" if first.tensor else first.file
        out.print(f"first        {where}: {first.kind}", soft_wrap=True)
    if document.cause is not None:
        out.print(f"likely       {document.cause}", soft_wrap=True)
    out.print(f"report: {shown(report)}", soft_wrap=True)


_WORDS = {
    "reproduced": "reproduced bit for bit",
    "reproduced within ULP": "weights reproduced bit for bit, calibration within {0.ulp_bound} ULP",
    "not reproduced": "not reproduced",
}
