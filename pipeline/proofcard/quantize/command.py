"""`quantize`: the whole pipeline from a recipe's name to a sealed checkpoint.

    uv run proofcard quantize                 # recipe=demo
    uv run proofcard quantize recipe=…

Everything that can be wrong with a request is found before the first sample is drawn.
"""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from proofcard import joining, manifest, outcome, stage, tracking
from proofcard.calibration import sample_set as samples_stage
from proofcard.checkpoint import remote_code, ties
from proofcard.checkpoint.opening import opened
from proofcard.checkpoint.source import Source
from proofcard.config import QuantizeConfig, compose
from proofcard.digest import readable_json
from proofcard.disk import check_writable, free_at
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, Usage, before_work
from proofcard.fingerprint import choose_device, numeric_platform
from proofcard.progress import console, shown
from proofcard.quantize import checkpoint_stage as quantize_stage
from proofcard.quantize import preflight
from proofcard.quantize.checkpoint_stage import Plan
from proofcard.ranks import Ranks
from proofcard.redact import redact
from proofcard.screen import Screen, on_one_line
from proofcard.toolchain import activate, materialise

_REAL = "minimax_m2_7_nvfp4"


def run(overrides: list[str]) -> int:
    """Compose the overrides and `execute` what they ask for. Returns 0."""
    return execute(compose(QuantizeConfig, "config", overrides))


def execute(config: QuantizeConfig) -> int:
    """Check, draw samples, quantize, seal; print where the result stands. Returns 0.

    Raises:
        Usage: before any work, when something about the request is wrong.
        Stop: when the work itself fails.
    """
    with joining.joined(config.hardware.device) as team:
        return _execute(config, team)


def _execute(config: QuantizeConfig, team: Ranks) -> int:
    recipe = config.recipe
    other = f"; the real one: recipe={_REAL}" if recipe.name == "demo" else ""
    if team.leads:
        console.print(f"recipe={recipe.name}: {recipe.summary}{other}", soft_wrap=True)
    config, plan = agreed(config, team)
    if team.leads and plan.checkpoint is None:
        console.print(disk(config, plan.source), soft_wrap=True)
    run = tracking.opened(
        config.tracking, "quantize", config.work_dir, leads=team.leads, makes=True,
        subject=tracking.Subject(plan.key, recipe.name),
    )  # fmt: skip
    with run as tracker:
        checkpoint = made(config, plan, tracker, team)
    if team.leads:
        assert checkpoint is not None
        _name_latest(config, plan)
        lines = _summary(config, plan, checkpoint, tracked=tracker.lost is None)
        outcome.present(checkpoint, lambda out: _show(lines, out))
    team.wait()  # the first rank to end would have some launchers end the others
    return 0


def made(config: QuantizeConfig, plan: Plan, tracker: tracking.Tracker, team: Ranks) -> Manifest | None:
    """Both stages, in the tracked run of a command. Returns the checkpoint's manifest, or None."""
    with plan.source.arriving() if plan.checkpoint is None else nullcontext():
        tracker.params(config.identity() | {"hardware": config.hardware.identity()})
        tracker.text(readable_json(config.model_dump(mode="json")), "config.json")
        with tracker.stage("samples"):
            samples = plan.samples or _samples(config, plan, team)
            tracker.datasets(samples.inputs["datasets"], samples.config["datasets"])
            _track(tracker, plan.samples_dir, samples, reused=plan.samples is not None)
        checkpoint = plan.checkpoint or quantize_stage.make(config, plan, samples, tracker, team)
        if checkpoint is not None:
            _track(tracker, plan.final, checkpoint, reused=plan.checkpoint is not None)
    return checkpoint


def _samples(config: QuantizeConfig, plan: Plan, team: Ranks) -> Manifest:
    """The sample set, drawn by the leading rank for all."""
    if team.leads:
        made = samples_stage.make(config, plan.samples_from, plan.samples_dir)
        team.wait()
        return made
    team.wait()
    return manifest.read(plan.samples_dir)


def agreed(config: QuantizeConfig, team: Ranks) -> tuple[QuantizeConfig, Plan]:
    """The plan, and the configuration with the source's folder.

    Every rank has then seen what stands, and found nothing wrong, before anybody changes it.
    """
    fault = None
    try:
        with before_work():
            source = opened(config.model, config.work_dir, streamed=team.count == 1)
            config = _at(config, source.path)
            plan = _preflight(config, source, team)
    except Usage as stop:
        fault = str(stop)
    fault = team.first_fault(fault)
    if fault is not None:
        raise Usage(fault)
    return config, plan


def _at(config: QuantizeConfig, folder: Path) -> QuantizeConfig:
    """The configuration with a source that lies in `folder`."""
    return config.model_copy(update={"model": config.model.model_copy(update={"path": folder})})


def _preflight(config: QuantizeConfig, source: Source, team: Ranks) -> Plan:
    """Everything that can be checked before work: sources, code, datasets, toolchain, names, room."""
    if team.count > 1 and config.engine.name == "modelopt":
        raise Stop("engine=modelopt runs as one process: take engine=layerwise for several")
    if team.count > 1 and config.kv_cache.format == "fp8_affine":
        raise Stop(
            "kv_cache=fp8_affine averages over batches in their order, which several ranks do not keep: "
            "run it as one process, or take kv_cache=fp8"
        )
    if config.quantization.dequantize_to == "float32" and not any(map(source.is_fp8, source.weights())):
        raise Stop(
            f"quantization.dequantize_to=float32 is for FP8 sources, and {source.path} has no FP8 weight: "
            "leave it out"
        )
    remote_code.for_model(source.path, config.model.remote_code)  # what is not pinned is named now
    if all(source.here(name) for name in ties.pair(source.weights()) if name is not None):
        ties.check(source)  # else once they are here, before the first batch
    tools = materialise(config.toolchain.series, config.work_dir / "toolchains")
    samples_from = samples_stage.describe(config)
    samples_key = manifest.key_of("samples", **samples_from)
    samples_dir = samples_stage.place(config, samples_key)
    checkpoint_from = quantize_stage.describe(config, source, samples_key, tools)
    key = manifest.key_of("quantize", **checkpoint_from)
    final = config.output_dir or config.work_dir / "checkpoints" / f"{config.recipe.name}-{key[:12]}"
    found = stage.find_sealed(final, key, digests=team.leads)
    samples = stage.find_sealed(samples_dir, samples_key)
    mtp_tensors: tuple[str, ...] = ()
    if samples is None:
        check_writable(samples_dir.parent)
    if found is None:
        check_writable(final.parent)
        if team.leads:
            stage.check_unused(final)
        device = choose_device(config.hardware.device)
        if device == "cpu" and config.toolchain.series != "fixed":
            raise Stop(
                f"toolchain={config.toolchain.series} cannot export without a GPU: take toolchain=fixed"
            )
        activate(tools)
        if samples is None and config.calibration.frozen is None:
            samples_stage.check(config, samples_from)
        _room_for(final, sum(tensor.size for tensor in source.tensors.values()) - stage.taken(final))
        numeric_platform(device)  # the manifest names it: what cannot be told is known now
        mtp_tensors = preflight.check(config, source, tools)
    return Plan(
        source=source,
        tools=tools,
        samples_from=samples_from,
        samples_dir=samples_dir,
        samples=samples,
        checkpoint_from=checkpoint_from,
        key=key,
        final=final,
        checkpoint=found,
        mtp_tensors=mtp_tensors,
    )


def _name_latest(config: QuantizeConfig, plan: Plan) -> None:
    """Let `<work_dir>/checkpoints/<recipe>` point at the checkpoint just made or reused."""
    latest = plan.final.parent / config.recipe.name
    if config.output_dir is None and not (latest.is_symlink() and latest.readlink() == Path(plan.final.name)):
        fresh = plan.final.parent / f".{plan.key}.{os.getpid()}.link"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(plan.final.name)
        fresh.replace(latest)


def disk(config: QuantizeConfig, source: Source) -> str:
    """What the work takes on disk, at most, in one sentence.

    Hidden states lie in two files, every sample at its full length, in the two bytes of BF16.
    """
    weights = sum(tensor.size for tensor in source.tensors.values())
    said = f"disk: up to {weights / 1e9:.2f} GB for the checkpoint"
    if config.engine.name == "layerwise":
        samples = sum(dataset.samples for dataset in config.calibration.datasets.values())
        positions = samples * config.calibration.sequence_length
        hidden = 2 * positions * int(source.config.get("hidden_size", 0)) * 2
        said += f", and until it is sealed up to {hidden / 1e9:.2f} GB for hidden states"
    return said


def _room_for(target: Path, needed: int) -> None:
    free = free_at(target)
    if free < needed:
        raise Stop(f"{target} has {free / 1e9:.1f} GB free; the checkpoint needs up to {needed / 1e9:.1f} GB")


def _track(tracker: tracking.Tracker, folder: Path, sealed: Manifest, reused: bool) -> None:
    """What a stage made, its manifest whole: `reproduce run=…` needs nothing else of it."""
    tracker.params({"seeds": sealed.seeds, "config": sealed.config})
    tracker.metrics({k: float(v) for k, v in sealed.statistics.items() if isinstance(v, int)})
    tracker.tags({"key": sealed.key, "reused": str(reused).lower()})
    tracker.file(folder / manifest.NAME)


def _summary(config: QuantizeConfig, plan: Plan, sealed: Manifest, tracked: bool) -> dict[str, str]:
    """What was made, and what to do with it; a line without a text is left out."""
    files, said = sealed.outputs.files, sealed.statistics
    assert config.model.path is not None
    final, source = shown(plan.final), shown(config.model.path)
    lines = {
        "checkpoint": f"{final} ({'reused' if plan.checkpoint else 'made'})",
        "key": sealed.key,
        "size": f"{sum(file.size for file in files.values()) / 1e6:.1f} MB in {len(files)} files",
        "tensors": f"{said['tensors']}, {said['quantizers']} quantizers calibrated",
        "samples": f"{said['samples']}, {said['tokens']} tokens: {shown(plan.samples_dir)}",
        "coverage": _coverage(said),
        "prove it": f"proofcard verify checkpoint={final} source={source}",
    }
    if config.tracking.uri is not None and tracked:
        lines["see the run"] = f"mlflow ui --backend-store-uri {redact(config.tracking.uri)}"
    return lines


def _show(lines: dict[str, str], out: Screen) -> None:
    for label, text in lines.items():
        if text:
            out.print(f"{label:12} {on_one_line(text)}", soft_wrap=True)


def _coverage(said: dict[str, Any]) -> str:
    """How the routers spread the samples, where the engine counted it and there are experts."""
    if "experts" not in said:
        return ""
    spread = f"{said['routed_positions_smallest']}..{said['routed_positions_largest']}"
    return (
        f"{spread} positions an expert and layer as routed, {said['experts_cold']} of {said['experts']} cold"
    )
