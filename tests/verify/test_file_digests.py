"""Files that are hashed behind the comparison have the digests, and findings, of files hashed alone."""

import hashlib
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from verify.making import Verified
from waiting import until

from proofcard.checkpoint.tensors import read_folder, read_header
from proofcard.verify import file_digests, integrity, weights
from proofcard.verify.file_digests import FileDigests

SHARD = "model-00002-of-00002.safetensors"
BOTH, ALONE = ("integrity", "weights"), ("integrity",)


@pytest.fixture(params=[(7, 20), (1 << 20, 1 << 25)])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashed in pieces and turns of a few bytes, or whole."""
    for name, value in zip(("_PIECE", "_TURN"), request.param, strict=True):
        monkeypatch.setattr(file_digests, name, value)


def digests_of(folder: Path) -> FileDigests:
    return FileDigests(folder, {path.name: path.stat().st_size for path in folder.iterdir()})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("threads", [1, 8])
def test_whatever_order_tensors_are_compared_in(checkpoint: Path, threads: int) -> None:
    hashed, tensors = digests_of(checkpoint), list(read_folder(checkpoint).values())
    random.Random(threads).shuffle(tensors)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda tensor: hashed.follow([tensor]), tensors))
    for path in checkpoint.glob("*.safetensors"):
        ticks: list[int] = []
        assert hashed.finished(path.name, ticks.append) == sha256(path)
        assert sum(ticks) == path.stat().st_size
    assert hashed.finished("config.json", print) is None


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("most", [30, 1 << 30])
def test_what_is_hashed_before_anything_is_compared(
    checkpoint: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "_AHEAD", most)
    hashed, shards = digests_of(checkpoint), sorted(checkpoint.glob("*.safetensors"))
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), hashed.ahead():
        until(lambda: hashed_bytes(hashed) >= min(most, sum(path.stat().st_size for path in shards)))
        raise KeyboardInterrupt
    assert threading.active_count() == before
    assert hashed_bytes(hashed) < most + file_digests._PIECE
    hashed.follow(read_folder(checkpoint).values())
    assert [hashed.finished(path.name, lambda _: None) for path in shards] == [*map(sha256, shards)]


def hashed_bytes(hashed: FileDigests) -> int:
    return sum(running._place for running in list(hashed._named.values()))


def test_nothing_is_hashed_ahead_once_tensors_are_compared(checkpoint: Path) -> None:
    hashed = digests_of(checkpoint)
    hashed.follow([])
    with hashed.ahead():
        pass
    assert hashed_bytes(hashed) == 0


def test_a_file_of_the_same_name_elsewhere_does_not_count(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / SHARD).write_bytes((checkpoint / SHARD).read_bytes())
    hashed = digests_of(checkpoint)
    hashed.follow(read_header(tmp_path / SHARD).values())
    assert hashed.finished(SHARD, lambda _: None) is None
    tensors = read_header(checkpoint / SHARD)
    hashed.follow([next(iter(tensors.values())), *read_header(tmp_path / SHARD).values()])
    assert hashed.finished(SHARD, lambda _: None) == sha256(checkpoint / SHARD)


def replaced(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def touched(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def cut(path: Path) -> None:
    os.truncate(path, 100)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("change", [replaced, touched, cut, grown, Path.unlink])
@pytest.mark.parametrize("begun", ["ahead", "behind", "not"])
def test_a_file_that_is_another_by_now_is_left_to_be_read_again(
    checkpoint: Path, change: Callable[[Path], Any], begun: str
) -> None:
    hashed, tensors = digests_of(checkpoint), read_header(checkpoint / SHARD)
    first, *_, last = sorted(tensors.values(), key=lambda tensor: tensor.start)
    if begun == "ahead":
        with hashed.ahead():
            until(lambda: SHARD in hashed._named)
    if begun == "behind":
        hashed.follow([first])
    change(checkpoint / SHARD)
    hashed.follow([last])
    assert hashed.finished(SHARD, lambda _: None) is None


def test_a_file_of_another_size_than_sealed_is_not_hashed(checkpoint: Path) -> None:
    hashed = FileDigests(checkpoint, {SHARD: 1})
    hashed.follow(read_header(checkpoint / SHARD).values())
    assert hashed.finished(SHARD, lambda _: None) is None


def test_no_shard_is_read_again(checkpoint: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    really = integrity.digests

    def noting(path: Path, *more: Any) -> Any:
        read.append(path.name)
        return really(path, *more)

    monkeypatch.setattr(integrity, "digests", noting)
    assert Verified(checkpoint, source, BOTH).status == 0
    assert read and not [name for name in read if name.endswith(".safetensors")]


def test_every_kind_of_byte_is_placed_as_without(checkpoint: Path, source: Path) -> None:
    """One bit at the first and last byte of a tensor of each kind, of the header, and of what pads it."""
    path = checkpoint / SHARD
    content, tensors = path.read_bytes(), read_header(path)
    kinds = {name.rpartition(".")[2] + tensor.dtype: tensor for name, tensor in tensors.items()}
    places = {at for tensor in kinds.values() for at in (tensor.start, tensor.start + tensor.size - 1)}
    start = min(tensor.start for tensor in tensors.values())
    for at in sorted(places | {0, 8, 9, start - 1}):
        changed = bytearray(content)
        changed[at] ^= 4
        path.write_bytes(changed)
        both, alone = Verified(checkpoint, source, BOTH), Verified(checkpoint, None, ALONE)
        assert both.status == 1
        assert both.level("integrity") == alone.level("integrity"), at


def test_a_shard_swapped_after_it_was_compared(
    checkpoint: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = weights.check

    def swapping(*arguments: Any) -> Any:
        level = really(*arguments)
        content = bytearray((checkpoint / SHARD).read_bytes())
        content[-1] ^= 1
        (checkpoint / SHARD).unlink()
        (checkpoint / SHARD).write_bytes(content)
        return level

    monkeypatch.setattr(weights, "check", swapping)
    found = Verified(checkpoint, source, BOTH)
    assert (found.status, found.level("weights")["result"]) == (1, "holds")
    assert found.first("integrity")["file"] == SHARD


def test_a_file_that_keeps_changing_differs(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second reading would name a tensor that the first one may not have met."""
    really = integrity.digests

    def writing(path: Path, tensors: Any, *more: Any) -> Any:
        if path.name == SHARD:
            content = bytearray(path.read_bytes())
            content[-1] = (content[-1] + 1) % 256
            path.write_bytes(content)
        return really(path, tensors, *more)

    monkeypatch.setattr(integrity, "digests", writing)
    (found,) = Verified(checkpoint, None, ALONE).differences("integrity")
    assert (found["file"], found["tensor"]) == (SHARD, None)
    assert "its content differs" in found["message"]
