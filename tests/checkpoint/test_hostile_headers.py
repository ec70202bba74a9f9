"""Safetensors files that lie: a sentence, within seconds, in little memory."""

import json
import struct
from pathlib import Path

import pytest
from hostile_files import HEADERS, bounded, entry, tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from proofcard.checkpoint import tensors as module
from proofcard.checkpoint.tensors import TensorFileError, read_folder


@pytest.mark.parametrize("what", HEADERS)
def test_it_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    HEADERS[what](tmp_path / "model.safetensors")
    with bounded(), pytest.raises(TensorFileError) as stopped:
        read_folder(tmp_path)
    assert str(stopped.value).isprintable() and len(str(stopped.value)) < 500


def test_many_files_together_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._MOST_TENSORS > 2 * 276_000  # Kimi K2 in NVFP4
    monkeypatch.setattr(module, "_MOST_TENSORS", 600)
    for file in range(7):
        rows = {f"{file}.{n}": entry([0]) for n in range(100)}
        tensors(tmp_path / f"{file}.safetensors", rows)
    with pytest.raises(TensorFileError, match="too many tensors for a model: 700,"):
        read_folder(tmp_path)


NUMBERS = st.integers(-2, 9) | st.sampled_from([1 << 31, 1 << 63, 10**30]) | st.booleans() | st.floats()
ODD = st.none() | NUMBERS | st.text(max_size=3) | st.lists(NUMBERS, max_size=3)
DTYPES = st.sampled_from(["U8", "BF16", "F32", "F8_E4M3", "F4", "", "u8"]) | ODD
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": DTYPES,
        "shape": st.lists(NUMBERS, max_size=3) | ODD,
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | ODD,
    },
)
NAMES = st.text(max_size=6) | st.sampled_from(
    ["a.weight", "../a", "__metadata__", "model.layers.99999999999.w"]
)


@given(
    st.dictionaries(NAMES, ENTRIES | ODD, max_size=3).map(lambda said: json.dumps(said).encode())
    | st.binary(max_size=40),
    st.none() | st.integers(0, 1 << 64 - 1),
    st.binary(max_size=24),
)
@settings(max_examples=150)
def test_any_file_is_tensors_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, size: int | None, data: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    content = struct.pack("<Q", len(text) if size is None else size) + text + data
    (folder / "model.safetensors").write_bytes(content)
    try:
        found = read_folder(folder)
    except TensorFileError as error:
        assert str(error).isprintable()
        return
    assert sum(tensor.size for tensor in found.values()) <= len(content)
    for tensor in found.values():
        assert tensor.bits().shape == tensor.shape
        assert tensor.raw().tobytes() == content[tensor.start : tensor.start + tensor.size]


@given(st.lists(st.sampled_from(["U8", "BF16", "F32"]), min_size=1, max_size=4), st.data())
@settings(max_examples=100)
def test_one_changed_byte_of_a_true_header(
    tmp_path_factory: pytest.TempPathFactory, dtypes: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    header, end = {}, 0
    for n, dtype in enumerate(dtypes):
        size = 6 * {"U8": 1, "BF16": 2, "F32": 4}[dtype]
        header[f"layers.{n}.weight"] = entry([2, 3], end, end + size, dtype)
        end += size
    tensors(folder / "model.safetensors", header, end)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[data.draw(st.integers(0, len(content) - end - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(content)
    try:
        found = read_folder(folder)
    except TensorFileError as error:
        assert str(error).isprintable()
        return
    assert sum(tensor.size for tensor in found.values()) == end
