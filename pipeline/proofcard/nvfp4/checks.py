"""Checks for inputs that NVFP4 cannot represent: wrong dtypes and shapes, non-finite weights."""

import numpy as np

from proofcard.nvfp4.bits import BF16_INF, BLOCK, bf16_to_f32


def expect(array: np.ndarray, name: str, dtype: type[np.generic]) -> None:
    """Raise ValueError for another dtype or an empty array."""
    if array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype}; it must be {np.dtype(dtype)} bits")
    if array.size == 0:
        raise ValueError(f"{name} is empty: {array.shape}")


def expect_matrix(array: np.ndarray, name: str, dtype: type[np.generic]) -> None:
    """As `expect`, also for anything but two dimensions."""
    expect(array, name, dtype)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; flatten it to [rows, cols]")


def expect_amaxes(amaxes: np.ndarray, shape: tuple[int, int]) -> None:
    """Raise ValueError unless there is a float32 amax for every block."""
    expect_matrix(amaxes, "block_amaxes", np.float32)
    if amaxes.shape != shape:
        raise ValueError(f"block_amaxes has shape {amaxes.shape}; the weight's blocks are {shape}")


def blocks_of(weight: np.ndarray) -> tuple[int, int]:
    """Rows and columns. Raises ValueError when a row is not a whole number of blocks."""
    rows, cols = weight.shape
    if cols % BLOCK:
        raise ValueError(f"weight has {cols} columns; NVFP4 needs a multiple of {BLOCK}")
    return rows, cols


def expect_scale_2(scale_2: float | np.floating) -> np.float32:
    """The scale as float32. Raises ValueError unless it is finite and positive."""
    value = np.float32(scale_2)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(
            f"scale_2 is {value}; it must be finite and positive (an all-zero weight has no such scale)"
        )
    return value


def bf16_scalar(bits: int) -> np.float32:
    """The value of BF16 bits."""
    return np.float32(bf16_to_f32(np.array(bits, np.uint16)))


def refuse(bits: np.ndarray) -> None:
    """Name the first BF16 value that is not finite."""
    at = np.unravel_index(int(np.argmax((bits & BF16_INF) == BF16_INF)), bits.shape)
    raise ValueError(f"weight{[int(i) for i in at]} is {bf16_scalar(bits[at])}; every weight must be finite")
