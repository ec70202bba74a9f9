"""Whatever stands in a checkpoint or a source, `verify` ends soon, with a sentence, not with `verified`."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hostile_files import HEADERS, JSONS, bounded, sparse
from verify.making import Verified, edit_json, make_source

from proofcard import manifest
from proofcard.checkpoint.shards import INDEX

SHARD = "model-00002-of-00002.safetensors"
UNSEALED = ("structure", "weights")


def checked(*arguments: Any) -> Verified:
    with bounded():
        found = Verified(*arguments)
    assert found.status in (1, 2), found.screen
    assert "\x1b" not in found.screen and "Traceback" not in found.screen
    return found


@pytest.mark.parametrize("what", HEADERS)
def test_a_shard(checkpoint: Path, source: Path, what: str) -> None:
    HEADERS[what](checkpoint / SHARD)
    found = checked(checkpoint, source)
    assert found.level("integrity")["result"] == "differs"
    assert found.level("structure")["result"] != "holds"
    assert found.level("weights")["result"] != "holds"


SOME = 3
"""Every third kind is put in the place of each file but config.json, which gets them all."""


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *(("config.json", what) for what in JSONS),
        *(("hf_quant_config.json", what) for what in list(JSONS)[::SOME]),
        *((INDEX, what) for what in list(JSONS)[1::SOME]),
        *((manifest.NAME, what) for what in list(JSONS)[2::SOME]),
        *(("tokenizer.json", what) for what in list(JSONS)[::SOME]),
    ],
)
def test_a_file_of_json(checkpoint: Path, source: Path, name: str, what: str) -> None:
    JSONS[what](checkpoint / name)
    found = checked(checkpoint, source)
    assert found.level("integrity")["result"] == "differs"


@pytest.mark.parametrize("what", JSONS)
@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_a_source_s_json(checkpoint: Path, tmp_path: Path, source: Path, name: str, what: str) -> None:
    folder = Path(shutil.copytree(source, tmp_path / "harmed"))
    JSONS[what](folder / name)
    found = checked(checkpoint, folder)
    assert found.level("integrity")["result"] == "holds"
    assert found.level("weights")["result"] == "not checked"


SPECIAL = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link out": lambda path: path.symlink_to("../source/model/config.json"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
}
NAMES = ("README.md", "merges.txt", "generation_config.json", "other.safetensors", "modeling_x.py")


@pytest.mark.parametrize("what", SPECIAL)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_none(checkpoint: Path, source: Path, name: str, what: str) -> None:
    SPECIAL[what](checkpoint / name)
    found = checked(checkpoint, source)
    assert found.level("integrity")["differences"]["extra"] == 1
    assert found.level("structure")["result"] == "differs"
    folder = Path(shutil.copytree(source, checkpoint.parent / "harmed"))
    SPECIAL[what](folder / name)
    assert checked(checkpoint, folder).level("weights")["result"] == "not checked"


@pytest.mark.parametrize("size", [20 << 30, 1 << 43])
@pytest.mark.parametrize("name", [SHARD, "tokenizer.json", "modeling.py", INDEX])
def test_a_hole_under_a_sealed_name(checkpoint: Path, name: str, size: int) -> None:
    begins = (checkpoint / name).read_bytes()
    sparse(checkpoint / name, size, begins)
    found = checked(checkpoint)
    assert found.differences("integrity")[0]["file"] == name


def test_numbers_of_layers_and_experts_are_only_what_a_file_says(checkpoint: Path) -> None:
    for key in ("num_hidden_layers", "num_local_experts"):
        for number in (10**11, 10**30, 0, -5):
            edit_json(checkpoint / "config.json", lambda said, k=key, n=number: said.update({k: n}))
            found = checked(checkpoint, None, UNSEALED)
            assert found.level("structure")["differences"]["total"] < 200
        edit_json(
            checkpoint / "config.json", lambda said, k=key: said.update({k: 2 + (k != "num_hidden_layers")})
        )


def test_a_shard_that_is_missing_is_one_sentence(checkpoint: Path, source: Path) -> None:
    (checkpoint / SHARD).unlink()
    found = checked(checkpoint, source, UNSEALED)
    for level in UNSEALED:
        (one,) = found.differences(level)
        assert (one["kind"], one["file"]) == ("missing", INDEX)
        assert one["message"].startswith(
            f"{INDEX} lists files that are missing (1 of 2), starting with {SHARD}: "
        )


def test_names_that_draw_on_the_screen(checkpoint: Path, source: Path) -> None:
    for name in ("a\nverified", "\x1b[2Jx", "[bold]x[bold]", "\u202ex", "a'b\"c d"):
        (checkpoint / name).write_text("")
    found = checked(checkpoint, source)
    assert found.level("integrity")["differences"]["extra"] == 5
    assert found.path.read_text().isprintable() is False  # its own new lines
    assert all(d["file"].isprintable() for d in found.differences("integrity"))


def test_a_name_that_is_not_utf_8(checkpoint: Path, source: Path) -> None:
    Path(os.fsdecode(bytes(checkpoint) + b"/\xff.txt")).write_text("")
    found = checked(checkpoint, source)
    assert found.first("integrity")["file"] == "\\udcff.txt"


def test_a_source_that_is_cut_while_it_is_read(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proofcard.verify import strips

    folder = make_source(tmp_path / "harmed")
    real = strips._Weight.match

    def cutting(weight: Any, *more: Any) -> Any:
        for path in folder.glob("*.safetensors"):
            os.truncate(path, 4000)
        return real(weight, *more)

    monkeypatch.setattr(strips._Weight, "match", cutting)
    found = checked(checkpoint, folder, UNSEALED)
    assert found.level("weights")["result"] == "not checked"
    said = found.level("weights")["unchecked"]["listed"]  # whoever reads after the first finds it changed
    assert any("was cut while it was read" in line or "was changed since" in line for line in said)


@pytest.mark.parametrize("change", [
    lambda body: body.update(config=[]),
    lambda body: body["outputs"]["files"].update({"/etc/passwd": {"size": 1, "sha256": "0"}}),
    lambda body: body["outputs"]["files"].update({"a/../../b": {"size": 1, "sha256": "0"}}),
    lambda body: body["outputs"]["files"].update({"a\0b": {"size": 1, "sha256": "0"}}),
    lambda body: body["outputs"]["files"].update({"a": {"size": -1, "sha256": "0"}}),
    lambda body: body["outputs"]["files"].update({"a": {"size": True, "sha256": "0"}}),
    lambda body: next(iter(body["outputs"]["tensors"].values())).update(shape=[None]),
    lambda body: body.update(statistics=None),
    lambda body: body.update(key=7),
])  # fmt: skip
def test_a_manifest_sealed_over_something_else(checkpoint: Path, change: Any) -> None:
    body = json.loads((checkpoint / manifest.NAME).read_text())
    del body["seal"]
    change(body)
    (checkpoint / manifest.NAME).write_text(manifest.seal(body))
    found = checked(checkpoint)
    assert "is not a valid manifest of this version" in found.first("integrity")["message"]
