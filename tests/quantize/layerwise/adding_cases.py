"""The kernel that adds up experts' outputs against PyTorch's own sums, bit for bit:
`test_triton_kernels.py` runs this in a process of its own, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from proofcard.quantize.layerwise.adding_kernel import add
from proofcard.quantize.layerwise.routed import add_weighted

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPES = (torch.bfloat16, torch.float32)


def drawn(*shape: int, spread: float = 3.0) -> torch.Tensor:
    """Of many magnitudes, so that sums are rounded in every way."""
    random = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=random) * (torch.randn(shape, generator=random) * spread).exp2()


@pytest.mark.parametrize("total_type", TYPES)
@pytest.mark.parametrize("weight_type", TYPES)
@pytest.mark.parametrize("tokens, width, slots", [(1, 16, 1), (7, 1500, 3), (9, 64, 8)])
def test_sums_have_the_bits_of_one_addition_after_another(
    total_type: torch.dtype, weight_type: torch.dtype, tokens: int, width: int, slots: int
) -> None:
    rows = tokens * slots
    outputs = drawn(rows, width).bfloat16().to(DEVICE)
    place = torch.randperm(rows, generator=torch.Generator().manual_seed(1)).view(tokens, slots).to(DEVICE)
    weights = drawn(tokens, slots, spread=1).to(weight_type).to(DEVICE)
    first = drawn(tokens, width).to(total_type).to(DEVICE)
    ours, theirs = first.clone(), first.cpu().clone()
    add(ours, outputs, place.t().contiguous().t(), weights)
    add_weighted(theirs, outputs.cpu(), place.cpu(), weights.cpu())
    as_bits = {torch.bfloat16: torch.int16, torch.float32: torch.int32}[total_type]
    assert torch.equal(ours.cpu().view(as_bits), theirs.view(as_bits))
