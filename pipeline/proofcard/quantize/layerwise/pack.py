"""Packs the weights of one layer into checkpoint tensors: codes, block scales, `weight_scale_2`."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.errors import Stop
from proofcard.quantize.layerwise.tensors import Tensors, named


def packed(
    weights: dict[str, torch.Tensor],
    linears: list[str],
    groups: list[tuple[str, ...]],
    block_amaxes: Callable[[str], np.ndarray | None],
    threads: int,
) -> Tensors:
    """`weight`, `weight_scale` and `weight_scale_2` of each linear; a group shares its largest max |W|.

    `weights` are BF16 [rows, cols] by full name. If `block_amaxes` returns an array for a linear, float32
    [rows, cols/16], its block scales come from that instead of from the weight.

    Raises:
        Stop: naming a weight that is not BF16, is not finite, or has no valid scale.
    """
    amaxes = nvfp4.shared_amaxes(_amaxes(weights, linears, threads), groups)
    for name in linears:
        scale_2 = named(name, partial(nvfp4.weight_scale_2, amaxes[name]))
        codes, scale = _quantized(name, weights[f"{name}.weight"], scale_2, block_amaxes(name), threads)
        yield f"{name}.weight", codes
        yield f"{name}.weight_scale", scale
        yield f"{name}.weight_scale_2", scale_2


def unrounded_amaxes(source: Source, name: str, threads: int) -> np.ndarray:
    """The largest magnitudes of a linear's FP8 weight before BF16 rounds it, float32 [rows, cols/16]."""
    weight = source.stored(f"{name}.weight").bits()
    scale = source.fp8_scales(f"{name}.weight")
    return nvfp4.block_amaxes_fp8(weight, scale, block=source.block, threads=threads)


def _amaxes(weights: dict[str, torch.Tensor], linears: list[str], threads: int) -> dict[str, float]:
    """max |W| of each linear's weight."""
    selected = {name: weights[f"{name}.weight"] for name in linears}
    for name, weight in selected.items():
        if weight.dtype != torch.bfloat16:
            raise Stop(
                f"{name}.weight is {weight.dtype}: engine=layerwise packs BF16 and FP8 sources; "
                "use engine=modelopt"
            )
    if any(weight.is_cuda for weight in selected.values()):
        from proofcard.nvfp4 import gpu

        return dict(zip(selected, gpu.amaxes(list(selected.values())), strict=True))
    return {
        name: float(named(name, partial(nvfp4.amax, _bits(weight), threads=threads)))
        for name, weight in selected.items()
    }


def _quantized(
    name: str, weight: torch.Tensor, scale_2: np.float32, block_amaxes: np.ndarray | None, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint8 [rows, cols/2] and E4M3 scales uint8 [rows, cols/16], computed on the weight's device."""
    if weight.is_cuda:
        from proofcard.nvfp4 import gpu

        amaxes_on_device = None if block_amaxes is None else torch.from_numpy(block_amaxes).to(weight.device)
        codes, scale = gpu.quantize(weight, scale_2, amaxes_on_device)
        return codes.cpu().numpy(), scale.cpu().numpy()
    pack = partial(nvfp4.quantize, _bits(weight), scale_2, block_amaxes=block_amaxes, threads=threads)
    packed: tuple[np.ndarray, np.ndarray] = named(name, pack)
    return packed


def _bits(weight: torch.Tensor) -> np.ndarray:
    return weight.view(torch.uint16).numpy()
