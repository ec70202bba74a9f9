"""Two checkpoints' tensors held against each other, one at a time: which bytes differ, and how far."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proofcard.checkpoint.roles import role
from proofcard.checkpoint.tensors import BITS, Tensor
from proofcard.documents.comparison import Ratio
from proofcard.nvfp4.bits import bf16_to_f32, e4m3_to_f32, f32_to_bf16

Sha256s = dict[str, str]
_ORDERED: dict[str, Any] = {"F32": np.int32, "BF16": np.int16, "F16": np.int16, "F8_E4M3": np.int8}
_WIDE = {"F32": lambda bits: bits, "BF16": bf16_to_f32, "F8_E4M3": e4m3_to_f32}


@dataclass
class Group:
    """The tensors of one role, and of one dtype on either side ("" where that side has none).

    `bytes_differ` counts bytes of equal dtype and shape; `steps` is the largest distance in units of the last
    place; `ratios` are b / a of single-valued tensors; `rounded` counts F32 and BF16 pairs that agree after
    rounding to BF16.
    """

    tensors: int = 0
    differ: int = 0
    bytes_a: int = 0
    bytes_b: int = 0
    bytes_differ: int = 0
    steps: int = 0
    rounded: int = 0
    ratios: list[float] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        """The fields of a `TensorGroup`."""
        counts: dict[str, Any] = {name: value for name, value in vars(self).items() if name != "ratios"}
        if self.ratios:
            low, middle, high = np.quantile(self.ratios, (0, 0.5, 1)).tolist()
            counts["ratio"] = Ratio(smallest=low, median=middle, largest=high)
        return counts


def held(
    a: dict[str, Tensor], b: dict[str, Tensor], read: tuple[Sha256s, Sha256s]
) -> dict[tuple[str, str, str], Group]:
    """Groups by role, dtype in `a` and dtype in `b`. Where the sha256 of the bytes `read` differ, how far.

    `read` are digests of what the two folders hold now, never those of a manifest.
    """
    groups: dict[tuple[str, str, str], Group] = {}
    for name in sorted(a.keys() | b.keys()):
        one, other = a.get(name), b.get(name)
        key = (role(name), one.dtype if one else "", other.dtype if other else "")
        group = groups.setdefault(key, Group())
        group.tensors += 1
        group.bytes_a += one.size if one else 0
        group.bytes_b += other.size if other else 0
        if one is None or other is None:
            group.differ += 1
        elif (one.dtype, one.shape, read[0][name]) != (other.dtype, other.shape, read[1][name]):
            _compare(one, other, group)
    return groups


def _compare(a: Tensor, b: Tensor, group: Group) -> None:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        group.differ += 1
        if a.shape == b.shape and {a.dtype, b.dtype} == {"F32", "BF16"}:
            group.rounded += all(np.array_equal(x, y) for x, y in zip(_bf16(a), _bf16(b), strict=True))
        return
    before = group.bytes_differ
    for x, y in zip(a.pieces(), b.pieces(), strict=True):
        group.bytes_differ += int(np.count_nonzero(x != y))
    if group.bytes_differ == before:
        return
    group.differ += 1
    if a.dtype in _ORDERED:
        for x, y in zip(_pieces(a.bits().reshape(-1)), _pieces(b.bits().reshape(-1)), strict=True):
            group.steps = max(group.steps, int(np.abs(_ordered(x, a.dtype) - _ordered(y, a.dtype)).max()))
    if a.size <= 4 and a.dtype in _WIDE:
        group.ratios.append(float(_wide(b) / _wide(a)))


def _pieces(values: np.ndarray, size: int = 1 << 22) -> Iterator[np.ndarray]:
    for first in range(0, len(values), size):
        yield values[first : first + size]


def _ordered(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Bits of a sign-magnitude number as int64 that count up with its value."""
    kind = _ORDERED[dtype]
    signed = np.ascontiguousarray(bits).view(kind).astype(np.int64)
    return np.where(signed < 0, int(np.iinfo(kind).min) - signed, signed)


def _bf16(tensor: Tensor) -> Iterator[np.ndarray]:
    for content in tensor.pieces():
        piece = content.view(BITS[tensor.dtype])
        yield piece if tensor.dtype == "BF16" else f32_to_bf16(np.ascontiguousarray(piece))


def _wide(tensor: Tensor) -> np.ndarray:
    return np.asarray(_WIDE[tensor.dtype](np.array(tensor.bits())), np.float64).reshape(())
