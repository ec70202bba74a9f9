"""Adding up the experts' weighted outputs of every token in one kernel, rounded as PyTorch rounds them."""

# mypy: disallow-untyped-defs=False

import torch
import triton
import triton.language as tl

_COLUMNS = 1024


def add(total: torch.Tensor, outputs: torch.Tensor, place: torch.Tensor, weights: torch.Tensor) -> None:
    """For each slot in turn, total += (outputs[place[:, slot]] · weights[:, slot, None]).to(total.dtype).

    `total` [tokens, width] BF16 or float32 and `outputs` BF16 [rows, width], both contiguous; `place` int64
    and `weights` BF16 or float32 [tokens, slots]. A product is rounded to BF16 where both factors are BF16.
    """
    tokens, slots = place.shape
    width = total.shape[1]
    _add[(tokens, triton.cdiv(width, _COLUMNS))](
        total, outputs, place.contiguous(), weights.contiguous(), width,
        SLOTS=slots, COLUMNS=_COLUMNS, enable_fp_fusion=False,
    )  # fmt: skip


@triton.jit
def _add(total, outputs, place, weights, width, SLOTS: tl.constexpr, COLUMNS: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    at = total + token * width + column
    kept = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    for slot in tl.static_range(SLOTS):
        row = tl.load(place + token * SLOTS + slot)
        weight = tl.load(weights + token * SLOTS + slot)
        output = tl.load(outputs + row * width + column, mask=inside, other=0.0)
        part = _rounded(output.to(tl.float32) * weight.to(tl.float32), weight.dtype)
        kept = _rounded(kept + _rounded(part, total.dtype.element_ty), total.dtype.element_ty)
    tl.store(at, kept.to(total.dtype.element_ty), mask=inside)


@triton.jit
def _rounded(value, dtype: tl.constexpr):
    """Float32 `value` as `dtype` has it: rounded to the nearest BF16, ties to even, or as it is."""
    if dtype == tl.bfloat16:
        bits = value.to(tl.int32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        value = tl.where(value == value, nearest.to(tl.float32, bitcast=True), value)
    return value
