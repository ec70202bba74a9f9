"""BF16 and FP8 E4M3FN as raw bits: BF16 in uint16, E4M3FN in uint8, widened to float32 and back."""

import numpy as np

BLOCK = 16  # weights that share one E4M3 scale
FP8_BLOCK = (128, 128)  # weights that share one float32 scale_inv in an FP8 source
BF16_NAN = 0x7FC0  # the only NaN written here; payloads are not preserved
BF16_INF = 0x7F80
E4M3_MAX = 448.0
E4M3_NAN = 0x7F


def _e4m3_values() -> np.ndarray:
    """Value of each of the 256 codes: sign, 4 exponent bits (bias 7), 3 mantissa bits, no infinities."""
    code = np.arange(128)
    exponent, mantissa = code >> 3, code & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    subnormal = np.ldexp(mantissa / 8, -6)
    magnitude = np.where(exponent > 0, normal, subnormal)
    magnitude[E4M3_NAN] = np.nan
    values = np.concatenate([magnitude, -magnitude]).astype(np.float32)
    values.flags.writeable = False
    return values


E4M3_VALUES = _e4m3_values()


def e4m3_to_f32(bits: np.ndarray) -> np.ndarray:
    """uint8 E4M3FN codes to their float32 values, exactly."""
    return E4M3_VALUES[bits]


def bf16_to_f32(bits: np.ndarray) -> np.ndarray:
    """uint16 BF16 bits to their float32 values, exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(values: np.ndarray) -> np.ndarray:
    """float32 values to uint16 BF16 bits, to nearest, ties to even; NaN becomes `BF16_NAN`."""
    bits = np.atleast_1d(np.asarray(values, np.float32)).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(BF16_NAN), rounded).reshape(np.shape(values))
