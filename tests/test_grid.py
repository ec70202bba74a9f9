"""Tables at any width: headings whole, no blanks at line ends, rows as lists where columns do not fit."""

import io

import pytest
from audit import plans as plans_as_run
from rich.console import Console
from rich.text import Text

from proofcard.documents.plan import Plan, Plans
from proofcard.grid import Grid
from proofcard.plan.compare import side_by_side
from proofcard.plan.show import show
from proofcard.screen import Screen

WIDTHS = (30, 40, 60, 80, 100, 140)


def table() -> Grid:
    grid = Grid("quantizer", "what was checked", "differences", title="levels")
    grid.add_row("model.layers.0.block_sparse_moe.experts.0.w1.weight", "615 tensors, 4.9 MB", "0")
    grid.add_section()
    grid.add_row("all", "", "12")
    return grid


def drawn(grid: object, width: int, screen: type[Console] = Console) -> list[str]:
    out = screen(file=io.StringIO(), width=width, color_system=None)
    out.print(grid)
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_too_long_or_ends_in_blanks_and_no_heading_is_split(width: int) -> None:
    lines = drawn(table(), width)
    assert max(map(len, lines)) <= width
    assert [line for line in lines if line != line.rstrip()] == []
    for word in ("quantizer", "differences") if width >= 60 else ("differences:", "checked:"):
        assert any(word in line.split() for line in lines), lines


def test_a_wide_one_has_a_line_for_each_row() -> None:
    assert drawn(table(), 100) == [
        "levels",
        "quantizer                                               what was checked  differences",
        f"{'─' * 51}  {'─' * 19}  {'─' * 11}",
        "model.layers.0.block_sparse_moe.experts.0.w1.weight  615 tensors, 4.9 MB            0",
        f"{'─' * 51}  {'─' * 19}  {'─' * 11}",
        "all                                                                                12",
    ]


def test_a_narrow_one_is_a_list() -> None:
    grid = Grid("level", "result", "what was checked")
    grid.add_row("weights", "differs", "465 tensors")
    grid.add_row("samples", "", Text("nothing"))
    assert drawn(grid, 20) == [
        "weights", "  result: differs", "  what was checked:", "  465 tensors", "",
        "samples", "  what was checked:", "  nothing",
    ]  # fmt: skip


def test_what_comes_from_outside_stays_text() -> None:
    grid = Grid("[b]x[/b]")
    grid.add_row("[red]\x1b[31mred\n")
    assert drawn(grid, 80)[-1] == r"[red]\x1b[31mred\n"
    assert drawn(grid, 80)[0] == "[b]x[/b]"


def test_a_pipe_gets_no_blanks_at_the_ends_of_lines() -> None:
    from rich.padding import Padding

    assert drawn(Padding("x", (1, 3)), 40) != drawn(Padding("x", (1, 3)), 40, Screen) == ["", "   x", ""]


@pytest.fixture(scope="module")
def plans() -> list[Plan | Plans]:
    plan = Plan.model_validate(plans_as_run.plan())
    other = plan.model_copy(update={"config": plan.config | {"seed": 7}, "work": plan.work.model_copy(
        update={"samples": 7, "flop_forced": 10**15})})  # fmt: skip
    return [plan, side_by_side(plan, other)]


@pytest.mark.parametrize("width", (40, 60, 80, 140))
@pytest.mark.parametrize("details", [False, True])
def test_a_plan_fits_every_terminal(plans: list[Plan | Plans], width: int, details: bool) -> None:
    for each in plans:
        out = Screen(file=io.StringIO(), width=width)
        show(each, out, details)
        lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert max(len(line) for line in lines if not line.startswith("details=true")) <= width
        assert not [line for line in lines if line != line.rstrip()]
        if width == 80 and not details and isinstance(each, Plan):
            assert len(lines) <= 20


def test_two_plans_are_compared_in_words(plans: list[Plan | Plans]) -> None:
    out = Screen(file=io.StringIO(), width=100)
    show(plans[1], out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "calibration samples" in text
    assert "work of the pass over all experts" in text
    assert "1.0 PFLOP" in text
    assert "_" not in text.partition("effect")[2].replace("_nvfp4", "").replace("_as_run", "").replace(
        "_m2_7", ""
    )
