"""engine=modelopt: NVIDIA's own path, the whole model through `mtq.quantize` and `export_hf_checkpoint`.

The reference for every other engine.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.config.schema import QuantizeConfig
from proofcard.errors import Stop
from proofcard.quantize.model import load
from proofcard.quantize.preparing import Work, complete, prepared
from proofcard.quantize.quantizers import (
    CONSTANT_AMAX,
    check_selected,
    enabled,
    modelopt_config,
    with_quantizers,
)

Progress = Callable[[int, int, float], None]
"""Called after each batch with samples, tokens (padding left out) and seconds of that batch."""


def make(work: Work, progress: Progress) -> dict[str, float]:
    """Write the whole checkpoint to `work.folder`. Returns the amax of every calibrated quantizer by name.

    Raises:
        Stop: when ModelOpt cannot quantize or export this model, or a quantizer ends without an amax.
    """
    batches = prepared(work)
    model = load(work.source, work.config.model, work.device)
    model = calibrate(model, batches, work.config, progress)
    found = amaxes(model)
    if work.config.quantization.dequantize_to == "float32":
        keep_fp8(model, work.source)
    export(model, work.folder)
    complete(work)
    return found


def calibrate(model: Any, batches: Iterable[Batch], config: QuantizeConfig, progress: Progress) -> Any:
    """Insert quantizers and run every batch through the model; returns the quantized model.

    Raises:
        Stop: when ModelOpt cannot insert them, or could not export this model afterwards.
    """
    import modelopt.torch.quantization as mtq

    def forward_loop(quantized: Any) -> None:
        for batch in batches:
            started = time.perf_counter()
            _forward(quantized, batch, config.calibration.attention_mask)
            tokens = int(batch.attention_mask.sum())
            progress(len(batch.input_ids), tokens, time.perf_counter() - started)

    with torch.no_grad():
        quantized = with_quantizers(model, config)
        check_selected([name for name in enabled(quantized) if name.endswith("weight_quantizer")])
        mtq.calibrate(quantized, modelopt_config(config)["algorithm"], forward_loop)  # as mtq.quantize does
    _note_constants(quantized)
    return quantized


def _note_constants(model: Any) -> None:
    """Set the amax of quantizers with ModelOpt's constant one: 0.43.0 uses it and exports no scale for it."""
    for module in enabled(model).values():
        if module._use_constant_amax:
            module.amax = CONSTANT_AMAX


def _forward(model: Any, batch: Batch, attention_mask: bool) -> None:
    inputs = {"input_ids": torch.from_numpy(batch.input_ids).to(model.device)}
    if attention_mask:
        inputs["attention_mask"] = torch.from_numpy(batch.attention_mask).to(model.device)
    model(**inputs, use_cache=False)


def amaxes(model: Any) -> dict[str, float]:
    """The calibrated amax of every enabled quantizer that keeps a static one, by quantizer name.

    Raises:
        Stop: naming the first quantizer that ended without a finite, positive amax.
    """
    found: dict[str, float] = {}
    for name, module in enabled(model).items():
        amax = module.amax
        value = float("nan") if amax is None else float(amax.float().max())
        if not 0 < value < float("inf"):
            raise Stop(
                f"{name} has amax {value} after calibration: it got no input, or one that is not finite"
            )
        found[name] = value
    return found


def keep_fp8(model: Any, source: Source) -> None:
    """Make the export treat each FP8 weight of the source as one that is still in FP8.

    The export calls `unpack_weight` of a linear with a `weight_packed` attribute, after everything that runs
    the model: the weight becomes torch's default dtype there, float32, and its block scales come from that.
    """
    for name, module in model.named_modules():
        if source.is_fp8(f"{name}.weight"):
            module.weight_packed = None  # the export checks that the attribute exists, not its value
            module.unpack_weight = partial(_unpack, module, source, f"{name}.weight")


def _unpack(module: Any, source: Source, name: str) -> None:
    weight = torch.from_numpy(source.unrounded(name)).to(module.weight.device)
    module.weight = torch.nn.Parameter(weight, requires_grad=False)


def export(model: Any, folder: Path) -> None:
    """Write the Hugging Face layout: packed shards, config.json, hf_quant_config.json."""
    from modelopt.torch.export import export_hf_checkpoint

    with torch.no_grad():
        export_hf_checkpoint(model, export_dir=folder)
