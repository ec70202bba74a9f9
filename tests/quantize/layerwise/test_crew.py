"""Jobs run side by side on a GPU, one after the other on a CPU: the same results."""

import pytest
import torch

from proofcard.quantize.layerwise.crew import Crew

DEVICES = [
    torch.device("cpu"),
    pytest.param(
        torch.device("cuda"),
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="NOT CHECKED HERE: it needs a CUDA device"
        ),
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_results_come_in_the_order_of_the_jobs_and_after_what_was_queued(device: torch.device) -> None:
    values = torch.ones(1000, device=device)
    for turn in range(3):
        values += 1
        results = Crew(device).run([lambda n=n, values=values: values * n for n in range(50)])
        total = torch.stack(results).sum(dim=1)
        assert total.tolist() == [1000 * n * (turn + 2) for n in range(50)]


@pytest.mark.parametrize("device", DEVICES)
def test_an_error_of_a_job_is_raised(device: torch.device) -> None:
    def fail() -> None:
        raise ValueError("of a job")

    with pytest.raises(ValueError, match="of a job"):
        Crew(device).run([lambda: None, fail, lambda: None])
