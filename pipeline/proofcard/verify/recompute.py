"""What a checkpoint should hold, computed from the source: thin over `proofcard.nvfp4`."""

from collections.abc import Callable

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint import floats
from proofcard.checkpoint.source import SCALE_SUFFIX, Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.documents.manifest import Manifest

_WINDOW = 1 << 22  # weights recomputed at a time in numpy

Packed = dict[str, np.ndarray]
"""`weight`, `weight_scale` and `weight_scale_2` of one linear, raw bits, the last a float32 scalar."""


Bits = tuple[np.ndarray, np.ndarray | None]
"""A weight of the source, and its scale_inv if it is in FP8."""

Reader = Callable[[Source, str], Bits]
"""`operands`, or one that remembers."""

_KEPT = 32 << 20  # bytes of a weight that is kept between its amax and its packing


def amax(source: Source, module: str, read: Reader | None = None) -> np.float32:
    """max |W| of the weight in BF16. Raises ValueError for a dtype that the formulas do not cover."""
    weight, scale_inv = (read or operands)(source, module)
    if scale_inv is None:
        return nvfp4.amax(weight)
    return nvfp4.amax_fp8(weight, scale_inv, block=source.block)


def group_scale_2(source: Source, group: tuple[str, ...], read: Reader | None = None) -> np.float32:
    """weight_scale_2 of linears that share one. Raises ValueError as `amax` does."""
    return nvfp4.weight_scale_2(max(amax(source, module, read) for module in group))


def quantize(
    source: Source, module: str, scale_2: np.float32, float32: bool = False, read: Reader | None = None
) -> Packed:
    """What the checkpoint should hold of one linear; `float32`: with dequantize_to=float32."""
    weight, scale_inv = (read or operands)(source, module)
    if scale_inv is None:
        packed, scale = nvfp4.quantize(weight, scale_2)
    else:
        packed, scale = nvfp4.quantize_fp8(
            weight, scale_inv, scale_2, block=source.block, unrounded_scales=float32
        )
    return {"weight": packed, "weight_scale": scale, "weight_scale_2": np.array(scale_2)}


def follows(source: Source, module: str, tensors: dict[str, Tensor]) -> bool:
    """Whether every code of a linear is the nearest to its weight under the scales as they are stored."""
    stored = [tensors.get(f"{module}.{leaf}") for leaf in ("weight", "weight_scale", "weight_scale_2")]
    packed, scale, scale_2 = stored
    weight, scale_inv = operands(source, module)
    if packed is None or scale is None or scale_2 is None or scale_2.dtype != "F32" or scale_2.size != 4:
        return False
    rows, columns = weight.shape
    if packed.dtype != "U8" or packed.shape != (rows, columns // 2) or scale.dtype != "F8_E4M3":
        return False
    if columns % nvfp4.BLOCK or scale.shape != (rows, columns // nvfp4.BLOCK):
        return False
    bits = weight if scale_inv is None else source.bits(f"{module}.weight")
    shared = np.frombuffer(scale_2.raw().tobytes(), "<f4")[0]
    height = max(1, _WINDOW // columns)
    for first in range(0, rows, height):
        part = slice(first, first + height)
        step = np.repeat(nvfp4.e4m3_to_f32(scale.bits()[part]) * shared, nvfp4.BLOCK, axis=1)
        if not np.array_equal(codes(nvfp4.bf16_to_f32(bits[part]), step), packed.bits()[part]):
            return False
    return True


def codes(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Packed E2M1 codes of float32 values, each divided by its step; plain numpy."""
    with np.errstate(all="ignore"):
        y = values / step
    size = np.abs(y)
    code = np.searchsorted(np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5], np.float32), size).astype(np.uint8)
    code += np.isin(size, np.array([0.75, 1.75, 3.5], np.float32))
    code |= (y < 0).astype(np.uint8) << 3
    return code[:, 1::2] << 4 | code[:, ::2]


def plain(
    source: Source, name: str, float32: bool = False, stored: str | None = None
) -> tuple[np.ndarray, str]:
    """Bits and dtype that the checkpoint should hold of a weight that is not quantized.

    `stored` is the dtype that it has in the checkpoint: a source in F16 or F32 may have been rounded to BF16.
    """
    if float32 and source.is_fp8(name):
        return source.unrounded(name), "F32"
    if stored == "BF16" and source.dtype(name) in ("F16", "F32", "F64"):
        return floats.converted(source.bits(name), source.dtype(name), "BF16"), "BF16"
    return source.bits(name), source.dtype(name)


def dequantized_to_float32(source: Source, tensors: dict[str, Tensor], sealed: Manifest | None) -> bool:
    """Whether FP8 weights went through float32: the manifest says so or, without one, the tensors do.

    Those that are not packed are F32 then, and hold what BF16 could not.
    """
    try:
        if sealed is not None:
            return bool(sealed.config["quantization"]["dequantize_to"] == "float32")
    except (KeyError, TypeError):
        pass
    kept = [tensor for name, tensor in tensors.items() if source.is_fp8(name) and tensor.dtype != "U8"]
    if not kept or any(tensor.dtype != "F32" for tensor in kept):
        return False
    return any(bool((tensor.bits().view(np.uint32) & 0xFFFF).any()) for tensor in kept)


def remembering() -> Reader:
    """`operands` that reads a weight once where it is asked for twice, unless it is large."""
    kept: dict[str, Bits] = {}

    def read(source: Source, module: str) -> Bits:
        if module in kept:
            return kept.pop(module)
        bits = operands(source, module)
        if bits[0].nbytes <= _KEPT:
            kept[module] = bits
        return bits

    return read


def operands(source: Source, module: str) -> Bits:
    """A weight in BF16 and None, or an FP8 weight and its scale_inv in float32."""
    tensor = source.tensors[f"{module}.weight"]
    if tensor.dtype == "F8_E4M3":
        scale = source.tensors.get(tensor.name + SCALE_SUFFIX)
        if scale is None:
            raise ValueError(f"the source has it in FP8 without weight{SCALE_SUFFIX}")
        return tensor.bits(), floats.converted(scale.bits(), scale.dtype, "F32")
    if not floats.is_float(tensor.dtype):
        raise ValueError(f"the source has it in {tensor.dtype}; NVFP4 is recomputed from floats only")
    return floats.converted(tensor.bits(), tensor.dtype, "BF16"), None
