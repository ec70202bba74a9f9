"""`audit` as a person meets it."""

import json
from pathlib import Path

import pytest
from running import command

from proofcard.documents.audit import Audit
from proofcard.documents.base import read

PLAN = Path(__file__).with_name("minimax_m2_7_nvfp4_as_run.plan.json")
AS_RUN = ("recipe=minimax_m2_7_nvfp4_as_run", f"plan={PLAN}", "tracking=off")


def test_the_published_card_is_audited_printed_and_written(tmp_path: Path) -> None:
    done = command("audit", *AS_RUN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines()[:-30])) <= 100
    document = read(Audit, tmp_path / "runs/audits/minimax_m2_7_nvfp4.minimax_m2_7_nvfp4_as_run.json")
    assert document.recipe == "minimax_m2_7_nvfp4_as_run"
    assert sum(document.counts.values()) == len(document.claims) > 70
    assert f"{len(document.claims)} claims: {document.counts['holds']} hold, " in done.stdout
    assert "[1] needs proofcard quantize" in done.stdout
    again = command("audit", *AS_RUN, "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == document.values()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("recipe=minimax_m2_7_nvfp4", f"plan={PLAN}"), "is not of recipe=minimax_m2_7_nvfp4 as composed"),
        (("recipe=modelopt_default",), "no claims file names recipe=modelopt_default"),
        (("recipe=demo", "claims=nothing"), "conf/claims/nothing.yaml does not exist: give claims=NAME"),
        (("recipe=demo", "plan=none.json"), "does not exist: make it with proofcard plan recipe=demo"),
        (("recipe=demo", "checkpoint=/nowhere"), "/nowhere is not a folder"),
        (("recipe=demoo",), "recipe=demoo does not exist: did you mean 'demo'?"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_before_anything_is_planned(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = command("audit", *words, "tracking=off", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_plan_by_anybody_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for text in ("{}", "[", '{"schema": "proofcard/plan/1"}', '{"schema": "proofcard/plan/9"}'):
        (tmp_path / "plan.json").write_text(text)
        done = command("audit", *AS_RUN[::2], "plan=plan.json", cwd=tmp_path)
        assert done.returncode == 2
        assert "plan.json" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden/manifest-1/checkpoint"
    done = command("audit", "recipe=demo", f"checkpoint={golden}", "tracking=off", cwd=tmp_path)
    assert done.returncode == 2
    assert "made with recipe=local, or with other overrides" in done.stderr
