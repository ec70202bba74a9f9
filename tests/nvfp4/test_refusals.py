import re
import subprocess
import sys

import numpy as np
import pytest

from proofcard import nvfp4

ONES = np.full((4, 64), 0x3F80, np.uint16)
CODES = np.full((4, 64), 0x38, np.uint8)
SCALE_INV = np.ones((1, 1), np.float32)


def spoilt(array, value):
    made = array.copy()
    made[2, 5] = value
    return made


@pytest.mark.parametrize("bad", [0x7FC0, 0xFFC0, 0x7F80, 0xFF80])
@pytest.mark.parametrize("call", [nvfp4.amax, lambda weight: nvfp4.quantize(weight, 1.0)])
def test_non_finite_bf16_is_named(call, bad):
    with pytest.raises(ValueError, match=r"weight\[2, 5\] is -?(nan|inf)"):
        call(spoilt(ONES, bad))


@pytest.mark.parametrize("weight", [spoilt(CODES, 0x7F), spoilt(CODES, 0xFF)])
@pytest.mark.parametrize("call", [nvfp4.amax_fp8, lambda *source: nvfp4.quantize_fp8(*source, 1.0)])
def test_non_finite_fp8_is_named(call, weight):
    with pytest.raises(ValueError, match=r"weight\[2, 5\] is nan"):
        call(weight, SCALE_INV)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("call", [nvfp4.amax_fp8, lambda *source: nvfp4.quantize_fp8(*source, 1.0)])
def test_non_finite_products_are_named(call, scale):
    weight = spoilt(CODES, 0x7E)
    with pytest.raises(ValueError, match="every weight must be finite"):
        call(weight, np.float32([[scale]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nvfp4.quantize(ONES[:, :40], 1.0), "40 columns; NVFP4 needs a multiple of 16"),
        (lambda: nvfp4.quantize_fp8(CODES[:, :40], SCALE_INV, 1.0), "40 columns"),
        (lambda: nvfp4.quantize(ONES.reshape(2, 2, 64), 1.0), "flatten it to [rows, cols]"),
        (lambda: nvfp4.quantize(ONES.astype(np.float32), 1.0), "weight is float32; it must be uint16 bits"),
        (lambda: nvfp4.quantize(ONES[:0], 1.0), "weight is empty"),
        (lambda: nvfp4.quantize(ONES, 0.0), "scale_2 is 0.0"),
        (lambda: nvfp4.quantize(ONES, np.inf), "scale_2 is inf"),
        (lambda: nvfp4.quantize(ONES, 1.0, threads=0), "threads is 0"),
        (lambda: nvfp4.amax_fp8(CODES, np.ones((2, 1), np.float32)), "needs (1, 1)"),
        (lambda: nvfp4.amax_fp8(CODES, SCALE_INV, block=(0, 128)), "block is (0, 128)"),
        (
            lambda: nvfp4.quantize(ONES, 1.0, block_amaxes=np.ones((4, 3), np.float32)),
            "block_amaxes has shape (4, 3); the weight's blocks are (4, 4)",
        ),
        (lambda: nvfp4.dequantize(CODES, CODES, 1.0), "do not belong to the same weight"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_reading_scales_loads_no_compiler():
    code = "import sys, proofcard.nvfp4; print(sorted({'numba', 'torch', 'modelopt'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
