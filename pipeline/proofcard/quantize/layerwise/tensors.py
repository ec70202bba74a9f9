"""Tensors of the checkpoint on their way to its files, and the errors of the number format by tensor."""

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
    """What `work` gives. Raises Stop with the tensor's name before what the number format refuses."""
    try:
        return work()
    except ValueError as error:
        raise Stop(f"{name}: {error}") from None
