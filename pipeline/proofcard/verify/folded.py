"""Factors that AWQ and SmoothQuant fold into weights and the layer before them: found again, not recomputed.

What is stored is then the source's weight times a factor for each column, and sometimes each row. With the
factors that fit best taken back, the stored weights are as close to the source's as NVFP4 is anywhere; a norm
before them holds the same factors. That proves closeness, never bytes: which factors data chose is not known.
"""

from typing import Any

import numpy as np

from proofcard.checkpoint.dialects.following import Stored
from proofcard.checkpoint.dialects.rules import widths
from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import bf16_to_f32
from proofcard.verify.plausible import floats

Array = np.ndarray[Any, Any]

_MOST = 1 << 27  # weights of a linear: more are not looked at
_ROUNDS = 4
_MEDIAN, _FARTHEST = 0.03, 0.2  # distance of a norm's change from the factors of a linear behind it


def undone(bits: Array, stored: Stored) -> tuple[float, Array | None]:
    """Relative squared error with the best factors for rows and columns taken back, and those for columns."""
    from proofcard.checkpoint.dialects.loops import unpack  # numba takes most of a second to import

    if bits.size > _MOST:
        return float("inf"), None
    with np.errstate(all="ignore"):
        have = unpack(stored.codes, widths(stored.scales, stored.shared, stored.layout), stored.block)
        want = bf16_to_f32(bits)
        columns = np.ones(want.shape[1], np.float32)
        rows = np.ones((want.shape[0], 1), np.float32)
        both, own = want * have, have * have
        for _ in range(_ROUNDS):
            columns = np.nan_to_num((rows * both).sum(0) / (rows * rows * own).sum(0))
            rows = np.nan_to_num(
                (columns * both).sum(1, keepdims=True) / (columns**2 * own).sum(1, keepdims=True)
            )
        error = float(((want - rows * columns * have) ** 2).sum(dtype=np.float64))
        energy = float((want * want).sum(dtype=np.float64))
    return (error / energy if energy else float("inf")), columns * float(np.median(rows))


def in_norm(norm: Tensor, own: Array, factors: Array) -> bool:
    """Whether a norm changed from `own`, float32, by the factors of the columns of a linear behind it."""
    if norm.shape != own.shape or norm.shape != factors.shape or norm.dtype not in ("F32", "BF16"):
        return False
    now = floats(norm, norm.raw())
    known = (own != 0) & (factors > 0)
    if known.mean() < 0.5:
        return False
    change = now[known] / own[known]
    away = np.abs(change / factors[known] - 1)
    return bool(np.isfinite(away).all() and np.median(away) <= _MEDIAN and away.max() <= _FARTHEST)
