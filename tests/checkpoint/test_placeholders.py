"""Files that stand before their bytes are here: digests in any pieces, what stays, what is refused."""

import hashlib
import json
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proofcard.checkpoint.placeholders import SMALL, Placeholder
from proofcard.checkpoint.repository import HubFile
from proofcard.errors import Stop

SIZES = {"a.weight": 70_001, "a.scale": 4, "b.weight": 50_000, "b.none": 0, "c.scale": 4, "c.weight": 9_999}


def shard() -> bytes:
    """A safetensors file of such tensors."""
    header, at = {}, 0
    for name, size in SIZES.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + np.random.default_rng(1).bytes(at)


class Sender:
    """A repository that sends one file, in pieces of these sizes in turn."""

    def __init__(self, content: bytes, pieces: tuple[int, ...] = (1 << 20,), cut: int | None = None) -> None:
        self.content, self.pieces, self.cut, self.sent = content, pieces, cut, 0

    def __str__(self) -> str:
        return "org/made@000000000000"

    def span(self, file: str, first: int, last: int) -> bytes:
        return self.content[first : last + 1]

    def stream(self, file: str, sink: Any) -> None:
        end, turn = len(self.content) if self.cut is None else self.cut, 0
        while (place := sink.tell()) < end:
            piece = self.content[place : min(end, place + self.pieces[turn % len(self.pieces)])]
            self.sent += sink.write(piece)
            turn += 1
        if self.cut is not None:
            raise ConnectionError("cut")


def placeholder(folder: Path, content: bytes, sender: Any, lfs: bool = True) -> Placeholder:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    promised = HubFile(len(content), hashlib.sha256(content).hexdigest() if lfs else None, blob)
    made = Placeholder("x.safetensors", folder / "x.safetensors", folder / "record", promised)
    made.create(sender)
    return made


def expected(content: bytes) -> dict[str, str]:
    at = len(content) - sum(SIZES.values())
    found = {}
    for name, size in SIZES.items():
        found[name] = hashlib.sha256(content[at : at + size]).hexdigest()
        at += size
    return found


@pytest.mark.parametrize("lfs", [True, False])
@pytest.mark.parametrize("pieces", [(1 << 20,), (1,), (7, 70_000, 1), (4096, 3)])
def test_digests_do_not_depend_on_the_pieces(tmp_path: Path, pieces: tuple[int, ...], lfs: bool) -> None:
    content = shard()
    made = placeholder(tmp_path, content, sender := Sender(content, pieces), lfs)
    assert made.path.stat().st_size == len(content) and not made.here
    if pieces == (1,):
        sender.pieces = (997,)  # one by one takes too long
    made.bring(sender, lambda count: None)
    assert made.here and made.path.read_bytes() == content
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    assert made.inside == expected(content)


@pytest.mark.parametrize("cut", [1, 60_000, 110_000])
def test_it_goes_on_in_another_process(tmp_path: Path, cut: int) -> None:
    content = shard()
    first = Sender(content, (10_000,), cut)
    with pytest.raises(ConnectionError):
        placeholder(tmp_path, content, first).bring(first, lambda count: None)
    second = Sender(content, (3_000,))
    again = placeholder(tmp_path, content, second)
    assert again.came == cut
    again.bring(second, lambda count: None)
    assert second.sent == len(content) - cut
    assert again.inside == expected(content)


@pytest.fixture(params=["punched", "cut"])
def freed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On filesystems that can free bytes inside a file, and on those that cannot."""
    if request.param == "cut":
        monkeypatch.setattr("proofcard.checkpoint.placeholders.punched", lambda *_: False)


@pytest.mark.usefixtures("freed")
def test_small_tensors_and_the_header_stay(tmp_path: Path) -> None:
    content = shard()
    made = placeholder(tmp_path, content, Sender(content))
    made.bring(Sender(content), lambda count: None)
    made.drop()
    left = made.path.read_bytes()
    assert len(left) == len(content) and not made.here and made.passed
    for tensor in made.tensors:
        part = slice(tensor.start, tensor.start + tensor.size)
        assert left[part] == (content[part] if tensor.size <= SMALL else bytes(tensor.size))
        if tensor.size:
            assert made.tensor_at(tensor.start + tensor.size - 1) == tensor
    known = placeholder(tmp_path, content, None)  # asks nothing
    assert known.passed and known.inside == expected(content)


def test_its_length_and_its_header_are_the_same_at_any_time(tmp_path: Path) -> None:
    content = shard()
    made = placeholder(tmp_path, content, Sender(content))
    other = bytes(byte ^ 1 for byte in content)
    start = min(tensor.start for tensor in made.tensors)
    looks, stop = 0, threading.Event()

    def look() -> None:
        nonlocal looks
        while not stop.is_set():
            assert made.path.stat().st_size == len(content)
            assert made.path.read_bytes()[:start] == content[:start]
            looks += 1

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            for _ in range(200):
                made.bring(Sender(content, (10, 50_000)), lambda count: None)
                made.drop()
                with pytest.raises(Stop):
                    made.bring(Sender(other, (10, 50_000)), lambda count: None)
        finally:
            stop.set()
        looking.result()
    assert looks > 10


def test_what_is_dropped_takes_no_space(tmp_path: Path) -> None:
    content = shard()
    made = placeholder(tmp_path, content, Sender(content))
    made.bring(Sender(content), lambda count: None)
    before = made.path.stat().st_blocks
    made.drop()
    assert before - made.path.stat().st_blocks > 100_000 // 512


@pytest.mark.usefixtures("freed")
def test_other_bytes_leave_nothing_but_the_header(tmp_path: Path) -> None:
    content = shard()
    made = placeholder(tmp_path, content, Sender(content))
    with pytest.raises(Stop, match=r"x.safetensors came with digest"):
        made.bring(Sender(bytes(byte ^ 1 for byte in content)), lambda count: None)
    start = min(tensor.start for tensor in made.tensors)
    assert made.path.read_bytes() == content[:start] + bytes(len(content) - start)
    with pytest.raises(Stop, match=r"more than the 1[0-9,]+ bytes that the hub promised"):
        made.bring(Sender(content + b"x"), lambda count: None)


def test_a_damaged_record_counts_for_nothing(tmp_path: Path) -> None:
    content = shard()
    placeholder(tmp_path, content, Sender(content)).bring(Sender(content), lambda count: None)
    (tmp_path / "record").write_text('{"came": 10000000000}')
    assert placeholder(tmp_path, content, Sender(content)).came == 0
