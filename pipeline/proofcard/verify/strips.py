"""Tensors held to the source strip by strip, in memory that a thread uses again.

What a strip should contain is compared while it is in the processor's cache and never written out as a whole.
Memory of its own for every tensor would cost as much as the rest (`memory`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint import floats
from proofcard.checkpoint.dialects.following import same_bits
from proofcard.checkpoint.source import SCALE_SUFFIX, Source
from proofcard.checkpoint.tensors import BITS, Tensor
from proofcard.verify.memory import Array, Memory

if TYPE_CHECKING:
    from proofcard.nvfp4.matching import Match

_STRIP = 1 << 21  # weights at a time: threads meet at the interpreter between them
_PIECE = 1 << 20  # bytes at a time of tensors that should be alike

Follows = dict[str, tuple[bool, bool]]
"""By module: whether every byte follows, and whether a block scale of it is zero."""

_memory = Memory()


class _Weight:
    """A weight of the source, as strips of rows."""

    def __init__(self, source: Source, name: str) -> None:
        """Raises ValueError for a shape, a dtype or scales that do not come in strips."""
        self._tensor = tensor = source.tensors[name]
        fp8, self.block = tensor.dtype == "F8_E4M3", source.block
        if len(tensor.shape) != 2 or not tensor.size or not (fp8 or floats.is_float(tensor.dtype)):
            raise ValueError(f"{name} has no strips")
        self.rows, self.columns = tensor.shape
        self._scales: Array | None = None
        if fp8:
            if (scales := source.tensors.get(name + SCALE_SUFFIX)) is None:
                raise ValueError(f"{name} has no scales")
            self._scales = floats.converted(scales.bits(), scales.dtype, "F32")
            grid = [-(-size // side) for size, side in zip(tensor.shape, self.block, strict=True)]
            if list(self._scales.shape) != grid:
                raise ValueError(f"{name} has other scales")
        unit = self.block[0] if fp8 else 1
        self._height = unit * max(1, _STRIP // (self.columns * unit))

    def strips(self) -> Iterator[tuple[int, int, Array, Array | None]]:
        """First row and last, BF16 bits or FP8 codes, and the scales of FP8. Valid until the next one."""
        row_bytes = self._tensor.size // self.rows
        for first in range(0, self.rows, self._height):
            last = min(self.rows, first + self._height)
            raw = self._tensor.fill(_memory.of("source", (last - first) * row_bytes), first * row_bytes)
            bits = raw.view(BITS[self._tensor.dtype]).reshape(last - first, self.columns)
            if self._scales is None:
                yield first, last, floats.converted(bits, self._tensor.dtype, "BF16"), None
            else:
                yield first, last, bits, self._scales[first // self.block[0] : -(-last // self.block[0])]

    def amax(self) -> np.float32:
        """max |W| in BF16. Raises ValueError for a weight that is not finite."""
        return max(self._amax(bits, scales) for _, _, bits, scales in self.strips())

    def match(self, stored: dict[str, Tensor], scale_2: np.float32, float32: bool) -> "Match":
        """Hold the stored codes and block scales to those of `recompute.quantize`, and find the amax.

        The amax counts whatever the outcome is. Raises as `amax`.
        """
        from proofcard.nvfp4.matching import Match, match, match_fp8  # numba takes a while to import

        follows, zero, amax = True, False, np.float32(0)
        for first, last, bits, scales in self.strips():
            found = None
            if follows:
                packed, scale = (
                    _rows(stored[leaf], leaf, first, last) for leaf in ("weight", "weight_scale")
                )
                if scales is None:
                    found = match(bits, scale_2, packed, scale)
                else:
                    found = match_fp8(
                        bits, scales, scale_2, packed, scale, block=self.block, unrounded_scales=float32
                    )
                follows, zero = found.follows, zero or found.zero
            amax = max(amax, found.amax if found is not None and follows else self._amax(bits, scales))
        return Match(follows, zero, amax)

    def _amax(self, bits: Array, scales: Array | None) -> np.float32:
        return nvfp4.amax(bits) if scales is None else nvfp4.amax_fp8(bits, scales, block=self.block)


def follow_max(
    source: Source, group: tuple[str, ...], stored: dict[str, dict[str, Tensor]], float32: bool
) -> Follows:
    """Whether linears follow from a fused group's largest amax; none of those that cannot be decided here.

    `stored` has `weight`, `weight_scale` and `weight_scale_2` by module, of the right dtypes and shapes. The
    source is read once: codes and block scales are held to the stored `weight_scale_2`, and that to the amax.
    """
    amaxes, found, shared = [], {}, {}
    try:
        for module in group:
            weight, tensors = _Weight(source, f"{module}.weight"), stored.get(module)
            if tensors is None:
                amaxes.append(weight.amax())
                continue
            shared[module] = np.frombuffer(tensors["weight_scale_2"].raw().tobytes(), "<f4")[0]
            if not (np.isfinite(shared[module]) and shared[module] > 0):
                return {}
            found[module] = weight.match(tensors, shared[module], float32)
            amaxes.append(found[module].amax)
        scale_2 = nvfp4.weight_scale_2(max(amaxes))
    except ValueError:  # named where each value's place is known
        return {}
    return {
        module: (each.follows and same_bits(shared[module], scale_2), each.zero)
        for module, each in found.items()
    }


def is_dequantized(source: Source, name: str, stored: Tensor) -> bool:
    """Whether a tensor is the source's FP8 one in BF16; False, too, where it has other scales or shapes."""
    if stored.dtype != "BF16" or stored.shape != source.tensors[name].shape:
        return False
    try:
        weight = _Weight(source, name)
    except ValueError:
        return False
    return all(
        _holds(stored, first, nvfp4.fp8_block_to_bf16(bits, scales, block=weight.block).view(np.uint8))
        for first, _, bits, scales in weight.strips()
        if scales is not None
    )


def same_bytes(stored: Tensor, origin: Tensor) -> bool:
    """Whether two tensors are alike to the last byte."""
    if (stored.dtype, stored.shape) != (origin.dtype, origin.shape):
        return False
    for first in range(0, stored.size, _PIECE):
        size = min(_PIECE, stored.size - first)
        found = stored.fill(_memory.of("stored", size), first)
        if not equal(found, origin.fill(_memory.of("origin", size), first)):
            return False
    return True


def _rows(tensor: Tensor, use: str, first: int, last: int) -> Array:
    """Rows of a stored tensor of bytes."""
    width = tensor.shape[1]
    return tensor.fill(_memory.of(use, (last - first) * width), first * width).reshape(last - first, width)


def _holds(tensor: Tensor, row: int, wanted: Array) -> bool:
    """Whether the rows of a stored tensor from `row` on are these."""
    found = tensor.fill(_memory.of("stored", wanted.size), row * wanted.shape[1])
    return equal(found, wanted.reshape(-1))


def equal(one: Array, other: Array) -> bool:
    """Whether two contiguous arrays of bytes are the same, eight bytes at a time."""
    if one.size != other.size:
        return False
    words = one.size // 8 * 8
    return np.array_equal(one[:words].view("<u8"), other[:words].view("<u8")) and np.array_equal(
        one[words:], other[words:]
    )
