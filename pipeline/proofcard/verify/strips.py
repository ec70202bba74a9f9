"""Tensors held to the source strip by strip, in memory that a thread uses again.

What a strip should contain is compared while it is in the processor's cache and never written out as a whole.
Memory of its own for every tensor would cost as much as the rest (`memory`).
"""

from collections.abc import Iterator

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint import floats
from proofcard.checkpoint.dialects.following import same_bits
from proofcard.checkpoint.source import SCALE_SUFFIX, Source
from proofcard.checkpoint.tensors import BITS, Tensor
from proofcard.verify.memory import Array, Memory

_STRIP = 1 << 20  # weights at a time
_PIECE = 1 << 20  # bytes at a time of tensors that should be alike
_KEPT = 32 << 20  # bytes of a weight that stays between its amax and its codes; a larger one is read twice

Follows = dict[str, tuple[bool, bool]]
"""By module: whether every byte follows, and whether a block scale of it is zero."""

_memory = Memory()


class _Weight:
    """A weight of the source, as strips of rows."""

    def __init__(self, source: Source, name: str, place: int = 0, again: bool = True) -> None:
        """`place` among the weights in memory at the same time; `again`: its strips are asked for twice.

        Raises:
            ValueError: for a shape, a dtype or scales that do not come in strips.
        """
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
        self._kept = again and tensor.size <= _KEPT
        self._use = f"weight {place}"
        self._whole: Array | None = None

    def strips(self) -> Iterator[tuple[int, int, Array, Array | None]]:
        """First row and last, BF16 bits or FP8 codes, and the scales of FP8. Valid until the next one."""
        row_bytes = self._tensor.size // self.rows
        whole, filled = self._whole, self._whole is not None
        if self._kept and whole is None:
            whole = self._whole = _memory.of(self._use, self._tensor.size)
        for first in range(0, self.rows, self._height):
            last = min(self.rows, first + self._height)
            begin, end = first * row_bytes, last * row_bytes
            raw = whole[begin:end] if whole is not None else _memory.of(self._use, end - begin)
            if not filled:
                self._tensor.fill(raw, begin)
            bits = raw.view(BITS[self._tensor.dtype]).reshape(last - first, self.columns)
            if self._scales is None:
                yield first, last, floats.converted(bits, self._tensor.dtype, "BF16"), None
            else:
                yield first, last, bits, self._scales[first // self.block[0] : -(-last // self.block[0])]

    def amax(self) -> np.float32:
        """max |W| in BF16. Raises ValueError for a weight that is not finite."""
        return max(
            nvfp4.amax(bits) if scales is None else nvfp4.amax_fp8(bits, scales, block=self.block)
            for _, _, bits, scales in self.strips()
        )

    def matches(self, stored: dict[str, Tensor], scale_2: np.float32, float32: bool) -> tuple[bool, bool]:
        """Whether the stored bytes are those of `recompute.quantize`, and a block scale is zero."""
        from proofcard.nvfp4.matching import match, match_fp8  # with numba, which takes a while to import

        zero = False
        for first, last, bits, scales in self.strips():
            packed, scale = (_rows(stored[leaf], leaf, first, last) for leaf in ("weight", "weight_scale"))
            if scales is None:
                found = match(bits, scale_2, packed, scale)
            else:
                found = match_fp8(
                    bits, scales, scale_2, packed, scale, block=self.block, unrounded_scales=float32
                )
            if not found.follows:
                return found
            zero = zero or found.zero
        return True, zero


def follow_max(
    source: Source, group: tuple[str, ...], stored: dict[str, dict[str, Tensor]], float32: bool
) -> Follows:
    """Whether linears follow from a fused group's largest amax; none of those that cannot be decided here.

    `stored` has `weight`, `weight_scale` and `weight_scale_2` by module, of the right dtypes and shapes.
    """
    try:
        weights = {module: _Weight(source, f"{module}.weight", place) for place, module in enumerate(group)}
        scale_2 = nvfp4.weight_scale_2(max(weight.amax() for weight in weights.values()))
        return {
            module: _follows(weights[module], scale_2, tensors, float32) for module, tensors in stored.items()
        }
    except ValueError:  # named where each value's place is known
        return {}


def is_dequantized(source: Source, name: str, stored: Tensor) -> bool:
    """Whether a tensor is the source's FP8 one in BF16; False, too, where it has other scales or shapes."""
    if stored.dtype != "BF16" or stored.shape != source.tensors[name].shape:
        return False
    try:
        weight = _Weight(source, name, again=False)
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


def _follows(
    weight: _Weight, scale_2: np.float32, stored: dict[str, Tensor], float32: bool
) -> tuple[bool, bool]:
    shared = np.frombuffer(stored["weight_scale_2"].raw().tobytes(), "<f4")[0]
    if not same_bits(shared, scale_2):
        return False, False
    return weight.matches(stored, scale_2, float32)


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
