"""Claims files: the ones that come with the program, and what a file by anybody is refused for."""

import re
from pathlib import Path

import pytest

from proofcard.audit import claims
from proofcard.errors import Usage
from proofcard.serve.findings import NAMES

GOOD = """
card: somebody/model
source: their card
recipes: [demo]
claims:
  Model:
    layers:
      claim: It has three layers.
      numbers: {layers: 3}
      checks:
        - {by: plan, holds: plan.model.layers == numbers.layers, evidence: "{plan.model.layers}"}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "claims.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", claims.names())
def test_the_files_that_come_with_the_program_are_whole(name: str) -> None:
    found, digest = claims.read(claims.chosen(name, ""))
    assert len(digest) == 64
    assert len(list(found.each())) >= 8
    for _, _, claim in found.each():
        assert claim.claim.endswith(".")
        for check in claim.checks:
            assert check.command is None or "proofcard" in check.command


@pytest.mark.parametrize("name", claims.names())
def test_claims_ask_only_for_findings_that_exist(name: str) -> None:
    found, _ = claims.read(claims.chosen(name, ""))
    checks = [check for _, _, claim in found.each() for check in claim.checks if check.by == "engine"]
    formulas = [text for check in checks for text in (check.holds or "", check.evidence)]
    used = {each for text in formulas for each in re.findall(r"findings\.(\w+)|findings, '(\w+)'", text)}
    assert {attribute or argument for attribute, argument in used} <= set(NAMES)
    assert not any("says(findings" in text for text in formulas)  # a sentence may be reworded
    assert used or not checks


def test_the_published_card_has_its_claims_and_a_recipe_finds_its_file() -> None:
    found, _ = claims.read(claims.chosen(None, "minimax_m2_7_nvfp4_as_run"))
    assert found.card == "NinjaBoffin/MiniMax-M2.7-NVFP4"
    assert len(list(found.each())) > 70
    assert {check.by for _, _, claim in found.each() for check in claim.checks} == {
        "plan", "card", "measurement", "engine",
    }  # fmt: skip
    assert claims.chosen(None, "nvidia_m2_7").stem == "nvidia_m2_7"
    with pytest.raises(Usage, match="no claims file names recipe=local: set claims=NAME, one of demo, "):
        claims.chosen(None, "local")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("by: plan", "by: plans", "checks.0.by: Input should be"),
        ("by: plan,", "by: engine,", "a check by engine needs serving, holds and evidence"),
        ("by: plan,", "by: document,", "needs the command that makes the document"),
        (', evidence: "{plan.model.layers}"', "", "a check by plan needs holds and evidence"),
        ("recipes: [demo]", "recipes: []", "recipes: Tuple should have at least 1 item"),
        ("card: somebody/model", "card: a\ncard: b", "it has the key card twice"),
        ("card: somebody/model", "card: a\nsurprise: 1", "surprise: Extra inputs are not permitted"),
        ("numbers: {layers: 3}", "numbers: {layers: !!python/name:os.system ''}", "could not determine"),
        ("source: their card", "source: " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("GOOD", "", "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = GOOD.replace(old, new) if old != "GOOD" else "just words"
    path = written(tmp_path, text)
    with pytest.raises(Usage) as stop:
        claims.read(path)
    assert str(path) in str(stop.value)
    assert sentence.replace("'", "") in str(stop.value).replace("'", "")
    assert "\n" not in str(stop.value)


def test_two_claims_have_two_names(tmp_path: Path) -> None:
    section = GOOD.split("claims:\n")[1].replace("  Model:", "  Again:")
    with pytest.raises(Usage, match="two claims are called layers"):
        claims.read(written(tmp_path, GOOD + section))


def test_an_alias_that_grows_is_refused_and_a_plain_one_is_not(tmp_path: Path) -> None:
    shared = GOOD.replace("- {by", "- &one {by") + (
        "    again:\n      claim: Again.\n      numbers: {layers: 3}\n      checks: [*one]\n"
    )
    found, _ = claims.read(written(tmp_path, shared))
    assert [name for _, name, _ in found.each()] == ["layers", "again"]
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]" for m, n in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(Usage, match=r"the YAML alias .a is one too many"):
        claims.read(written(tmp_path, "\n".join(lines)))


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(Usage, match=r"does not exist: set claims=NAME, one of demo, "):
        claims.read(tmp_path / "none.yaml")
    with pytest.raises(Usage, match=r"claims\.yaml"):
        claims.read(written(tmp_path, "#" * (1 << 19)))
