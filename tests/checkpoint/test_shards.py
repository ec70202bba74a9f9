"""Which safetensors files count, in a source and in a checkpoint, and what an index may say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import JSONS, bounded
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from proofcard.checkpoint.shards import (
    INDEX,
    BadIndex,
    MissingShards,
    read_index,
    weight_file_names,
    weight_files,
)
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import output_tables, read_folder
from proofcard.errors import Stop

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two indexed shards, a consolidated file and a whole one beside."""
    for value, (file, names) in enumerate(
        {
            SHARDS[0]: "ab",
            SHARDS[1]: "c",
            "consolidated.safetensors": "abc",
            "model.safetensors": "abc",
        }.items()
    ):
        save_file({name: np.full(4, value, np.float32) for name in names}, tmp_path / file)
    index(tmp_path, {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]})
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_the_index_decides(folder: Path) -> None:
    assert [path.name for path in weight_files(folder)] == list(SHARDS)
    assert [tensor.bits()[0] for tensor in read_folder(folder).values()] == [0, 0, 1]
    source = Source(folder)
    assert list(source.files()) == ["config.json", *SHARDS, INDEX]


def test_without_an_index_it_is_the_one_file_or_every_one(folder: Path) -> None:
    (folder / INDEX).unlink()
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]
    assert list(Source(folder).files()) == ["config.json", "model.safetensors"]
    (folder / "model.safetensors").unlink()
    (folder / "consolidated.safetensors").unlink()
    assert [path.name for path in weight_files(folder)] == list(SHARDS)
    assert not weight_files(folder.parent)


def test_what_is_sealed_is_of_the_files_that_count(folder: Path) -> None:
    files, tensors = output_tables(folder)
    assert {said["file"] for said in tensors.values()} == set(SHARDS)
    assert "consolidated.safetensors" in files


def test_missing_shards_are_one_sentence(folder: Path) -> None:
    names = [f"model-{n:05}-of-00030.safetensors" for n in range(1, 31)]
    for name in names[:15]:
        (folder / name).write_bytes((folder / SHARDS[1]).read_bytes())
    index(folder, {f"t.{n}": name for n, name in enumerate(names)})
    sentence = rf"lists files that are missing \(15 of 30\), starting with {names[15]}: the download"
    for reading in (read_folder, Source):
        with pytest.raises(MissingShards, match=sentence):
            reading(folder)


ELSEWHERE = (
    "../secret.safetensors", "/etc/secret.safetensors", "sub/x.safetensors", "./x.safetensors", "", ".",
    "..", ".hidden.safetensors", "config.json", "x.bin", "a\nb.safetensors", "x.safetensors/", 7, None, ["x"],
    {"file": "x"}, "https://example.com/x.safetensors", "a\0.safetensors",
)  # fmt: skip


@pytest.mark.parametrize("file", ELSEWHERE)
def test_an_index_names_files_beside_it_alone(folder: Path, file: Any) -> None:
    index(folder, {"a": SHARDS[0], "b": file})
    with pytest.raises(
        BadIndex, match=r"only \.safetensors files in its own folder|'b' has no file name"
    ) as stopped:
        read_folder(folder)
    assert str(stopped.value).isprintable()


@pytest.mark.parametrize("content", [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": None}])
def test_an_index_without_a_map(folder: Path, content: Any) -> None:
    (folder / INDEX).write_text(json.dumps(content))
    with pytest.raises(BadIndex, match="it has no weight_map"):
        read_folder(folder)


@pytest.mark.parametrize("what", JSONS)
def test_an_index_that_is_none(folder: Path, what: str) -> None:
    JSONS[what](folder / INDEX)
    with bounded(), pytest.raises(Stop, match="index"):
        read_folder(folder)


@given(
    st.dictionaries(
        st.text(max_size=5), st.text(max_size=12) | st.sampled_from([*SHARDS, *ELSEWHERE]), max_size=4
    )
    | st.none()
    | st.lists(st.text(), max_size=2)
)
@settings(max_examples=150)
def test_any_map_is_followed_or_refused(tmp_path_factory: pytest.TempPathFactory, weight_map: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "index"
    folder.mkdir(exist_ok=True)
    index(folder, weight_map)
    try:
        files = weight_file_names([*SHARDS, "config.json", INDEX], read_index(folder))
    except Stop as error:
        assert str(error).isprintable()
        return
    assert files and set(files) <= set(SHARDS)
