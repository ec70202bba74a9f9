"""Each quantized linear by itself: its tensors, their shapes, its scales. Level `structure` begins so."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import BLOCK
from proofcard.progress import Bar
from proofcard.verify import plausible, quantconfig
from proofcard.verify.inventory import SCALES, Inventory
from proofcard.verify.plausible import FULL, BlockScales
from proofcard.verify.report import Finding
from proofcard.verify.schemes import Scheme
from proofcard.verify.steps import Passing, Whole

_E4M3_NAN = 0x7F


@dataclass
class Linear:
    """What was found of one quantized linear, and the largest code of its block scales where all are sane."""

    findings: list[Finding]
    largest: int | None = None


def every(
    inventory: Inventory, said: quantconfig.Said, blocks: dict[str, int], unscaled: bool, passing: Passing
) -> tuple[list[Finding], BlockScales]:
    """Every quantized linear by itself, in natural order, those in FP8 last."""
    tensors = inventory.tensors
    largest = BlockScales(FULL / 6 if said.algorithm == "W4A8_NVFP4_FP8" else FULL)
    eight = set(inventory.fp8)
    modules = [*inventory.quantized, *inventory.fp8]

    def look(module: str) -> Linear:
        scheme, linear = said.scheme(module), Linear([])
        if module in eight:
            linear.findings += _fp8_linear(module, tensors, scheme)
            return linear
        inputs = "none" if unscaled else scheme.inputs if scheme is not None else "scale"
        linear.findings += _linear(module, tensors, linear, blocks.get(module, BLOCK), inputs)
        return linear

    def reads(module: str) -> Iterator[Tensor]:
        names = (f"{module}.{leaf}" for leaf in ("weight", *SCALES))
        return (tensors[name] for name in names if name in tensors)

    steps = passing.steps("structure", modules, reads, str, Whole(Linear))
    found: dict[str, list[Finding]] = {}
    with Bar("structure", len(modules), "quantized linears") as bar:
        for module in steps.ordered:
            linear = steps.run(module, partial(look, module))
            found[module] = linear.findings
            if linear.largest is not None:
                largest.add(module, np.array([linear.largest], np.uint8))
            bar.advance()
    return [finding for module in modules for finding in found[module]], largest


def _linear(
    module: str, tensors: dict[str, Tensor], linear: Linear, block: int, inputs: str
) -> Iterator[Finding]:
    """One quantized linear: its tensors, their shapes, its scales."""
    names = {leaf: f"{module}.{leaf}" for leaf in ("weight", *SCALES)}
    if inputs != "scale" and names["input_scale"] not in tensors:
        del names["input_scale"]
    elif inputs == "none":
        message = "an input scale of a linear whose inputs the configuration leaves as they are"
        yield Finding("extra", message, tensor=names["input_scale"])
    absent = [name for name in names.values() if name not in tensors]
    for name in absent:
        yield Finding("missing", "a quantized linear has it", tensor=name)
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
            yield from _block_scales(tensor, weight, block)
            codes = tensor.raw()
            if codes.size and codes.max() < _E4M3_NAN:
                linear.largest = int(codes.max())


def _fp8_linear(module: str, tensors: dict[str, Tensor], scheme: Scheme | None) -> Iterator[Finding]:
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
                "missing", "a linear in FP8 with calibrated inputs has it", tensor=f"{module}.input_scale"
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


def _block_scales(scale: Tensor, weight: Tensor, block: int) -> Iterator[Finding]:
    """Finite and positive. Zero only where it underflowed: codes are ±6 then, auto-round's 0."""
    codes = scale.raw()
    if not codes.size or (codes.min() > 0 and codes.max() < _E4M3_NAN):
        return
    wrong = codes >= _E4M3_NAN  # NaN, and everything with a sign
    zero = np.flatnonzero(codes == 0)
    packed = weight.raw().reshape(-1, block // 2)[zero]
    wrong[zero[((packed & 0x77) != 0x77).any(axis=1) & packed.any(axis=1)]] = True
    if count := int(wrong.sum()):
        at = int(np.argmax(wrong))
        code = int(codes[at])
        what = (
            "NaN"
            if code & 0x7F == _E4M3_NAN
            else "negative"
            if code
            else "zero, its codes are not all ±6 or 0"
        )
        rows = f"{count} of {codes.size} block scales are not finite and positive"
        yield Finding(
            "mismatched", f"byte {at} is 0x{code:02x} ({what}); {rows}", tensor=scale.name, offset=at,
            found=f"0x{code:02x}",
        )  # fmt: skip


def finite(tensor: Tensor, positive: bool) -> Iterator[Finding]:
    """A scale or bias in float32 or BF16 that is finite, within its bounds and, if asked, above zero."""
    if tensor.dtype not in ("F32", "BF16"):
        yield Finding("mismatched", f"it is {tensor.dtype}, F32 or BF16 was expected", tensor=tensor.name)
        return
    values = plausible.floats(tensor, tensor.raw())
    good = np.isfinite(values) & (values > 0) if positive else np.isfinite(values)
    if not good.all():
        at = int(np.argmin(good))
        message = f"value {at} is {values[at]}; it must be finite{' and above zero' if positive else ''}"
        offset = at * tensor.size // values.size
        yield Finding("mismatched", message, tensor=tensor.name, offset=offset, found=str(values[at]))
    yield from plausible.scale(tensor, values)
