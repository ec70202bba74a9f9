"""What texts that run together share, and what each of them is given alone."""

import pytest
import torch

from proofcard.evaluate.apart import Apart, in_blocks


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40])
def test_a_product_has_as_many_rows_whatever_its_number(count: int) -> None:
    seen = []

    def product(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows.sum(dim=-1)

    values = torch.randn(count, 3)
    assert torch.equal(in_blocks(product, 16, values), values.sum(dim=-1))
    assert set(seen) == ({16} if count else {0})


class Expert(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.experts = Inner(), torch.nn.ModuleList([Expert()])


class Inner(torch.nn.Module):
    """Keeps the shapes that it is given; answers as attentions and gates do."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[list[tuple[int, ...]]] = []

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
        self.shapes.append([tuple(value.shape) for value in values])
        return values[0] + 1, None, torch.tensor(0.0)


def test_what_is_of_every_text_is_cut_and_nothing_else() -> None:
    layer, apart = Layer(), Apart(16)
    own = layer.inner.forward
    words, flat, mask = torch.randn(3, 5, 4), torch.randn(15, 4), torch.randn(3, 1, 5, 5)
    rotary, places = torch.randn(1, 5, 4), torch.arange(5)
    with apart.arranged(layer, list(layer.experts), []):
        apart.of(3, 5)
        output, nothing, loss = layer.inner(words, flat, mask, rotary, places)
    assert layer.inner.shapes == [[(1, 5, 4), (5, 4), (1, 1, 5, 5), (1, 5, 4), (5,)]] * 3
    assert torch.equal(output, words + 1) and nothing is None and loss.ndim == 0
    assert layer.inner.forward == own and "forward" not in vars(layer.experts[0].linear)
