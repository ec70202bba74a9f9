"""What low-precision kernels do to activations and to the KV cache, as values in the model's own dtype.

NVFP4 activations, a block of 16 along the last dimension, with the linear's stored `input_scale` s:

    scale = e4m3(min(448, max|x| / (6·s))), 1 before rounding where the block is zero
    x'    = e2m1(x / (scale·s)) · scale·s

in float32, E2M1 to the nearest, ties to even, saturating at 6. A value beyond what calibration saw
saturates, as Blackwell's kernels do it; ModelOpt's `NVFP4QTensor.quantize` is the same where nothing
saturates.

compressed-tensors stores the second-level scale of inputs as a divisor g = 2688 / amax, and computes

    scale = e4m3(min(448, g · bf16(max|x| / 6))), 0.125 where that is zero
    x'    = e2m1(x / (scale/g)) · (scale/g)

FP8 keys and values with scale s: x' = e4m3(clamp(x / s, ±448)) · s. ModelOpt multiplies with 448/amax
instead of dividing by amax/448, which moves a value that lies next to the middle between two E4M3
numbers.
"""

import torch

BLOCK = 16
_E4M3_MAX, _E4M3_EPSILON = 448.0, 0.125


def nvfp4(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`values` [..., multiple of 16] as NVFP4 keeps them, in their own dtype; `scale` is one float32."""
    blocks = values.float().unflatten(-1, (-1, BLOCK))
    wanted = blocks.abs().amax(dim=-1, keepdim=True) / (6 * scale)
    wanted = torch.where(wanted == 0, 1.0, wanted).clamp(max=_E4M3_MAX)
    step = wanted.to(torch.float8_e4m3fn).float() * scale
    codes = torch.where(step == 0, 0.0, _e2m1(blocks / step))
    return (codes * step).flatten(-2).to(values.dtype)


def compressed(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """As `nvfp4`, as compressed-tensors computes it from a `scale` that divides."""
    blocks = values.unflatten(-1, (-1, BLOCK))
    sixth = (blocks.abs().amax(dim=-1, keepdim=True) / 6).float()  # divided in the values' own dtype
    wanted = (scale * sixth).clamp(max=_E4M3_MAX)
    wanted = wanted.to(torch.float8_e4m3fn).float()
    step = torch.where(wanted == 0, _E4M3_EPSILON, wanted) / scale
    return (_e2m1(blocks.float() / step) * step).flatten(-2).to(values.dtype)


def fp8(values: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`values` as an FP8 cache keeps them, in their own dtype; an affine one keeps what `bias` leaves."""
    rest = values if bias is None else values - bias
    codes = (rest.float() / scale).clamp(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn)
    kept = (codes.float() * scale).to(values.dtype)
    return kept if bias is None else kept + bias


def _e2m1(values: torch.Tensor) -> torch.Tensor:
    """The nearest of 0 .5 1 1.5 2 3 4 6 with the sign of each value, ties to the even code. NaN stays."""
    size = values.abs().clamp(max=6)
    fine, coarse = (size * 2).round() / 2, (size / 2).round() * 2
    size = torch.where(size < 2, fine, torch.where(size < 4, size.round(), coarse))
    return size.copysign(values)
