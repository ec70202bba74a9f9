"""Checkpoint tensors as bytes, and errors of the number format with the tensor's name."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from proofcard.errors import Stop

Tensors = Iterator[tuple[str, np.ndarray]]


def raw(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's bytes, from any device, one dimension."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def named(name: str, work: Callable[[], Any]) -> Any:
    """The result of `work`. An error of the number format becomes a Stop that names the tensor."""
    try:
        return work()
    except ValueError as error:
        raise Stop(f"{name}: {error}") from None
