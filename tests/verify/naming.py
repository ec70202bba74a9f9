"""Tensors by name, dtype and shape alone: what decides without a byte being read."""

from math import prod
from pathlib import Path

from proofcard.checkpoint.tensors import Tensor

SIZES = {"BF16": 2, "F32": 4, "U8": 1, "F8_E4M3": 1, "I64": 8}


def tensor(name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, Path("model.safetensors"), dtype, shape, 0, prod(shape) * SIZES[dtype])


def linear(module: str, rows: int = 32, columns: int = 32) -> dict[str, Tensor]:
    """A linear as ModelOpt packs it."""
    made = (
        tensor(f"{module}.weight", "U8", (rows, columns // 2)),
        tensor(f"{module}.weight_scale", "F8_E4M3", (rows, columns // 16)),
        tensor(f"{module}.weight_scale_2", "F32", ()),
        tensor(f"{module}.input_scale", "F32", ()),
    )
    return {each.name: each for each in made}


def plain(name: str, *shape: int, dtype: str = "BF16") -> dict[str, Tensor]:
    return {name: tensor(name, dtype, shape)}
