"""NVFP4 on a CUDA device: the same bytes as `proofcard.nvfp4` on a CPU, from tensors on the device.

Every operation is fully determined by IEEE 754 (a division rounded to nearest, comparisons,
integer arithmetic on the bits), in the order of `packing.py`. Triton's own `/` on float32 is an
approximation, so it is not used.
"""

# mypy: disallow-untyped-defs=False

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

BLOCK = 16
_BLOCKS = 256  # of 16 weights, per program
_AT_ONCE = 1 << 24  # weights in float32
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E2M1_VALUES = (*_MAGNITUDES, 0.0, *(-value for value in _MAGNITUDES[1:]))


def amaxes(weights: Sequence[torch.Tensor]) -> list[float]:
    """max |W| of each BF16 tensor, with one synchronization. NaN and infinity are returned unchanged."""
    ends = [torch.stack(torch.aminmax(weight)) for weight in weights]
    return [max(-low, high) for low, high in torch.stack(ends).float().tolist()] if ends else []


def fp8_block_to_bf16(weight: torch.Tensor, scale_inv: torch.Tensor, block: tuple[int, int]) -> torch.Tensor:
    """bf16(float32(weight[r, c]) · scale_inv[r // block[0], c // block[1]]), [rows, cols]."""
    cols = weight.shape[1]
    factor = scale_inv.float().repeat_interleave(block[1], dim=1)[:, :cols]
    each = max(1, _AT_ONCE // (block[0] * cols))  # strips: on a busy GPU, every launch waits
    made = []
    for strip in range(0, len(factor), each):
        tall = factor[strip : strip + each].repeat_interleave(block[0], dim=0)
        some = weight[strip * block[0] : (strip + each) * block[0]]
        made.append((some.float() * tall[: len(some)]).to(torch.bfloat16))
    return made[0] if len(made) == 1 else torch.cat(made)


def quantize(
    weight: torch.Tensor, scale_2: np.float32, block_amaxes: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """BF16 [rows, cols] to packed FP4 uint8 [rows, cols/2] and E4M3 scales uint8 [rows, cols/16].

    As `proofcard.nvfp4.quantize`; every weight was checked to be finite when `scale_2` was computed.
    `block_amaxes` is contiguous float32 [rows, cols/16] on the same device.

    Raises:
        ValueError: when cols is not a multiple of 16.
    """
    rows, cols = weight.shape
    if cols % BLOCK:
        raise ValueError(f"weight has {cols} columns; NVFP4 needs a multiple of {BLOCK}")
    pairs = weight.contiguous().view(torch.int32)
    packed = torch.empty((rows, cols // 2), dtype=torch.uint8, device=weight.device)
    scale = torch.empty((rows, cols // BLOCK), dtype=torch.uint8, device=weight.device)
    count = scale.numel()
    unit = np.float32(6) * np.float32(scale_2)
    _quantize[(triton.cdiv(count, _BLOCKS),)](
        pairs, pairs if block_amaxes is None else block_amaxes, packed, scale,
        float(scale_2), float(unit), count, GIVEN=block_amaxes is not None, BLOCKS=_BLOCKS,
    )  # fmt: skip
    return packed, scale


def dequantize(packed: torch.Tensor, scale: torch.Tensor, scale_2: np.ndarray) -> torch.Tensor:
    """bf16(value(code) · (float32(scale) · scale_2)), [rows, cols], as `proofcard.nvfp4.dequantize`.

    `packed` uint8 [rows, cols/2], `scale` E4M3 codes uint8 [rows, cols/16], `scale_2` one float32.
    """
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    values = torch.tensor(_E2M1_VALUES, device=packed.device)[codes.int()]
    step = scale.view(torch.float8_e4m3fn).float() * torch.tensor(scale_2, device=packed.device)
    return (values.unflatten(-1, (-1, BLOCK)) * step.unsqueeze(-1)).flatten(-2).to(torch.bfloat16)


@triton.jit
def _quantize(pairs, amaxes, packed, scale, scale_2, unit, count, GIVEN: tl.constexpr, BLOCKS: tl.constexpr):
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    at = block[:, None] * 8 + tl.arange(0, 8)[None, :]
    inside = block < count
    pair = tl.load(pairs + at, mask=inside[:, None], other=0)
    even = (pair << 16).to(tl.float32, bitcast=True)
    odd = (pair & -65536).to(tl.float32, bitcast=True)
    if GIVEN:
        amax = tl.load(amaxes + block, mask=inside, other=0.0)
    else:
        amax = tl.max(tl.maximum(tl.abs(even), tl.abs(odd)), axis=1)
    wanted = tl.div_rn(amax, tl.zeros_like(amax) + unit)
    code = _e4m3_code(tl.where(wanted == 0.0, 1.0, wanted))
    tl.store(scale + block, code.to(tl.uint8), mask=inside)
    step = tl.broadcast_to((_e4m3_value(code) * scale_2)[:, None], (BLOCKS, 8))
    low, high = _e2m1_code(tl.div_rn(even, step)), _e2m1_code(tl.div_rn(odd, step))
    tl.store(packed + at, (low | (high << 4)).to(tl.uint8), mask=inside[:, None])


@triton.jit
def _e4m3_code(value):
    """Nearest E4M3 code of a value ≥ 0, ties to even; above 448 saturates."""
    value = tl.minimum(value, 448.0)
    bits = value.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3)
    # In [2^14, 2^15) float32 counts in steps of 2^-9, the E4M3 subnormals' own: the sum rounds for us.
    subnormal = (value + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
    return tl.where(value < 0.015625, subnormal, normal)


@triton.jit
def _e4m3_value(code):
    """The value of a code ≥ 0 below NaN."""
    normal = ((code << 20) + (120 << 23)).to(tl.float32, bitcast=True)
    return tl.where(code < 8, code.to(tl.float32) * 0.001953125, normal)


@triton.jit
def _e2m1_code(y):
    """Nearest of 0 .5 1 1.5 2 3 4 6, ties to the even code, sign in bit 3.

    Comparisons are negated so that NaN, 0/0 in a block whose scale underflowed, passes all and gives 7.
    """
    size = tl.abs(y)
    code = 7 - (size <= 0.25).to(tl.int32) - (size < 0.75).to(tl.int32) - (size <= 1.25).to(tl.int32)
    code -= (size < 1.75).to(tl.int32) + (size <= 2.5).to(tl.int32) + (size < 3.5).to(tl.int32)
    code -= (size <= 5.0).to(tl.int32)
    return code | ((y < 0).to(tl.int32) << 3)
