"""Tied embeddings: only where the source says so, by flag or class, and where what is stored is equal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.making import Tensors, Verified, edit_json, load, make_checkpoint, make_source, save

from proofcard.checkpoint import defaults, ties
from proofcard.checkpoint.source import Source
from proofcard.errors import Stop

LEVELS = ("structure", "weights")
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def changed(folder: Path, change: Callable[[Tensors], Any]) -> Path:
    tensors = load(folder)
    change(tensors)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    save(folder, tensors)
    return folder


def flag(folder: Path, tied: bool | None) -> None:
    def edit(config: dict[str, Any]) -> None:
        config.pop("tie_word_embeddings", None)
        config |= {} if tied is None else {"tie_word_embeddings": tied}

    edit_json(folder / "config.json", edit)


def pair(folder: Path, head: str | None, tied: bool | None, kept: bool = False) -> tuple[Path, Path]:
    """A Llama and its checkpoint. The source's head is `equal`, `other` or not stored; `kept`: here too."""
    source = make_source(folder / "source", "llama", fp8=False)
    if head is not None:
        shift = 0 if head == "equal" else 1
        changed(source, lambda t: t.update({HEAD: ("BF16", np.roll(t[EMBED][1], shift, axis=0).copy())}))
    made = make_checkpoint(folder / "made", source)
    for one in (source, made):
        flag(one, tied)
    if head is not None and not kept:
        changed(made, lambda t: t.pop(HEAD))
    return source, made


@pytest.mark.parametrize("with_source", [True, False])
def test_one_stands_for_both_where_the_source_ties_them(tmp_path: Path, with_source: bool) -> None:
    source, made = pair(tmp_path, None, True)
    levels = LEVELS if with_source else LEVELS[:1]
    assert Verified(made, source if with_source else None, levels).status == 0


@pytest.mark.parametrize("kept", [True, False])
def test_an_equal_head_may_be_left_out_or_kept(tmp_path: Path, kept: bool) -> None:
    source, made = pair(tmp_path, "equal", True, kept)
    assert Verified(made, source, LEVELS).status == 0


def test_a_head_that_differs_is_not_lost_silently(tmp_path: Path) -> None:
    source, made = pair(tmp_path, "other", True)
    for level in LEVELS:
        found = Verified(made, source, (level,))
        assert (found.status, found.first(level)["tensor"]) == (1, HEAD)


def test_a_head_that_differs_and_is_kept_holds_with_a_note(tmp_path: Path) -> None:
    source, made = pair(tmp_path, "other", True, kept=True)
    found = Verified(made, source, LEVELS)
    assert found.status == 0, found.screen
    assert any("stores two that differ" in note for note in found.level("weights")["notes"])
    assert Verified(made, None, LEVELS[:1]).status == 1  # an engine would take the embedding for the head


@pytest.mark.parametrize("gone", [HEAD, EMBED])
@pytest.mark.parametrize("tied", [True, None])
def test_a_flag_of_the_checkpoint_alone_excuses_nothing(tmp_path: Path, gone: str, tied: bool | None) -> None:
    """The source is untied: its checkpoint says otherwise and leaves one of both out."""
    source, made = pair(tmp_path, "other", False, kept=True)
    changed(made, lambda t: t.pop(gone))
    flag(made, tied)
    for level in LEVELS:
        found = Verified(made, source, (level,))
        assert found.status == 1
        assert gone in [d["tensor"] for d in found.differences(level)]


@pytest.mark.parametrize(("kind", "tied"), [("gemma3_text", True), ("gemma2", True), ("llama", False)])
def test_without_a_flag_the_class_decides(tmp_path: Path, kind: str, tied: bool) -> None:
    """No flag and no head: Gemma ties by default, Llama does not."""
    source, made = pair(tmp_path, None, None)
    for folder in (source, made):
        edit_json(folder / "config.json", lambda c: c.update(model_type=kind))
    found = Verified(made, None, LEVELS[:1])
    assert (found.status == 0) is tied, found.screen
    if tied:
        assert Verified(made, source, LEVELS).status == 0


def test_defaults_of_classes() -> None:
    assert defaults.tied({"model_type": "gemma3_text"}) and defaults.tied({"model_type": "nobody's"})
    assert not defaults.tied({"model_type": "mixtral"})
    assert defaults.tied({"model_type": "mixtral", "tie_word_embeddings": True})
    vision = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}
    untied = vision | {"text_config": {"tie_word_embeddings": False}}
    assert defaults.tied(vision) and not defaults.tied(untied)
    assert defaults.tied(untied | {"tie_word_embeddings": True})


@pytest.mark.parametrize(
    ("code", "tied"),
    [
        ("def __init__(self, tie_word_embeddings=False, **kwargs): pass", False),
        ("def __init__(self, *, tie_word_embeddings: bool = True): pass", True),
        ("def __init__(self, tie_word_embeddings=f()): pass", True),  # no constant: the base class's
        ("def __init__(self", True),  # no Python
    ],
)
def test_a_class_of_the_source_s_own_is_read_and_not_run(tmp_path: Path, code: str, tied: bool) -> None:
    text = f"raise SystemExit\nclass A:\n    model_type = 'own'\n    {code}\n"
    (tmp_path / "configuration_own.py").write_text(text)
    assert defaults.tied({"model_type": "own"}, tmp_path) is tied


@pytest.mark.parametrize(("names", "found"), [
    ([EMBED, HEAD], (EMBED, HEAD)),
    (["transformer.wte.weight"], ("transformer.wte.weight", None)),
    (["gpt_neox.embed_in.weight", "embed_out.weight"], ("gpt_neox.embed_in.weight", "embed_out.weight")),
    (["model.vision_tower.embeddings.weight", "model.language_model.embed_tokens.weight"],
     ("model.language_model.embed_tokens.weight", None)),
    (["model.layers.61.embed_tokens.weight", EMBED], (EMBED, None)),
])  # fmt: skip
def test_the_pair_by_name(names: list[str], found: tuple[str, str | None]) -> None:
    assert ties.pair(names) == found


def test_a_source_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    source, _ = pair(tmp_path, "other", True)
    with pytest.raises(Stop, match=r"its lm_head\.weight differs from its model\.embed_tokens\.weight"):
        ties.check(Source(source))
    flag(source, False)
    ties.check(Source(source))
