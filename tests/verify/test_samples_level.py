"""Level `samples`: a frozen set against its texts, its datasets and the checkpoint that it calibrated."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import command
from safetensors.numpy import load_file, save_file
from sealing import changed, put

from proofcard import extras, manifest
from proofcard.config import VerifyConfig, compose
from proofcard.digest import sha256_file
from proofcard.errors import Usage
from proofcard.verify import run, samples
from proofcard.verify.report import Level


def stored(tiny_llama: Path) -> Path:
    [folder] = (tiny_llama / "runs" / "samples").glob("local-*")
    return folder


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stored(tiny_llama), tmp_path / "set")


def check(tiny_llama: Path, folder: Path, sealed: bool = False, **datasets: Path) -> Level:
    body = manifest.read(tiny_llama / "checkpoint").values() if sealed else None
    return samples.check(folder, tiny_llama / "source", datasets, body, tiny_llama / "runs")


def seal_again(folder: Path, name: str) -> None:
    """Make the seal anew over a changed file, as whoever tampers would."""
    path = folder / name
    sha256, size = sha256_file(path), path.stat().st_size
    changed(
        folder, folder / manifest.NAME, put("outputs", "files", name, value={"sha256": sha256, "size": size})
    )


def test_the_set_alone_follows_from_its_texts(tiny_llama: Path) -> None:
    level = check(tiny_llama, stored(tiny_llama), sealed=True)
    assert (level.result, level.counts["samples"]) == ("holds", 8)
    assert level.counts["token ids"] > 8
    assert "datasets were not given" in level.notes[0]


def test_with_the_dataset_every_row_is_drawn_again(tiny_llama: Path, texts: Path) -> None:
    level = check(tiny_llama, stored(tiny_llama), text=texts)
    assert (level.result, level.counts["rows drawn again"], level.notes) == ("holds", 8, [])


def test_a_changed_row_of_the_dataset_is_named(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    lines = texts.read_text().splitlines()
    row = json.loads((stored(tiny_llama) / "samples.jsonl").read_text().splitlines()[3])["row"]
    lines[row] = json.dumps({"text": "w1 w2 w3"})
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    level = check(tiny_llama, stored(tiny_llama), text=tmp_path / "texts.jsonl")
    assert [one.message for one in level.findings] == [
        "dataset text is not the recorded one: its digest differs",
        f"sample 3 (text, row {row}): its text_sha256 is another one when it is drawn again",
    ]


def test_a_changed_byte_is_not_what_was_sealed(tiny_llama: Path, copy: Path) -> None:
    (copy / "texts.jsonl").write_bytes((copy / "texts.jsonl").read_bytes().replace(b"w1", b"w2", 1))
    level = check(tiny_llama, copy)
    assert level.result == "differs"
    assert "texts.jsonl differs from what was sealed" in level.findings[0].message


def tokens_swapped(folder: Path) -> str:
    held = load_file(folder / "tokens.safetensors")
    held["input_ids"][[0, 1]] = held["input_ids"][[1, 0]]
    save_file(held, folder / "tokens.safetensors")
    lines = (folder / "samples.jsonl").read_text().splitlines()
    import hashlib

    record = json.loads(lines[0])
    ids = held["input_ids"][: record["tokens"]]
    record["tokens_sha256"] = hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest()
    (folder / "samples.jsonl").write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")
    return "its token 0 does not follow from its text"


def text_exchanged(folder: Path) -> str:
    lines = (folder / "texts.jsonl").read_text().splitlines()
    (folder / "texts.jsonl").write_text("\n".join([lines[1], *lines[1:]]) + "\n")
    return "its stored text is not the one that its record names"


def cut_denied(folder: Path) -> str:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    record["truncated"] = not record["truncated"]
    (folder / "samples.jsonl").write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")
    return "it says truncated="


@pytest.mark.parametrize("tamper", [tokens_swapped, text_exchanged, cut_denied])
def test_tampering_under_a_new_seal_is_named_by_sample(
    tiny_llama: Path, copy: Path, tamper: Callable[[Path], str]
) -> None:
    said = tamper(copy)
    for name in ("samples.jsonl", "texts.jsonl", "tokens.safetensors"):
        seal_again(copy, name)
    level = check(tiny_llama, copy)
    assert level.result == "differs"
    assert level.findings[0].message.startswith("sample 0 (text, row ")
    assert said in level.findings[0].message


def test_a_set_without_texts_proves_what_was_not_cut(tiny_llama: Path, copy: Path) -> None:
    (copy / "texts.jsonl").unlink()
    changed(copy, copy / manifest.NAME, lambda body: body["outputs"]["files"].pop("texts.jsonl"))
    level = check(tiny_llama, copy)
    assert level.result == "not checked"
    cut = manifest.read(copy).statistics["truncated"]
    assert 0 < cut < 8
    assert level.unchecked[0].startswith(f"{cut} samples were truncated")


def test_another_set_than_the_checkpoint_s(tiny_llama: Path, copy: Path) -> None:
    changed(copy, copy / manifest.NAME, put("key", value="0" * 64))
    level = check(tiny_llama, copy, sealed=True)
    assert level.findings[0].message == "the checkpoint's manifest names another sample set"


def test_another_tokenizer_is_not_judged_by(tiny_llama: Path, copy: Path) -> None:
    changed(copy, copy / manifest.NAME, put("inputs", "tokenizer", value={}))
    assert "the tokenizer is not the one" in check(tiny_llama, copy).unchecked[0]


def test_what_the_level_needs_is_said_before_any_work(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        f"checkpoint={tiny_llama}/checkpoint",
        "levels=[samples]",
        f"report={tmp_path}/r.json",
        "tracking=off",
    ]
    said = command("verify", *words, cwd=tmp_path)
    assert said.returncode == 2
    assert "it needs samples=DIR" in said.stdout
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(Usage, match=r"levels=\[samples\] needs torch, which is not installed"):
        run(compose(VerifyConfig, "verify", words), None)  # type: ignore[arg-type]


def test_by_command_with_a_dataset(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    said = command(
        "verify", f"checkpoint={tiny_llama}/checkpoint", f"source={tiny_llama}/source", "levels=[samples]",
        f"samples={stored(tiny_llama)}", f"datasets.text={texts}", f"report={tmp_path}/r.json", cwd=tmp_path,
    )  # fmt: skip
    assert (said.returncode, said.stdout.splitlines()[-1]) == (0, "verified"), said.stdout
    assert np.isclose(
        json.loads((tmp_path / "r.json").read_text())["levels"]["samples"]["counts"]["samples"], 8
    )
