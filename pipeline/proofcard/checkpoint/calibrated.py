"""The tensors that calibration decides, and how far two values of one are apart.

A scale encodes an amax: the largest magnitude that a quantizer saw, a BF16 number in a BF16 model. The
distance of two scales is therefore counted in steps of BF16 (ULP) between their amaxes: 0 for the same bits,
1 for neighbours. Elements of a BF16 bias are compared the same way.

A manifest holds a scale's digest and not its value. There are only 32,639 positive finite BF16 numbers, and
so as many scales of one kind: the value is found by its digest.
"""

import hashlib
from functools import cache

import numpy as np

from proofcard.nvfp4.bits import E4M3_MAX
from proofcard.nvfp4.scales import E2M1_MAX

KINDS = ("input_scale", "k_scale", "v_scale", "k_bias", "v_bias")
"""Last parts of their names."""

_BOUNDS = {"input_scale": E2M1_MAX * E4M3_MAX, "k_scale": E4M3_MAX, "v_scale": E4M3_MAX}
"""What an amax is divided by to give the scale, as in `nvfp4.scales`."""

_STEP = 1 << 16  # float32 numbers from one BF16 number to the next
_SLACK = 4  # float32 steps that a division and a multiplication may be off


def kind(name: str) -> str | None:
    """Which of `KINDS` a tensor is, None for one that follows from the weights."""
    leaf = name.rpartition(".")[2]
    return leaf if leaf in KINDS else None


def distance(name: str, one: bytes, other: bytes) -> int | None:
    """BF16 steps between two values of a calibrated tensor, given as its bytes; the largest of a bias.

    None when they cannot be compared: another size, or a scale that is not a positive finite float32.
    """
    if one == other:
        return 0
    which = kind(name)
    if which is None or len(one) != len(other):
        return None
    if which not in _BOUNDS:
        if len(one) % 2:
            return None
        ordinals = [_ordinals(np.frombuffer(values, "<u2").astype(np.int64), 16) for values in (one, other)]
        return int(np.abs(ordinals[0] - ordinals[1]).max(initial=0))
    if len(one) != 4:
        return None
    amaxes = [np.frombuffer(value, "<f4") * np.float32(_BOUNDS[which]) for value in (one, other)]
    if not all(np.isfinite(amax).all() and (amax > 0).all() for amax in amaxes):
        return None
    a, b = (int(amax.view(np.int32)[0]) for amax in amaxes)
    return max(1, -(-(abs(a - b) - _SLACK) // _STEP))


def recovered(name: str, sha256: str) -> bytes | None:
    """The scale that has this digest, if its amax is a BF16 number; None for biases too."""
    which = kind(name)
    return _scales_by_digest(_BOUNDS[which]).get(sha256) if which in _BOUNDS else None


def amax(name: str, value: bytes) -> float | None:
    """The amax that a scale encodes; None for other tensors."""
    which = kind(name)
    if which not in _BOUNDS or len(value) != 4:
        return None
    return float(np.frombuffer(value, "<f4")[0]) * _BOUNDS[which]


@cache
def _scales_by_digest(bound: float) -> dict[str, bytes]:
    """Every scale that encodes a positive finite BF16 number, by its sha256."""
    bits = np.arange(1, 0x7F80, dtype=np.uint32) << 16
    with np.errstate(under="ignore"):
        scales = bits.view(np.float32) / np.float32(bound)
    values = (value.tobytes() for value in scales.astype("<f4"))
    return {hashlib.sha256(value).hexdigest(): value for value in values}


def _ordinals(bits: np.ndarray, width: int) -> np.ndarray:
    """Whole numbers in the order of the floats with these bits, neighbours one apart, both zeros 0."""
    sign = 1 << (width - 1)
    return np.where(bits & sign, -(bits & (sign - 1)), bits)
