"""Paths and texts of any form reach the configuration as they are, and what we print can be pasted."""

import shlex
from pathlib import Path

import pytest

from proofcard.config import QuantizeConfig, VerifyConfig, compose
from proofcard.config.spelling import spelled
from proofcard.errors import Usage
from proofcard.pasted import command, override, unquoted

PATHS = (
    "/data/model", "/data/my model", "/data/a=b", "/data/it's", '/data/say "so"', "/data/é/模型", "/data/a,b",
    "/data/a(b)[c]{d}", "/data/a#b&c;d!", "/data/back\\slash", '/data/odd\\"', "/data/ends\\", "~x", "1e5",
    "/data/$HOME", "/data/ two  blanks ", "null.d", "true", "-dash", "/data/*?",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_taken_as_it_is(path: str) -> None:
    assert compose(VerifyConfig, "verify", [f"checkpoint={path}"]).checkpoint == Path(path)


@pytest.mark.parametrize("path", PATHS)
def test_what_is_printed_can_be_pasted(path: str) -> None:
    words = shlex.split(command("verify", checkpoint=path, source=path))
    assert words[:2] == ["proofcard", "verify"]
    config = compose(VerifyConfig, "verify", words[2:])
    assert config.checkpoint == config.source == Path(path)
    assert unquoted(words[2].partition("=")[2]) == path


def test_plain_paths_are_printed_plainly() -> None:
    assert override("checkpoint", "runs/checkpoints/demo-5f4b") == "checkpoint=runs/checkpoints/demo-5f4b"
    assert override("checkpoint", "my model") == """'checkpoint="my model"'"""


@pytest.mark.parametrize(
    ("word", "becomes"),
    [
        ("levels=weights", "levels=[weights]"),
        ("levels=weights,structure", "levels=[weights,structure]"),
        ("levels=[weights]", "levels=[weights]"),
        ("levels=null", "levels=null"),
        ("layers=0,17", "layers=[0,17]"),
        ("datasets.my texts=a b", "datasets.my texts=\"a b\""),
        ("work_dir=${oc.env:HOME}", "work_dir=${oc.env:HOME}"),
        ('report="a b"', 'report="a b"'),
        ("identify=true", "identify=true"),
        ("unknown=a b", "unknown=a b"),
        ("checkpoint=null", "checkpoint=null"),
    ],
)  # fmt: skip
def test_only_what_hydra_would_misread_is_changed(word: str, becomes: str) -> None:
    assert spelled(VerifyConfig, [word]) == [becomes]


def test_several_values_of_a_sweep_stay_several() -> None:
    assert spelled(QuantizeConfig, ["model.path=/a,/b"], sweeps=True) == ["model.path=/a,/b"]
    assert spelled(QuantizeConfig, ["model.path=/a,/b"]) == ['model.path="/a,/b"']


def test_a_path_in_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert compose(VerifyConfig, "verify", ["checkpoint=~/model"]).checkpoint == Path("/home/x/model")


def test_one_level_is_enough_and_a_wrong_one_is_named() -> None:
    assert compose(VerifyConfig, "verify", ["checkpoint=/x", "levels=weights"]).levels == ("weights",)
    with pytest.raises(Usage, match="it must be 'integrity', 'structure', 'weights'"):
        compose(VerifyConfig, "verify", ["checkpoint=/x", "levels=wieghts"])


def test_an_unknown_key_gets_the_command_s_own_keys_alone() -> None:
    with pytest.raises(
        Usage, match="unknown key 'frobnicate': choose one of activations, certificate_chain, checkpoint"
    ) as stop:
        compose(VerifyConfig, "verify", ["checkpoint=/x", "frobnicate=1"])
    assert not {"hydra", "kv_cache", "recipe", "engine"} & set(str(stop.value).replace(",", "").split())
