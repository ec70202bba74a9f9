"""A tensor file that is cut, changed or gone while it is read is a sentence, not a dead process."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from proofcard.checkpoint import reading
from proofcard.checkpoint.tensors import Tensor, TensorFileError, digests, read_header
from proofcard.files import Refused, Unreadable

VALUES = np.arange(1 << 18, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file({"w": VALUES}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def cut(path: Path) -> None:
    os.truncate(path, 5000)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(0, 0))


def exchanged(path: Path) -> None:
    save_file({"w": -VALUES}, path.with_name("other"))
    path.with_name("other").rename(path)


def gone(path: Path) -> None:
    path.unlink()


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


WAYS: dict[Callable[[Tensor], Any], str] = {
    lambda tensor: tensor.bits(): "bits",
    lambda tensor: tensor.raw(): "raw",
    lambda tensor: tensor.sha256(): "sha256",
    lambda tensor: list(tensor.pieces(1000)): "pieces",
}


@pytest.mark.parametrize("way", WAYS, ids=WAYS.values())
@pytest.mark.parametrize("change", [cut, grown, rewritten, exchanged, gone, linked, piped])
def test_before_it_is_first_read(path: Path, change: Any, way: Any) -> None:
    tensor = read_header(path)["w"]
    change(path)
    with pytest.raises((TensorFileError, Refused), match=r"model\.safetensors"):
        way(tensor)


@pytest.mark.parametrize("change", [cut, grown, rewritten])
def test_between_two_reads(path: Path, change: Any) -> None:
    tensor = read_header(path)["w"]
    pieces = tensor.pieces(1000)
    next(pieces)
    change(path)
    with pytest.raises(TensorFileError, match=r"was (cut|changed) while it was read"):
        list(pieces)


@pytest.mark.parametrize("change", [exchanged, gone])
def test_what_was_opened_stays_what_it_was(path: Path, change: Any) -> None:
    tensor = read_header(path)["w"]
    tensor.bits()
    change(path)
    assert np.array_equal(tensor.bits(), VALUES)


def test_a_header_read_again_is_of_the_new_file(path: Path) -> None:
    read_header(path)["w"].bits()
    exchanged(path)
    assert np.array_equal(read_header(path)["w"].bits(), -VALUES)


def test_a_fault_of_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> int:
        raise OSError(5, os.strerror(5))

    tensor = read_header(path)["w"]
    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(Unreadable, match=r"model\.safetensors cannot be read: Input/output error"):
        tensor.bits()


def test_short_reads_are_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, into, at: real(file, [into[0][:1000]], at))
    assert np.array_equal(read_header(path)["w"].bits(), VALUES)


def test_more_files_than_stay_open(tmp_path: Path) -> None:
    for number in range(reading._OPEN + 10):
        save_file({"w": VALUES[:4] + number}, tmp_path / f"{number}.safetensors")
    tensors = [read_header(file)["w"] for file in sorted(tmp_path.iterdir())]
    before = len(list(Path("/proc/self/fd").iterdir()))  # earlier tests of this process have theirs
    wrong: list[Tensor] = []

    def read() -> None:
        wrong.extend(t for _ in range(5) for t in tensors if t.bits()[0] != int(t.path.stem))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(list(Path("/proc/self/fd").iterdir())) < before + reading._OPEN + 20


def test_a_file_cut_while_it_is_hashed_is_another_digest(path: Path) -> None:
    tensors = list(read_header(path).values())
    whole, _ = digests(path, tensors)
    cut(path)
    assert digests(path, tensors)[0] != whole
