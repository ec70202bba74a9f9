"""The forced pass makes the same statistics with the screen as without; it is off where it does not pay."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from quantize.layerwise import own_blocks, screen_twin
from torch.nn.functional import gelu, silu

from proofcard.quantize.layerwise import excerpts, screen, screen_codes
from proofcard.quantize.layerwise.calibrate import FORCED, Observer
from proofcard.quantize.layerwise.excerpts import Excerpts
from proofcard.quantize.layerwise.experts import Forced
from proofcard.quantize.layerwise.hooks import watching
from proofcard.quantize.layerwise.raised import Raised
from proofcard.quantize.layerwise.screen import Screen
from proofcard.quantize.layerwise.structure import Block, Layer

EXPERTS = tuple(f"block.experts.{number}" for number in range(6))
LINEARS = [f"{expert}.{name}" for expert in EXPERTS for name in ("w1", "w2", "w3")]
LAYER = Layer("layer", LINEARS, [Block("block", EXPERTS, "block")], [])
Act = Callable[[torch.Tensor], torch.Tensor]


class Expert(torch.nn.Module):
    def __init__(self, act: Act, swapped: bool) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (
            torch.nn.Linear(*shape, bias=False, dtype=torch.bfloat16)
            for shape in ((48, 32), (32, 48), (48, 32))
        )
        self.act, self.swapped = act, swapped

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        one, other = (self.w3, self.w1) if self.swapped else (self.w1, self.w3)
        made: torch.Tensor = self.w2(self.act(one(rows)) * other(rows))
        return made


class Experts(torch.nn.Module):
    """Every expert takes every row once `top_k` is raised to their number."""

    def __init__(self, act: Act = silu, swapped: bool = False) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.experts = torch.nn.ModuleList(Expert(act, swapped) for _ in EXPERTS)
        self.top_k = 2

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        rows = states.reshape(-1, states.shape[-1])
        return torch.stack([expert(rows) for expert in self.experts[: self.top_k]]).sum(0)


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in screen_twin.PLACES.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(screen_twin, name))
    monkeypatch.setattr(screen, "available", lambda device: True)
    for name in ("_ROWS", "_EXPERTS"):
        monkeypatch.setattr(screen, name, 1)
    monkeypatch.setattr(excerpts, "_ROWS", (4, 8))
    monkeypatch.setattr(excerpts, "_COLUMNS", (4, 8))


def forcing(screened: bool, **how: Any) -> tuple[Forced, dict[str, Any]]:
    block = Experts(**how)
    modules = {"block": block} | {f"block.{name}": module for name, module in block.named_modules()}
    whole = {name for name in LINEARS if not name.endswith("w2")}
    probe = SimpleNamespace(whole=lambda _: whole, last=lambda _: set(LINEARS) - whole)
    forced = Forced(LAYER.blocks[0], modules, probe, Excerpts(), screened=screened)  # type: ignore[arg-type]
    return forced, modules


def batches(count: int = 30) -> list[torch.Tensor]:
    torch.manual_seed(12)
    made = [torch.randn(1, 40, 48) for _ in range(count)]
    made[7][0, 3] *= 4
    made[11][0] = made[11][0, 0].clone()
    made[12] = made[10].clone()
    made[13][:] = 0
    return [batch.bfloat16() for batch in made]


Run = tuple[list[torch.Tensor], list[float], Forced]
STRETCHES = [(1, "a"), (2, "a"), (4, "a"), (9, "a"), (15, "b"), (16, "a"), (30, "b")]


def passed(screened: bool, rows: list[torch.Tensor], experts: tuple[str, ...] = EXPERTS, **how: Any) -> Run:
    """A forced pass as calibration makes it: each stretch's maxima, and which share each batch flagged."""
    return measured(*forcing(screened, **how), LAYER, rows, experts)


def measured(
    force: Forced, modules: dict[str, Any], layer: Layer, rows: list[torch.Tensor], experts: tuple[str, ...]
) -> Run:
    observer, shares, taken, begin = Observer(layer, torch.device("cpu")), [], [], 0
    if force._screen is not None:
        judge = force._screen.judge
        force._screen.judge = lambda share: (shares.append(share), judge(share))[1]  # type: ignore[method-assign]
    observer.only = {name for name in layer.linears if name.rsplit(".", 1)[0] in experts}
    with torch.no_grad(), watching(modules, layer.linears, observer.see):
        for end, dataset in STRETCHES:
            observer.dataset = dataset
            for batch in rows[begin:end]:
                force.run(batch, experts, observer)
                observer.flush(FORCED)
            force.drain()
            observer.flush(FORCED)
            taken.append(observer.take(dataset)[FORCED])
            begin = end
    return taken, shares, force


def statistics(taken: list[torch.Tensor]) -> list[torch.Tensor]:
    """What calibration makes of the stretches: the running maxima and each dataset's."""
    every = torch.stack(taken)
    rows = [[place for place, (_, name) in enumerate(STRETCHES) if name == wanted] for wanted in "ab"]
    return [every.cummax(dim=0).values, *(every[own].amax(dim=0) for own in rows)]


def assert_alike(one: Run, other: Run) -> None:
    for mine, theirs in zip(statistics(one[0]), statistics(other[0]), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_statistics_are_those_of_the_exact_pass(swapped: bool) -> None:
    with_it, without = (passed(screened, batches(), swapped=swapped) for screened in (True, False))
    assert_alike(with_it, without)
    assert len(with_it[1]) > 20
    assert 0 < sum(with_it[1]) / len(with_it[1]) < 0.35


def test_some_experts_alone_are_asked_about() -> None:
    some = EXPERTS[1:4]
    with_it, without = (passed(screened, batches(), some) for screened in (True, False))
    assert_alike(with_it, without)
    assert len(with_it[1]) > 20
    assert not any(taken[[0, 1, 2, 12, 13]].any() for taken in with_it[0])


def test_experts_that_take_rows_in_another_order_are_asked_about_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excerpts, "portable", lambda device: True)
    with torch.no_grad():
        block = own_blocks.drawn(own_blocks.BySlot(own_blocks.Gate))
    modules = own_blocks.modules(block)
    linears = [
        name for name, module in modules.items() if type(module) is torch.nn.Linear and "experts" in name
    ]
    layer = Layer("layer", linears, [Block("block", own_blocks.names(block), "block")], [])
    last = {name for name in linears if name.endswith("down")}
    probe: Any = SimpleNamespace(whole=lambda _: set(linears) - last, last=lambda _: last)
    rows = [batch[:, :, : own_blocks.WIDTH] for batch in batches()]

    def run(screened: bool) -> Run:
        raised = Raised(layer.blocks[0], modules, True) if screened else None
        if raised is not None:
            with torch.no_grad():
                raised.learn(rows[0])
        force = Forced(layer.blocks[0], modules, probe, Excerpts(), raised, screened)
        return measured(force, modules, layer, rows, own_blocks.names(block))

    with_it, without = run(True), run(False)
    assert_alike(with_it, without)
    assert without[2]._direct is False
    assert len(with_it[1]) > 20


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_recorded(value: float) -> None:
    rows = batches()
    rows[20][0, 5, 7] = value
    with_it, without = (passed(screened, rows) for screened in (True, False))
    for mine, theirs in zip(statistics(with_it[0]), statistics(without[0]), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
    assert not torch.stack(with_it[0]).isfinite().all()


@pytest.mark.parametrize("how", [{"act": gelu}, {"act": lambda values: silu(values.clamp(max=1))}])
def test_other_experts_take_the_exact_pass(how: dict[str, Any]) -> None:
    with_it, without = (passed(screened, batches(), **how) for screened in (True, False))
    assert torch.equal(torch.stack(with_it[0]), torch.stack(without[0]))
    assert with_it[2]._screen is not None and not with_it[2]._screen.on
    assert with_it[1] == []


def test_products_further_off_than_the_bound_takes_for_granted_take_the_exact_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screen_codes, "gamma", lambda channels: -1.0)
    assert passed(True, batches())[1] == []


def test_a_row_that_begins_every_batch_and_is_the_largest_runs_with_few_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the first tokens of a chat template do. With many channels a bound cannot tell that it is no larger
    than the maximum; nothing runs whole for it."""
    monkeypatch.setattr(screen_twin, "gamma", lambda channels: 2.0**-9)
    rows = batches()
    for batch in rows:
        batch[0, 0] = 4 * rows[0][0, 0]
    with_it, without = (passed(screened, rows) for screened in (True, False))
    assert_alike(with_it, without)
    flagged, alone = with_it[1], 4 / 40  # four rows of forty, of every expert
    assert len(flagged) > 20
    assert sum(share >= alone - 1e-9 for share in flagged[1:]) > 20
    assert sum(flagged) / len(flagged) < 1.5 * alone


def test_where_all_rows_are_near_the_maximum_few_neurons_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One neuron of each expert is far above the others, whatever the row: too many rows to tell."""
    monkeypatch.setattr(screen_twin, "CAPACITY", 8)
    alone: list[int] = []
    inner = Screen.inner

    def seen(self: Screen, expert: str, rows: torch.Tensor, neurons: torch.Tensor) -> torch.Tensor:
        alone.append(len(neurons))
        return inner(self, expert, rows, neurons)

    monkeypatch.setattr(Screen, "inner", seen)
    torch.manual_seed(13)
    common = 6 * torch.randn(48)
    rows = [(batch + common * (1 + number / 100)).bfloat16() for number, batch in enumerate(batches())]
    with_it, without = (passed(screened, rows) for screened in (True, False))
    assert_alike(with_it, without)
    assert len(alone) > 30 and set(alone) <= {2, 4}
    assert max(with_it[1][1:]) < 0.5


@pytest.mark.parametrize("risen", [30, 10])
def test_rising_maxima_pause_the_screen_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch, risen: int
) -> None:
    monkeypatch.setattr(excerpts, "_ROWS", ())
    monkeypatch.setattr(excerpts, "_COLUMNS", ())
    monkeypatch.setattr(sys.modules[__name__], "STRETCHES", [(29, "a"), (30, "b")])
    rows = [batch * (1.1 ** min(number, risen)) for number, batch in enumerate(batches())]
    with_it, without = (passed(screened, rows) for screened in (True, False))
    assert_alike(with_it, without)
    shares = with_it[1]
    assert 12 <= len(shares) < 24
    assert sum(shares[:8]) / 8 > 0.4
    assert (sum(shares[12:]) / len(shares[12:]) < 0.4) == (risen == 10)


def test_a_dataset_that_begins_ends_a_pause() -> None:
    asked = Screen(EXPERTS, set(), set(), {}, Excerpts())
    for _ in range(8):
        asked.judge(1.0)
    assert [asked.paused() for _ in range(4)] == [True] * 4
    asked.fresh()
    assert not asked.paused()
    for batches_left_out in (8, 16):
        for _ in range(8):
            asked.judge(1.0)
        assert [asked.paused() for _ in range(batches_left_out + 1)] == [True] * batches_left_out + [False]


def test_too_little_memory_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(screen_codes, "code_weights", full)
    with_it, without = (passed(screened, batches()) for screened in (True, False))
    assert_alike(with_it, without)
    assert with_it[1] == []


def test_small_batches_and_other_linears_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_ROWS", 41)
    assert passed(True, batches())[1] == []
    _, modules = forcing(False)
    whole = {name for name in LINEARS if not name.endswith("w2")}
    last = set(LINEARS) - whole
    assert Screen(EXPERTS, whole, last, modules, Excerpts()).on
    assert not Screen(EXPERTS, {name for name in whole if name.endswith("w1")}, last, modules, Excerpts()).on
    modules[f"{EXPERTS[3]}.w1"].weight.data = modules[f"{EXPERTS[3]}.w1"].weight.data.float()
    assert not Screen(EXPERTS, whole, last, modules, Excerpts()).on
    modules[f"{EXPERTS[3]}.w1"] = torch.nn.Linear(48, 32, dtype=torch.bfloat16)
    assert not Screen(EXPERTS, whole, last, modules, Excerpts()).on


def test_only_hopper_devices_are_taken_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not screen.available(torch.device("cpu"))
    for capability, wanted in (((8, 0), False), ((9, 0), True), ((10, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert screen.available(torch.device("cuda")) is wanted
