"""Raw tensors agree with the safetensors library, and a lying header is refused."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from proofcard.checkpoint.tensors import TensorFileError, output_tables, read_folder, read_header


def test_every_dtype_reads_as_its_bits(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    dtypes = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )  # fmt: skip
    stored = {
        f"{index}": (torch.randn(3, 5, generator=generator) * 3).to(dtype)
        for index, dtype in enumerate(dtypes)
    } | {"empty": torch.empty(0, 4), "scalar": torch.tensor(2.5)}
    save_file(stored, tmp_path / "a.safetensors")
    read = read_header(tmp_path / "a.safetensors")
    assert read.keys() == stored.keys()
    for name, tensor in stored.items():
        raw = bytes(tensor.flatten().view(torch.uint8).numpy()) if tensor.numel() else b""
        assert read[name].bits().tobytes() == raw
        assert read[name].sha256() == hashlib.sha256(raw).hexdigest()
        assert read[name].bits().shape == read[name].shape == tuple(tensor.shape)


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    for file in ("a", "b"):
        save_file({"w": torch.zeros(2)}, tmp_path / f"{file}.safetensors")
    with pytest.raises(TensorFileError, match=r"w is in both a.safetensors and b.safetensors"):
        read_folder(tmp_path)


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(TensorFileError, match=r"no \.safetensors file"):
        read_folder(tmp_path)


def write(path: Path, header: object, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def entry(first: int, last: int, shape: list[int], dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "data", "sentence"),
    [
        (b"{", b"", "bad header"),
        (b"[1]", b"", "bad header"),
        ({"a": entry(0, 4, [4])}, b"123", "header describes"),
        ({"a": entry(0, 4, [4])}, b"12345", "header describes"),
        ({"a": entry(0, 3, [4])}, b"123", "its shape needs 4"),
        ({"a": entry(0, 2, [2]), "b": entry(1, 3, [2])}, b"123", "expected"),
        ({"a": entry(1, 3, [2])}, b"123", "expected"),
        ({"a": entry(0, 2, [2], "F9")}, b"12", "bad header"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object, data: bytes, sentence: str) -> None:
    write(tmp_path / "a.safetensors", header, data)
    with pytest.raises(TensorFileError, match=sentence):
        read_header(tmp_path / "a.safetensors")


def test_a_stub_of_a_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"1234", struct.pack("<Q", 1 << 40)):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(TensorFileError, match="extends past its end"):
            read_header(tmp_path / "a.safetensors")


def test_the_table_is_sorted_and_digests_bytes(tmp_path: Path) -> None:
    save_file({"b": torch.ones(2, 2), "a": torch.zeros(1, dtype=torch.bfloat16)}, tmp_path / "m.safetensors")
    _, table = output_tables(tmp_path)
    assert list(table) == ["a", "b"]
    assert table["b"] == {
        "file": "m.safetensors",
        "dtype": "F32",
        "shape": [2, 2],
        "sha256": hashlib.sha256(np.ones(4, "<f4").tobytes()).hexdigest(),
    }
