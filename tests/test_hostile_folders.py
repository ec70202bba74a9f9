"""A folder of somebody else, given to each command that takes one: refused by name, before any work."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import HEADERS, JSONS, bounded, sparse
from safetensors.numpy import save_file
from verify.making import make_checkpoint, make_source, reseal

from proofcard import manifest, stage
from proofcard.analyse import command as analyse
from proofcard.benchmark import measure, results
from proofcard.calibration import frozen
from proofcard.calibration.batches import read_index, read_samples
from proofcard.calibration.sample_files import INDEX, TOKENS
from proofcard.checkpoint import carried
from proofcard.checkpoint.source import Source
from proofcard.compare import command as compare
from proofcard.config.schema import Model
from proofcard.errors import Stop, Usage
from proofcard.plan import outline
from proofcard.serve import asked, engine


def plan(folder: Path) -> Any:
    model = {"name": "x", "repository": None, "revision": None, "config": None, "remote_code": {}}
    return outline.describe(Model.model_validate(model | {"path": folder, "attn_implementation": "eager"}))


def serve(folder: Path) -> Any:
    return asked.facts(folder, engine.read_config(folder))


TAKERS: dict[str, Callable[[Path], Any]] = {
    "quantize": Source,
    "plan": plan,
    "serve": serve,
    "compare": lambda folder: compare.compared(folder, folder),
    "analyse": analyse._read,
    "benchmark": measure._check_tokenizer,
}
KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "link": (lambda path: path.symlink_to("../id_ed25519"), "link to ../id_ed25519, outside"),
    "absolute link": (lambda path: path.symlink_to("/etc/passwd"), "link to /etc/passwd, outside"),
    "linked folder": (lambda path: path.symlink_to(".."), "outside"),
    "pipe": (os.mkfifo, "is a named pipe, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "outside"),
}
NAMES = (
    "config.json", "manifest.json", "tokenizer.json", "model-00001-of-00001.safetensors", "README.md",
    "merges.txt", "x.safetensors", "modeling.py", "model.safetensors.index.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "id_ed25519").write_text("secret")
    make_source(folder / "source")
    make_checkpoint(folder / "model", folder / "source", shards=1)
    said = json.loads((folder / "model" / "config.json").read_text())
    more = {"num_attention_heads": 4, "max_position_embeddings": 64, "architectures": ["X"]}
    more["num_experts_per_tok"] = 2
    (folder / "model" / "config.json").write_text(json.dumps(said | more))
    (folder / "model" / "tokenizer_config.json").write_text("{}")
    reseal(folder / "model", folder / "source")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A checkpoint beside a secret; its files are links into nothing but itself."""
    (tmp_path / "id_ed25519").write_text("secret")
    (tmp_path / "model").mkdir()
    for path in (made / "model").iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_command_refuses_it_by_name(folder: Path, name: str, kind: str) -> None:
    make, message = KINDS[kind]
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    for taker in TAKERS.values():
        with bounded(), pytest.raises(Stop, match=re.escape(name)) as stopped:
            taker(folder)
        assert message in str(stopped.value) or "is a folder, not a file" in str(stopped.value)
        assert str(stopped.value).isprintable()


def test_every_command_takes_what_is_right(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to("model")
    for given in (folder, tmp_path / "mine"):
        assert serve(given).nvfp4
        with pytest.raises(Usage, match="is already quantized"):  # a checkpoint is no source
            plan(given)
        compare.compared(given, given)
        measure._check_tokenizer(given)


@pytest.mark.parametrize("what", HEADERS)
def test_a_header(folder: Path, what: str) -> None:
    HEADERS[what](folder / "model-00001-of-00001.safetensors")
    for command in ("quantize", "serve", "compare"):
        if command == "quantize":  # a checkpoint is no source, but that is said later
            (folder / "config.json").write_text("{}")
        with bounded(), pytest.raises(Stop, match=r"safetensors|tensors"):
            TAKERS[command](folder)


@pytest.mark.parametrize("what", JSONS)
def test_a_config(folder: Path, what: str) -> None:
    JSONS[what](folder / "config.json")
    for command in ("quantize", "plan", "serve"):
        with bounded(), pytest.raises(Stop, match=r"config\.json"):
            TAKERS[command](folder)


@pytest.mark.parametrize("what", JSONS)
def test_a_manifest(folder: Path, what: str) -> None:
    JSONS[what](folder / manifest.NAME)
    for command in (TAKERS["compare"], TAKERS["analyse"], lambda path: stage.find_sealed(path, "0" * 64)):
        with bounded(), pytest.raises(Stop, match=r"manifest\.json"):
            command(folder)


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_local_experts"])
def test_counts_without_end(folder: Path, key: str) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {key: 10**11}))
    for command in ("quantize", "plan", "serve"):
        with bounded(), pytest.raises(Stop, match=f"has {key}=100000000000, but its tensors allow"):
            TAKERS[command](folder)
    for path in folder.glob("model*"):
        path.unlink()
    with bounded(), pytest.raises(Usage, match=f"has {key}=100000000000, but its tensors allow"):
        plan(folder)


def test_a_link_made_after_the_first_look_is_not_copied_either(made: Path, tmp_path: Path) -> None:
    source = Source(made / "source")
    link = made / "source" / "vocab.txt"
    link.symlink_to("../id_ed25519")
    try:
        with pytest.raises(Stop, match=r"vocab\.txt is a link to \.\./id_ed25519, outside"):
            carried.carry(source.path, source.files() | {link.name: {"size": 1, "sha256": "0"}}, tmp_path)
    finally:
        link.unlink()
    assert not list(tmp_path.iterdir())


def test_the_results_of_another(tmp_path: Path) -> None:
    for what, make in JSONS.items():
        (tmp_path / what).mkdir()
        make(tmp_path / what / results.NUMBERS)
        with bounded(), pytest.raises(Usage, match=r"has no benchmark results|is of schema"):
            results.read(tmp_path / what)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A sealed sample set of three samples."""
    folder = tmp_path / "set"
    folder.mkdir()
    save_file({"input_ids": np.arange(6, dtype=np.int32), "lengths": np.array([1, 2, 3])}, folder / TOKENS)
    (folder / INDEX).write_text('{"tokens_sha256": "0"}\n' * 3)
    sealed(folder)
    return folder


def sealed(folder: Path) -> None:
    reseal(folder)
    body = json.loads((folder / manifest.NAME).read_text()) | {"stage": "samples"}
    del body["seal"]
    (folder / manifest.NAME).write_text(manifest.seal(body))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [INDEX, TOKENS, manifest.NAME, "more.json"])
def test_a_sample_set_with_a_file_that_is_none(drawn: Path, name: str, kind: str) -> None:
    (drawn / name).unlink(missing_ok=True)
    KINDS[kind][0](drawn / name)
    with bounded(), pytest.raises(Stop, match=re.escape(name)):
        frozen.intact(drawn)


@pytest.mark.parametrize("name", [INDEX, TOKENS, manifest.NAME, "more.json"])
def test_a_sample_set_with_a_hole(drawn: Path, name: str) -> None:
    sparse(drawn / name, 20 << 30)
    with bounded(), pytest.raises(Stop, match=re.escape(name)):
        frozen.intact(drawn)


@pytest.mark.parametrize("what", JSONS)
def test_samples_that_are_no_records(drawn: Path, what: str) -> None:
    if what == "nothing":
        return
    JSONS[what](drawn / INDEX)
    with bounded(), pytest.raises(Stop, match=INDEX):
        read_index(drawn)


@pytest.mark.parametrize(
    "stored",
    [
        {"input_ids": np.arange(6, dtype=np.int32)},
        {"input_ids": np.arange(6, dtype=np.int64), "lengths": np.array([6])},
        {"input_ids": np.arange(6, dtype=np.int32), "lengths": np.array([7])},
        {"input_ids": np.arange(6, dtype=np.int32), "lengths": np.array([3, -1, 4])},
        {
            "input_ids": np.arange(6, dtype=np.int32),
            "lengths": np.array([1 << 62, 1 << 62, 1 << 62, 1 << 62, 6]),
        },
        {"input_ids": np.arange(6, dtype=np.int32), "lengths": np.array([[6]])},
        {"input_ids": np.arange(6, dtype=np.int32), "lengths": np.array([6]), "more": np.array([6])},
    ],
)
def test_tokens_that_do_not_add_up(drawn: Path, stored: dict[str, np.ndarray]) -> None:
    save_file(stored, drawn / TOKENS)
    with pytest.raises(Stop, match=r"tokens\.safetensors"):
        read_samples(drawn)


def test_samples_that_are_right(drawn: Path) -> None:
    assert [ids.tolist() for ids in read_samples(drawn)] == [[0], [1, 2], [3, 4, 5]]
    assert len(read_index(drawn)) == 3
