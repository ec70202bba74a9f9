"""What a run of `quantize` will do, agreed on by every rank before any work."""

from pathlib import Path

from proofcard import manifest, stage
from proofcard.calibration import sample_set as samples_stage
from proofcard.checkpoint import remote_code, ties
from proofcard.checkpoint.opening import opened
from proofcard.checkpoint.source import Source
from proofcard.config import QuantizeConfig
from proofcard.disk import check_writable, free_at
from proofcard.errors import Stop, Usage, before_work
from proofcard.fingerprint import choose_device, numeric_platform
from proofcard.quantize import checkpoint_stage as quantize_stage
from proofcard.quantize import preflight
from proofcard.quantize.checkpoint_stage import Plan
from proofcard.ranks import Ranks
from proofcard.toolchain import activate, materialise
from proofcard.units import size


def agreed(config: QuantizeConfig, team: Ranks) -> tuple[QuantizeConfig, Plan]:
    """The plan, and the configuration with the source's folder.

    Every rank has then checked the existing files before any rank changes them.
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
    """The configuration with a source in `folder`."""
    return config.model_copy(update={"model": config.model.model_copy(update={"path": folder})})


def _preflight(config: QuantizeConfig, source: Source, team: Ranks) -> Plan:
    """Check everything before any work: sources, code, datasets, toolchain, names, disk space."""
    if team.count > 1 and config.engine.name == "modelopt":
        raise Stop("engine=modelopt runs as one process: use engine=layerwise for several")
    if team.count > 1 and config.kv_cache.format == "fp8_affine":
        raise Stop(
            "kv_cache=fp8_affine averages over batches in their order, which several ranks do not keep: "
            "run it as one process, or use kv_cache=fp8"
        )
    if config.quantization.dequantize_to == "float32" and not any(map(source.is_fp8, source.weights())):
        raise Stop(
            f"quantization.dequantize_to=float32 is for FP8 sources, but {source.path} has no FP8 weight: "
            "remove it"
        )
    remote_code.for_model(source.path, config.model.remote_code)  # report unpinned code now
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
                f"toolchain={config.toolchain.series} cannot export without a GPU: use toolchain=fixed"
            )
        activate(tools)
        if samples is None and config.calibration.frozen is None:
            samples_stage.check(config, samples_from)
        _room_for(final, sum(tensor.size for tensor in source.tensors.values()) - stage.taken(final))
        numeric_platform(device)  # the manifest needs it: report problems now
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


def disk(config: QuantizeConfig, source: Source) -> str:
    """The maximum disk space for the work, in one sentence.

    Hidden states are in two files in BF16, with every sample at its full length.
    """
    weights = sum(tensor.size for tensor in source.tensors.values())
    said = f"disk: up to {size(weights)} for the checkpoint"
    if config.engine.name == "layerwise":
        samples = sum(dataset.samples for dataset in config.calibration.datasets.values())
        positions = samples * config.calibration.sequence_length
        hidden = 2 * positions * int(source.config.get("hidden_size", 0)) * 2
        said += f", and until it is sealed up to {size(hidden)} for hidden states"
    return said


def _room_for(target: Path, needed: int) -> None:
    free = free_at(target)
    if free < needed:
        raise Stop(f"{target} has {size(free)} free, but the checkpoint needs up to {size(needed)}")
