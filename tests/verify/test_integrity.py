"""Whatever is done to a sealed folder is found, and its place is named."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from verify.making import W2, Verified, edit_json, load, reseal, save

from proofcard import files, manifest
from proofcard.checkpoint.tensors import read_folder, read_header
from proofcard.verify.integrity import Seal, check

ONLY = ("integrity",)


def flips(path: Path, count: int) -> list[tuple[int, int]]:
    """Positions and bits: the first bytes, the last one, and a sample of those between."""
    size = path.stat().st_size
    some = random.Random(path.name)
    positions = {*range(min(16, size)), size - 1, *(some.randrange(size) for _ in range(count))}
    return [(position, some.randrange(8)) for position in sorted(positions)]


@pytest.fixture
def harmed(checkpoint: Path) -> Any:
    """A function that flips one bit of a file until the next call."""
    last: list[tuple[Path, bytes]] = []

    def harm(name: str, position: int, bit: int) -> None:
        for path, content in last:
            path.write_bytes(content)
        content = (checkpoint / name).read_bytes()
        last[:] = [(checkpoint / name, content)]
        flipped = bytearray(content)
        flipped[position] ^= 1 << bit
        (checkpoint / name).write_bytes(flipped)

    return harm


FILES = (
    "config.json", "hf_quant_config.json", "manifest.json", "modeling.py", "tokenizer.json",
    "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
)  # fmt: skip


def test_the_files_are_all_there_is(pristine: Path) -> None:
    assert sorted(FILES) == sorted(path.name for path in pristine.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_found_and_placed(checkpoint: Path, harmed: Any, name: str) -> None:
    tensors = read_header(checkpoint / name).values() if name.endswith(".safetensors") else []
    for position, bit in flips(checkpoint / name, 30):
        harmed(name, position, bit)
        level = check(checkpoint, Seal(checkpoint), 1)
        assert level.result == "differs", (position, bit)
        assert {finding.file for finding in level.findings} == {name}
        inside = [t.name for t in tensors if t.start <= position < t.start + t.size]
        if inside:
            assert [finding.tensor for finding in level.findings] == inside
        elif not tensors:
            assert [finding.tensor for finding in level.findings] == [None]


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_crashes_any_level(checkpoint: Path, source: Path, harmed: Any, name: str) -> None:
    for position, bit in flips(checkpoint / name, 12)[::4]:
        harmed(name, position, bit)
        assert Verified(checkpoint, source).status == 1, (position, bit)


def test_every_bit_of_a_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "one.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    reseal(folder)
    path = folder / manifest.NAME
    sealed = path.read_bytes()
    assert check(folder, Seal(folder), 1).result == "holds"
    for position in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            level = check(folder, Seal(folder), 1)
            assert [(level.result, f.file) for f in level.findings] == [("differs", manifest.NAME)]


def test_what_was_sealed_holds(checkpoint: Path) -> None:
    verified = Verified(checkpoint, levels=ONLY)
    assert (verified.status, verified.report["result"]) == (0, "verified")
    counts = verified.level("integrity")["counts"]
    assert counts["files"] == len(FILES) - 1
    assert counts["tensors"] == len(read_folder(checkpoint))
    assert verified.report["manifest"]["key"] == "0" * 64


def test_missing_and_extra_are_listed_by_name(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "notes.txt").write_text("mine")
    (checkpoint / "link").symlink_to("config.json")
    (checkpoint / "nothing").mkdir()
    (checkpoint / "sub").mkdir()
    (checkpoint / "sub" / "file").write_text("")
    (checkpoint / ".hidden").write_text("")
    found = Verified(checkpoint, levels=ONLY)
    assert found.status == 1
    listed = {(d["kind"], d["file"]) for d in found.differences("integrity")}
    assert listed == {
        ("missing", "tokenizer.json"), ("extra", "notes.txt"), ("extra", "link"), ("extra", "nothing/"),
        ("extra", "sub/file"), ("extra", ".hidden"),
    }  # fmt: skip
    assert found.level("integrity")["differences"] | {"listed": [], "groups": []} == {
        "total": 6, "missing": 1, "extra": 5, "mismatched": 0, "listed": [], "groups": [],
    }  # fmt: skip


def test_a_link_under_a_sealed_name_is_followed_into_the_hub_s_cache(
    checkpoint: Path, tmp_path: Path
) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "c0ffee", tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in checkpoint.iterdir():
        path.rename(blobs / f"blob-of-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/blob-of-{path.name}")
    assert Verified(snapshot, levels=ONLY).status == 0
    (blobs / "blob-of-tokenizer.json").unlink()
    found = Verified(snapshot, levels=ONLY).first("integrity")
    assert (found["kind"], found["file"]) == ("missing", "tokenizer.json")
    assert "which does not exist" in found["message"]


def test_a_link_out_of_the_folder_is_not_followed(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer.json").rename(tmp_path / "blob")
    (checkpoint / "tokenizer.json").symlink_to(tmp_path / "blob")
    found = Verified(checkpoint, levels=ONLY)
    assert (found.status, found.first("integrity")["file"]) == (1, "tokenizer.json")
    assert "is a link to" in found.first("integrity")["message"]


@pytest.mark.parametrize("size", [0, 7, 3000, -1, -5])
def test_a_shard_cut_short(checkpoint: Path, size: int) -> None:
    path = checkpoint / FILES[-1]
    path.write_bytes(path.read_bytes()[:size])
    found = Verified(checkpoint, levels=ONLY)
    assert (found.status, found.first("integrity")["file"]) == (1, path.name)
    assert "header" in found.first("integrity")["message"]


def test_another_length_is_said(checkpoint: Path) -> None:
    with (checkpoint / "modeling.py").open("a") as file:
        file.write("#")
    assert (
        Verified(checkpoint, levels=ONLY).first("integrity")["message"]
        == "it has 16 bytes, but 15 were sealed"
    )


def test_a_header_changed_alone(checkpoint: Path) -> None:
    path = checkpoint / FILES[-1]
    path.write_bytes(path.read_bytes().replace(b'{"format":"pt"}', b'{"format":"tf"}'))
    (found,) = Verified(checkpoint, levels=ONLY).differences("integrity")
    assert (found["file"], found["tensor"]) == (path.name, None)
    assert "its header, differ; every tensor in it is what was sealed" in found["message"]


def test_swapped_tensors(checkpoint: Path) -> None:
    tensors = load(checkpoint)
    one, other = f"{W2}.weight", f"{W2.replace('experts.2', 'experts.1')}.weight"
    tensors[one], tensors[other] = tensors[other], tensors[one]
    save(checkpoint, tensors, 2)
    found = Verified(checkpoint, levels=ONLY)
    assert {d["tensor"] for d in found.differences("integrity")} == {one, other}


def test_a_tensor_lost_and_one_gained(checkpoint: Path) -> None:
    tensors = load(checkpoint)
    tensors["more.weight"] = tensors.pop(f"{W2}.weight")
    save(checkpoint, tensors, 2)
    found = {(d["kind"], d["tensor"]) for d in Verified(checkpoint, levels=ONLY).differences("integrity")}
    assert {("missing", f"{W2}.weight"), ("extra", "more.weight")} <= found


def test_an_unsealed_checkpoint(checkpoint: Path, source: Path) -> None:
    (checkpoint / manifest.NAME).unlink()
    every = Verified(checkpoint, source)
    assert (every.status, every.report["result"], every.report["manifest"]) == (2, "not checked", None)
    assert "never sealed" in every.level("integrity")["unchecked"]["listed"][0]
    assert every.level("weights")["result"] == "holds"
    without = Verified(checkpoint, source, ("structure", "weights"))
    assert (without.status, without.level("integrity")["result"]) == (0, "not requested")


def outputs(change: Any) -> Any:
    return lambda body: change(body["outputs"])


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(outputs=[]),
        outputs(lambda o: o.pop("tensors")),
        outputs(lambda o: o["files"].update(x=1)),
        outputs(lambda o: next(iter(o["tensors"].values())).pop("dtype")),
        outputs(lambda o: next(iter(o["tensors"].values())).update(sha256="0")),
        outputs(lambda o: next(iter(o["tensors"].values())).update(file="elsewhere")),
        outputs(lambda o: o["files"].update({"../../outside": {"size": 1, "sha256": "0"}})),
    ],
)
def test_a_manifest_sealed_anew_over_nonsense(checkpoint: Path, change: Any) -> None:
    body = json.loads((checkpoint / manifest.NAME).read_text())
    del body["seal"]
    change(body)
    (checkpoint / manifest.NAME).write_text(manifest.seal(body))
    assert Verified(checkpoint, levels=ONLY).status == 1


@pytest.mark.parametrize(
    "change",
    [
        outputs(lambda o: o["tensors"][f"{W2}.weight"].update(dtype="I8")),
        outputs(lambda o: o["tensors"][f"{W2}.weight"].update(shape=[1])),
        outputs(lambda o: o["tensors"].pop(f"{W2}.weight")),
        outputs(lambda o: o["tensors"].update({"more": o["tensors"][f"{W2}.weight"]})),
    ],
)
def test_a_file_as_sealed_under_a_table_of_other_tensors(checkpoint: Path, change: Any) -> None:
    """Its digest holds, so no tensor is hashed; the inventory is compared all the same."""
    body = json.loads((checkpoint / manifest.NAME).read_text())
    del body["seal"]
    change(body)
    (checkpoint / manifest.NAME).write_text(manifest.seal(body))
    found = Verified(checkpoint, levels=ONLY)
    assert (found.status, found.first("integrity")["file"]) == (1, FILES[-1])


def test_what_cannot_be_read_is_not_called_different(checkpoint: Path, monkeypatch: Any) -> None:
    opened = os.open

    def failing(path: Any, *how: Any, **more: Any) -> Any:
        if Path(path).name == "tokenizer.json":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *how, **more)

    monkeypatch.setattr(files.os, "open", failing)
    found = Verified(checkpoint, levels=ONLY)
    assert found.status == 2
    (why,) = found.level("integrity")["unchecked"]["listed"]
    assert "tokenizer.json" in why and str(checkpoint) not in why
    shutil.move(checkpoint / "modeling.py", checkpoint / "renamed.py")
    assert Verified(checkpoint, levels=ONLY).status == 1  # a difference outweighs it


def test_an_edited_json_names_its_file(checkpoint: Path) -> None:
    edit_json(checkpoint / "config.json", lambda content: content.update(num_hidden_layers=3))
    assert Verified(checkpoint, levels=ONLY).first("integrity")["file"] == "config.json"


@pytest.mark.parametrize(
    "name",
    ["README.md", ".gitattributes", "model.sig", ".eval_results/x.yaml", ".cache/huggingface/a/b.lock"],
)  # fmt: skip
def test_a_card_a_signature_and_a_download_s_cache_stand_beside(checkpoint: Path, name: str) -> None:
    path = checkpoint / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("beside")
    verified = Verified(checkpoint, None, ("integrity",))
    assert verified.status == 0, verified.screen
    assert verified.level("integrity")["notes"] == [f"beside the sealed files, not part of them: {name}"]


def test_a_link_to_elsewhere_does_not_stand_beside(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (checkpoint / "README.md").symlink_to(tmp_path / "secret")
    assert Verified(checkpoint, None, ("integrity",)).status == 1
