"""Several experts' first products as one: the bits of one product for each, or not at all."""

import pytest
import torch
from torch.nn.functional import linear as product

from proofcard.quantize.layerwise import stacked
from proofcard.quantize.layerwise.stacked import Stack, stacks

EXPERTS = tuple(f"experts.{i}" for i in range(6))
WHOLE = {f"{expert}.{name}" for expert in EXPERTS for name in ("w1", "w3")}


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "pays", lambda device: True)


def linears(bias: bool = False) -> dict[str, torch.nn.Linear]:
    torch.manual_seed(5)
    return {name: torch.nn.Linear(64, 48, bias=bias, dtype=torch.bfloat16) for name in sorted(WHOLE)}


@pytest.mark.parametrize("count", [1, 7, 100, 333])
def test_each_linear_answers_with_its_own_bits(count: int) -> None:
    modules = linears()
    weights = {name: module.weight.detach().clone() for name, module in modules.items()}
    rows = torch.randn(count, 64).to(torch.bfloat16)
    ((group, stack),) = stacks(EXPERTS, WHOLE, modules)
    assert group == list(EXPERTS)
    assert stack.serves(rows)
    with torch.no_grad(), stack.answering(rows):
        answers = {name: module(rows) for name, module in modules.items()}
    for name, module in modules.items():
        assert torch.equal(answers[name], product(rows, weights[name])), name
        assert torch.equal(module.weight, weights[name])
        assert "forward" not in vars(module)


def test_groups_are_no_larger_than_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "_BYTES", 2 * 4 * 64 * 48 * 2)  # four experts of two linears in BF16
    groups = [group for group, _ in stacks(EXPERTS, WHOLE, linears())]
    assert groups == [list(EXPERTS[:4]), list(EXPERTS[4:])]


def test_what_gains_nothing_or_is_no_plain_product_is_not_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stacks(EXPERTS, WHOLE, linears(bias=True)) == []
    assert stacks(EXPERTS, set(), linears()) == []
    monkeypatch.setattr(stacked, "_BYTES", 1)
    assert stacks(EXPERTS, WHOLE, linears()) == []


def test_on_a_cpu_nothing_is_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert stacks(EXPERTS, WHOLE, linears()) == []
    assert stacked.pays(torch.device("cuda", 0))


def test_a_stack_whose_bits_differ_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(list(linears().values()))
    monkeypatch.setattr(stacked, "_ENOUGH", 50)
    assert not stack.serves(torch.zeros(50, 64, dtype=torch.bfloat16))

    def other(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        made = product(rows, weight)
        return made + torch.finfo(torch.bfloat16).eps * made if len(weight) > 48 else made

    monkeypatch.setattr(stacked, "product", other)
    assert not stack.serves(torch.randn(20, 64).to(torch.bfloat16))
