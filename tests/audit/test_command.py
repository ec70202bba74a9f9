"""`audit` as a person meets it."""

import json
from pathlib import Path

import pytest
from audit.plans import RECIPE, written

from proofcard import screen
from proofcard.audit.command import run
from proofcard.documents.audit import Audit
from proofcard.documents.base import read
from proofcard.errors import Usage

AS_RUN = [f"recipe={RECIPE}", "tracking=off"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and a screen of 100 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def test_the_published_card_is_audited_printed_and_written(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*AS_RUN, f"plan={written(place)}"]
    assert run(words) == 0
    printed = capsys.readouterr().out
    document = read(Audit, place / "runs/audits/minimax_m2_7_nvfp4.minimax_m2_7_nvfp4_as_run.json")
    assert document.recipe == "minimax_m2_7_nvfp4_as_run"
    assert sum(document.counts.values()) == len(document.claims) > 70
    assert f"{len(document.claims)} claims: {document.counts['holds']} hold, " in printed
    tables, needs = printed.split("[1] needs proofcard quantize")
    assert max(map(len, tables.splitlines())) <= 100
    assert "on 2× RTX PRO 6000" in needs
    monkeypatch.setattr(screen, "_json_asked", True)
    run(words)
    assert json.loads(capsys.readouterr().out) == document.values()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["recipe=modelopt_default"], "no claims file names recipe=modelopt_default"),
        (["recipe=demo", "claims=nothing"], r"conf/claims/nothing\.yaml does not exist: set claims=NAME"),
        (["recipe=demo", "plan=none.json"], "does not exist: make it with proofcard plan recipe=demo"),
        (["recipe=demo", "checkpoint=/nowhere"], "/nowhere is not a folder"),
        (["recipe=demoo"], "recipe=demoo does not exist: did you mean 'demo'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_planned(
    place: Path, words: list[str], sentence: str
) -> None:
    with pytest.raises(Usage, match=sentence):
        run([*words, "tracking=off"])
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    "text", ["{}", "[", '{"schema": "proofcard/plan/1"}', '{"schema": "proofcard/plan/99"}']
)
def test_a_plan_by_anybody_is_refused_in_a_sentence(place: Path, text: str) -> None:
    (place / "plan.json").write_text(text)
    with pytest.raises(Usage, match=r"plan\.json") as stop:
        run([*AS_RUN, "plan=plan.json"])
    assert "\n" not in str(stop.value)


def test_a_plan_of_another_recipe_is_refused(place: Path) -> None:
    with pytest.raises(Usage, match="is not of recipe=minimax_m2_7_nvfp4 as composed now: plan it again"):
        run(["recipe=minimax_m2_7_nvfp4", f"plan={written(place)}", "tracking=off"])


def test_a_checkpoint_of_another_recipe_is_refused() -> None:
    golden = Path(__file__).parents[1] / "golden/manifest-1/checkpoint"
    with pytest.raises(Usage, match="made with recipe=local, or with other overrides"):
        run(["recipe=demo", f"checkpoint={golden}", "tracking=off"])
