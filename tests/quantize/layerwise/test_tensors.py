"""Bytes of tensors, and whose error it is."""

import numpy as np
import pytest
import torch

from proofcard.errors import Stop
from proofcard.quantize.layerwise.tensors import named, raw


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64, torch.bool])
def test_bytes_are_those_of_memory_in_order(dtype: torch.dtype) -> None:
    values = torch.arange(12).reshape(3, 4).to(dtype)
    expected = values.contiguous().view(torch.uint8).numpy().reshape(-1)
    assert np.array_equal(raw(values), expected)
    assert np.array_equal(raw(values.T.contiguous().T), expected)  # a transposed view of other strides


def test_a_scalar_has_bytes_too() -> None:
    assert raw(torch.tensor(1.0)).tobytes() == b"\x00\x00\x80?"


def test_what_the_number_format_refuses_gets_the_tensor_s_name() -> None:
    def refuses() -> None:
        raise ValueError("amax is not positive")

    with pytest.raises(Stop, match=r"^layer\.w1: amax is not positive$"):
        named("layer.w1", refuses)
    assert named("layer.w1", lambda: 7) == 7
