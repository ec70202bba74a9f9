"""Single linears of the structure level: their tensors, shapes and scales, in NVFP4 and in FP8."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from proofcard.checkpoint.dialects.layouts import COMPRESSED, Layout
from proofcard.checkpoint.tensors import Tensor
from proofcard.verify import plausible
from proofcard.verify.inventory import SCALES
from proofcard.verify.report import Finding
from proofcard.verify.schemes import Scheme

_E4M3_NAN = 0x7F


class Scales(Protocol):
    """Receives the block scales of each linear whose block scales are all valid."""

    def add(self, module: str, codes: np.ndarray) -> None:
        """Codes of one linear, all of them finite and not negative."""


def linear(
    module: str, tensors: dict[str, Tensor], largest: Scales, block: int, inputs: str, layout: Layout
) -> Iterator[Finding]:
    """One quantized linear: its tensors, their shapes, its scales.

    `inputs`: "scale" where it has to have an input scale, "none" where it must not, else "any".
    """
    names = {leaf: f"{module}.{leaf}" for leaf in ("weight", *SCALES)}
    if inputs != "scale" and names["input_scale"] not in tensors:
        del names["input_scale"]
    elif inputs == "none":
        message = "an input scale, but the configuration does not quantize the inputs of this linear"
        yield Finding("extra", message, tensor=names["input_scale"])
    absent = [name for name in names.values() if name not in tensors]
    for name in absent:
        yield Finding("missing", "a quantized linear needs it", tensor=name)
    weight = tensors.get(names["weight"])
    rows, half = weight.shape if weight is not None and len(weight.shape) == 2 else (0, 0)
    if weight is not None and (weight.dtype != "U8" or not rows or 2 * half % block):
        message = (
            f"packed weights are U8 in rows of whole blocks; this is {weight.dtype} {list(weight.shape)}"
        )
        yield Finding("mismatched", message, tensor=weight.name)
    for leaf, dtype in SCALES.items():
        if (tensor := tensors.get(names.get(leaf, ""))) is None:
            continue
        wanted = (rows, 2 * half // block) if leaf == "weight_scale" else ()
        if tensor.dtype != dtype or (weight is not None and _squeezed(tensor.shape, wanted) != wanted):
            message = f"it is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(wanted)}"
            yield Finding("mismatched", message, tensor=tensor.name)
        elif leaf != "weight_scale":
            yield from finite(tensor, positive=True)
        elif weight is not None and weight.dtype == "U8" and 2 * weight.size == block * tensor.size:
            codes = tensor.raw()
            yield from _block_scales(tensor, codes, weight, block, layout is COMPRESSED)
            if codes.size and codes.max() < _E4M3_NAN:
                largest.add(module, codes)


def fp8_linear(module: str, tensors: dict[str, Tensor], scheme: Scheme | None) -> Iterator[Finding]:
    """One linear in FP8: its scale for the tensor or for each row, and that of its inputs."""
    weight, scale = tensors[f"{module}.weight"], tensors[f"{module}.weight_scale"]
    rows = weight.shape[0]
    if scale.shape not in ((), (1,), (rows,), (rows, 1)):
        message = f"it is {list(scale.shape)}; an FP8 linear of {rows} rows has one scale, or one a row"
        yield Finding("mismatched", message, tensor=scale.name)
    else:
        yield from finite(scale, positive=True)
    codes = weight.raw()
    if codes.size and (wrong := (codes & 0x7F) == _E4M3_NAN).any():
        at = int(np.argmax(wrong))
        message = f"byte {at} is 0x{int(codes[at]):02x} (NaN), one of {int(wrong.sum())}"
        yield Finding("mismatched", message, tensor=weight.name, offset=at, found=f"0x{int(codes[at]):02x}")
    inputs = tensors.get(f"{module}.input_scale")
    if inputs is None:
        if scheme is not None and scheme.inputs == "scale":
            yield Finding(
                "missing", "an FP8 linear with calibrated inputs needs it", tensor=f"{module}.input_scale"
            )
    elif inputs.shape not in ((), (1,)):
        yield Finding(
            "mismatched", f"its shape is {list(inputs.shape)}; a scale is one number", tensor=inputs.name
        )
    else:
        yield from finite(inputs, positive=True)


def _squeezed(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Some publishers write a scalar as [1]; engines take both."""
    return () if wanted == () and shape == (1,) else shape


def _block_scales(
    scale: Tensor, codes: np.ndarray, weight: Tensor, block: int, zeros: bool
) -> Iterator[Finding]:
    """Finite and positive. Zero only where it underflowed: then all codes are ±6, or 0 with `zeros`.

    `codes` are the bytes of `scale`.
    """
    if not codes.size or (codes.min() > 0 and codes.max() < _E4M3_NAN):
        return
    wrong = codes >= _E4M3_NAN  # NaN, and everything with a sign
    zero = np.flatnonzero(codes == 0)
    packed = weight.raw().reshape(-1, block // 2)[zero]
    wrong[zero[((packed & 0x77) != 0x77).any(axis=1) & (packed.any(axis=1) | (not zeros))]] = True
    if count := int(wrong.sum()):
        at = int(np.argmax(wrong))
        code = int(codes[at])
        what = (
            "NaN"
            if code & 0x7F == _E4M3_NAN
            else "negative"
            if code
            else "zero, but its codes are not all ±6"
        )
        rows = f"{count} of {codes.size} block scales are not finite and positive"
        yield Finding(
            "mismatched", f"byte {at} is 0x{code:02x} ({what}); {rows}", tensor=scale.name, offset=at,
            found=f"0x{code:02x}",
        )  # fmt: skip


def finite(tensor: Tensor, positive: bool) -> Iterator[Finding]:
    """Every value of a scale or bias is finite, and above zero where it has to be; plausible besides."""
    if tensor.dtype not in ("F32", "BF16"):
        yield Finding("mismatched", f"it is {tensor.dtype}, not F32 or BF16", tensor=tensor.name)
        return
    values = plausible.floats(tensor, tensor.raw())
    good = np.isfinite(values) & (values > 0) if positive else np.isfinite(values)
    if not good.all():
        at = int(np.argmin(good))
        message = f"value {at} is {values[at]}; it must be finite{' and above zero' if positive else ''}"
        offset = at * tensor.size // values.size
        yield Finding("mismatched", message, tensor=tensor.name, offset=offset, found=str(values[at]))
    yield from plausible.scale(tensor, values)
