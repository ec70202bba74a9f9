"""`evaluate`: what quantization cost a checkpoint beside its source, in numbers with intervals, and where.

uv run proofcard evaluate checkpoint=runs/checkpoints/demo source=demo/model
uv run proofcard evaluate recipe=minimax_m2_7_nvfp4 evaluation=protocol checkpoint=DIR source=DIR
uv run proofcard evaluate recipe=local checkpoint=DIR source=DIR evaluation.text=texts.jsonl
"""

from functools import partial
from pathlib import Path

from proofcard import documents, joining, manifest, outcome, stage, tracking
from proofcard.calibration import drawing, tokenizer
from proofcard.checkpoint import remote_code
from proofcard.checkpoint.source import Source
from proofcard.config import compose
from proofcard.config.evaluating import EvaluateConfig
from proofcard.disk import check_writable, free_at
from proofcard.documents.evaluation import Evaluation
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, Usage, before_work
from proofcard.evaluate import candidates, figures, pair, report, text_set, texts
from proofcard.evaluate import stage as evaluate_stage
from proofcard.evaluate.candidates import Candidate, Stored
from proofcard.evaluate.files import NUMBERS
from proofcard.evaluate.stage import Plan
from proofcard.evaluate.weights import Checkpoint
from proofcard.fingerprint import choose_device, numeric_platform
from proofcard.progress import console, shown
from proofcard.ranks import Ranks
from proofcard.reports import place, show
from proofcard.screen import Screen
from proofcard.units import size


def run(overrides: list[str]) -> int:
    """Compose, check, evaluate, seal, report. Returns 0, however large the cost is.

    Raises:
        Usage: before any work, when something about the request is wrong.
        Stop: when the work itself fails.
    """
    config = compose(EvaluateConfig, "evaluate", overrides)
    with joining.joined(config.hardware.device) as team:
        return _execute(config, team)


def _execute(config: EvaluateConfig, team: Ranks) -> int:
    plan, target = _planned(config, team)
    subject = tracking.of_sealed(plan.sealed) if plan.sealed else None
    with tracking.opened(
        config.tracking, "evaluate", config.work_dir, subject=subject, leads=team.leads
    ) as tracker:
        tracker.params({"evaluation": config.evaluation.identity(), "hardware": config.hardware.identity()})
        sealed = plan.reused or evaluate_stage.make(config, plan, tracker, team)
        if sealed is not None and team.leads:
            evaluation = documents.read(Evaluation, plan.final / NUMBERS)
            report.track(tracker, evaluation, sealed, reused=plan.reused is not None)
            drawn, sections = figures.figures(evaluation), report.sections(evaluation)
            outcome.deliver_folder(
                evaluation, target, NUMBERS, partial(show, sections), tracker, "evaluation",
                page=report.page(evaluation, drawn), figures=drawn,
            )  # fmt: skip
            made = "reused" if plan.reused else "made"
            Screen().print(f"evaluation   {shown(plan.final)} ({made})", soft_wrap=True)
    team.wait()  # the first rank to end would have some launchers end the others
    return 0


def _planned(config: EvaluateConfig, team: Ranks) -> tuple[Plan, Path]:
    """The plan and where the report goes; no rank begins before all have passed their checks."""
    fault = None
    try:
        with before_work():
            plan = _preflight(config, team)
            target = place(config.report, config.checkpoint, "evaluation", NUMBERS, config.work_dir)
    except Usage as stop:
        fault = str(stop)
    if (fault := team.first_fault(fault)) is not None:
        raise Usage(fault)
    return plan, target


def _preflight(config: EvaluateConfig, team: Ranks) -> Plan:
    """Check everything that can be checked before any work."""
    for folder, what in ((config.checkpoint, "checkpoint"), (config.source, "source")):
        if not folder.is_dir():
            raise Stop(f"{what}={folder} is not a folder")
    if config.checkpoint.resolve() == config.source.resolve():
        raise Stop(f"checkpoint and source are the same folder, {config.source}: there is nothing to compare")
    source = Source(config.source)
    remote_code.for_model(source.path, config.model.remote_code)
    checkpoint = Checkpoint(config.checkpoint, source)
    source = checkpoint.source or source
    pair.check(checkpoint, source)
    sealed = _sealed(config.checkpoint)
    chosen = _candidates(config, checkpoint.holds())
    read = _texts(config, sealed)
    origin = evaluate_stage.describe(config, source, checkpoint, sealed, chosen, read)
    key = manifest.key_of("evaluate", **origin)
    final = config.output_dir or (
        config.work_dir / "evaluations" / f"{config.checkpoint.resolve().name}-{key[:12]}"
    )
    reused = stage.find_sealed(final, key, digests=team.leads)
    if reused is None:
        check_writable(final.parent)
        if team.leads:
            stage.check_unused(final)
        _check_disk(final, source, len(chosen), read)
        numeric_platform(choose_device(config.hardware.device))
    return Plan(source, checkpoint, sealed, chosen, read, origin, key, final, reused)


def _sealed(checkpoint: Path) -> Manifest | None:
    """The manifest of a sealed checkpoint, every byte of which was checked; None if it is not sealed."""
    if not (checkpoint / manifest.NAME).exists():
        return None
    sealed = stage.intact(checkpoint)
    if sealed.stage != "quantize":
        raise Stop(f"{checkpoint} is the result of `{sealed.stage}`, not a checkpoint")
    return sealed


def _candidates(config: EvaluateConfig, stored: Stored) -> tuple[Candidate, ...]:
    wanted = config.evaluation.candidates
    chosen = tuple(map(candidates.parsed, wanted)) if wanted else candidates.all_of(stored)
    if not wanted and (note := candidates.left_out(stored)) is not None:
        console.print(note, soft_wrap=True)
    if len(set(chosen)) < len(chosen):
        raise Stop("evaluation.candidates has a name twice")
    for candidate in chosen:
        if (fault := candidates.fault(candidate, stored)) is not None:
            raise Stop(f"{config.checkpoint}: {fault}")
    return chosen


def _texts(config: EvaluateConfig, sealed: Manifest | None) -> text_set.Texts:
    """The documents, drawn or read, as the source's tokenizer makes tokens of them."""
    files = tokenizer.described(tokenizer.read_by(config.source))
    if config.evaluation.text is not None:
        words = tokenizer.opened(config.source, config.model.remote_code, files)
        return texts.of_file(config.evaluation.text, config.evaluation, words)
    if sealed is None:
        raise Stop(
            f"{config.checkpoint} has no manifest.json, so it is not known which texts calibrated it "
            "and none can be held out: add evaluation.text=FILE.jsonl"
        )
    used = sealed.config.get("calibration", {}).get("datasets", {})
    if sorted(used) != sorted(config.calibration.datasets):
        raise Stop(
            f"the checkpoint was calibrated with {', '.join(sorted(used))}, this recipe has "
            f"{', '.join(sorted(config.calibration.datasets))}: add recipe=… or calibration=…, or "
            "evaluation.text=FILE.jsonl"
        )
    key = str(sealed.inputs["samples"]["key"])
    folder = config.samples or _sample_set(config.work_dir / "samples", key)
    return texts.held_out(config.calibration, config.evaluation, drawing.opened(config, files), folder, key)


def _sample_set(folder: Path, key: str) -> Path:
    """Where `quantize` keeps the sample set of a key, whatever its recipe was called."""
    reused = sorted(folder.glob(f"*-{key[:12]}"))
    if not reused:
        raise Stop(
            f"{folder} does not hold the sample set that calibrated this checkpoint ({key[:12]}): add "
            "samples=DIR, or use other texts with evaluation.text=FILE.jsonl"
        )
    return reused[0]


def _check_disk(final: Path, source: Source, count: int, chosen: text_set.Texts) -> None:
    """Two files of hidden states for each stream. Raises Stop when they do not fit on the disk."""
    tokens = sum(len(one.token_ids) for one in chosen.each)
    needed = disk(tokens, int(source.config.get("hidden_size") or 0), count) - stage.taken(final)
    if (free := free_at(final)) < needed:
        raise Stop(f"{final} has {free / 1e9:.1f} GB free; hidden states need up to {needed / 1e9:.1f} GB")
    console.print(f"disk: up to {size(needed)} for hidden states until it is sealed", soft_wrap=True)


def disk(tokens: int, width: int, count: int) -> int:
    """Bytes of hidden states at most: of source, candidates and two cells, each in two files of BF16."""
    return 2 * 2 * tokens * width * (count + 3)
