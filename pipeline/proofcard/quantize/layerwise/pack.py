"""One layer's weights and statistics to the tensors of the checkpoint."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from proofcard import nvfp4
from proofcard.errors import Stop

Tensors = Iterator[tuple[str, np.ndarray]]


def shared_amaxes(amax: dict[str, float], groups: list[tuple[str, ...]]) -> dict[str, float]:
    """Every member of a group takes the group's largest value."""
    shared = dict(amax)
    for names in groups:
        largest = max(shared[name] for name in names)
        shared |= dict.fromkeys(names, largest)
    return shared


def weight_amaxes(weights: dict[str, torch.Tensor], linears: Iterable[str], threads: int) -> dict[str, float]:
    """max |W| of each linear's weight.

    Raises:
        Stop: naming a weight that is not BF16 or not finite.
    """
    chosen = {name: weights[f"{name}.weight"] for name in linears}
    for name, weight in chosen.items():
        if weight.dtype != torch.bfloat16:
            raise Stop(
                f"{name}.weight is {weight.dtype}: engine=layerwise packs BF16 and FP8 sources, take modelopt"
            )
    if any(weight.is_cuda for weight in chosen.values()):
        from proofcard.nvfp4 import gpu

        return dict(zip(chosen, gpu.amaxes(list(chosen.values())), strict=True))
    return {
        name: float(_named(name, partial(nvfp4.amax, _bits(weight), threads=threads)))
        for name, weight in chosen.items()
    }


def packed(
    name: str,
    weight: torch.Tensor,
    weight_amax: float,
    input_amax: float,
    threads: int,
    block_amaxes: np.ndarray | None = None,
) -> Tensors:
    """The four tensors of a linear. Raises Stop, naming it, when an amax gives no scale.

    `block_amaxes`, float32 [rows, cols/16], decide the block scales instead of the weight's own.
    """
    scale_2 = _named(name, lambda: nvfp4.weight_scale_2(weight_amax))
    if weight.is_cuda:
        from proofcard.nvfp4 import gpu

        given = None if block_amaxes is None else torch.from_numpy(block_amaxes).to(weight.device)
        codes, scale = (made.cpu().numpy() for made in gpu.quantize(weight, scale_2, given))
    else:
        pack = partial(nvfp4.quantize, block_amaxes=block_amaxes, threads=threads)
        codes, scale = _named(name, lambda: pack(_bits(weight), scale_2))
    yield f"{name}.weight", codes
    yield f"{name}.weight_scale", scale
    yield f"{name}.weight_scale_2", scale_2
    yield f"{name}.input_scale", _named(name, lambda: nvfp4.input_scale(input_amax))


def kv(attention: str, amaxes: tuple[float, float], biases: dict[str, torch.Tensor]) -> Tensors:
    """Scales of keys and values, and their affine biases when there are any."""
    for kind, amax in zip(("k", "v"), amaxes, strict=True):
        scale = _named(attention, partial(nvfp4.kv_scale, amax))
        yield f"{attention}.{kind}_proj.{kind}_scale", scale
        if kind in biases:
            yield f"{attention}.{kind}_proj.{kind}_bias", raw(biases[kind])


def raw(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's bytes, from any device, one dimension."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _bits(weight: torch.Tensor) -> np.ndarray:
    return weight.view(torch.uint16).numpy()


def _named(name: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ValueError as error:
        raise Stop(f"{name}: {error}") from None
