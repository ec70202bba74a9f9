"""Checks whether a source and a recipe work together, before any work and without reading a weight.

The whole model is built without weights and compared with the source's tensors. ModelOpt then inserts its
quantizers into one layer of each kind; the others behave the same way.
"""

import io
import json
from contextlib import redirect_stdout
from typing import Any

from proofcard.checkpoint import carried
from proofcard.checkpoint.source import Source
from proofcard.config.schema import QuantizeConfig
from proofcard.errors import Stop
from proofcard.toolchain import Toolchain, activate


def check(config: QuantizeConfig, source: Source, tools: Toolchain) -> tuple[str, ...]:
    """Names of the source's MTP tensors, which go into the checkpoint although the model does not have them.

    Raises:
        Stop: naming the file, key, tensor or module with which the run would fail, or run another model.
    """
    check_files(source)
    activate(tools)
    from proofcard.quantize import fit
    from proofcard.quantize.model import skeleton

    with redirect_stdout(io.StringIO()):
        model = skeleton(source, config.model)
        names = tuple(fit.mtp_tensors(source, model))
        _check_quantizers(config, source, model)
    return names


def check_files(source: Source) -> None:
    """Check that the settings copied into the checkpoint are JSON, and that none changes the model.

    Raises:
        Stop: naming the file.
    """
    files = [path for path in carried.files_of(source.path) if path.suffix == ".json"]
    for path in sorted(files):
        if path.name == "adapter_config.json":
            raise Stop(f"{path}: this adapter beside the model would change it: merge it or move it away")
        if not carried.is_carried(path.name):
            continue
        try:
            json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise Stop(f"{path} is not valid JSON ({error}): no engine could read it") from None


def _check_quantizers(config: QuantizeConfig, source: Source, model: Any) -> None:
    import torch

    from proofcard.quantize import dry_run, quantizers
    from proofcard.quantize.layerwise.structure import Structure

    layers = getattr(model.get_decoder(), "layers", None)
    dry_run.check(model, str(source.path / "config.json"))
    if isinstance(layers, torch.nn.ModuleList):
        distinct = {id(layer) for layer in dry_run.one_of_each_kind(layers)}
        for index, layer in enumerate(layers):
            if id(layer) not in distinct:
                layers[index] = torch.nn.Module()
    layerwise = config.engine.name == "layerwise"
    quantized = (
        Structure(source, config, model).model if layerwise else quantizers.with_quantizers(model, config)
    )
    modules = dict(quantized.named_modules())
    linears = {name: module for name, module in modules.items() if _is_linear(module)}
    selected = [name for name, module in linears.items() if module.weight_quantizer.is_enabled]
    quantizers.check_selected(selected)
    attentions = [name for name, module in modules.items() if _quantizes_keys(module)]
    quantizers.check_reached(linears, selected, attentions, config.kv_cache.format)
    for name in selected:
        quantizers.check_width(name, linears[name].weight.shape[1])


def _quantizes_keys(module: Any) -> bool:
    quantizer = getattr(module, "k_bmm_quantizer", None)
    return quantizer is not None and quantizer.is_enabled


def _is_linear(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return hasattr(module, "weight_quantizer") and weight is not None and weight.ndim == 2
