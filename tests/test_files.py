"""What is opened of others' folders: regular files that lie in them, and nothing that waits or leads away."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hostile_files import bounded, sparse

from proofcard.files import (
    Refused,
    Unreadable,
    check_handed,
    copied,
    exists,
    listed,
    opened,
    plain,
    read_bytes,
    tree,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside a secret."""
    (tmp_path / "secret").write_text("key")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


def bind(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def twice(path: Path) -> None:
    (path.parent / "other").symlink_to("../secret")
    path.symlink_to("other")


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a link above": (lambda p: p.symlink_to("../secret"), "a link to ../secret, outside"),
    "an absolute link": (lambda p: p.symlink_to("/etc/passwd"), "a link to /etc/passwd, outside"),
    "a link to a link above": (twice, "outside"),
    "a link round about": (lambda p: p.symlink_to("../model/../secret"), "outside"),
    "a link to a sibling of the same beginning": (
        lambda p: (
            p.parent.with_name("model2").mkdir(), (p.parent.with_name("model2") / "x").write_text(""),
            p.symlink_to("../model2/x"),
        ),
        "outside",
    ),
    "a link to nothing": (lambda p: p.symlink_to("nothing"), "a link to nothing, which does not exist"),
    "a link to a device": (lambda p: p.symlink_to("/dev/zero"), "/dev/zero, outside"),
    "a link into /proc": (lambda p: p.symlink_to("/proc/self/environ"), "/proc/self/environ, outside"),
    "a pipe": (os.mkfifo, "is a named pipe, not a file"),
    "a link to a pipe": (
        lambda p: (os.mkfifo(p.parent / "pipe"), p.symlink_to("pipe")), "is a named pipe, not a file"
    ),
    "a socket": (bind, "is a socket, not a file"),
    "a folder": (lambda p: p.mkdir(), "is a folder, not a file"),
    "a link to its folder": (lambda p: p.symlink_to("."), "is a folder, not a file"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_not_opened(folder: Path, what: str) -> None:
    make, message = REFUSED[what]
    path = folder / "merges.txt"
    make(path)
    for reading in (
        lambda: opened(path, folder),
        lambda: read_bytes(path, folder, 100),
        lambda: copied(path, folder, folder.parent / "copy"),
    ):
        with bounded(), pytest.raises(Refused, match=r"merges\.txt") as stopped:
            reading()
        assert message in str(stopped.value)
    assert not (folder.parent / "copy").exists()
    if "folder" not in what:
        for listing in (listed, tree, check_handed):
            with bounded(), pytest.raises(Refused):
                listing(folder)


def test_a_link_to_itself_is_not_followed(folder: Path) -> None:
    (folder / "merges.txt").symlink_to("merges.txt")
    with pytest.raises(Refused, match=r"merges\.txt is a link that leads back to itself"):
        opened(folder / "merges.txt", folder)


def test_a_device_is_not_opened(folder: Path) -> None:
    for root in (None, Path("/dev")):
        with pytest.raises(Refused, match="/dev/zero is a device, not a file"):
            opened(Path("/dev/zero"), root)


@pytest.mark.parametrize(
    "to", ["../model/config.json", "config.json", "{folder}/config.json", "sub/../config.json"]
)
def test_a_link_inside_is_followed(folder: Path, to: str) -> None:
    (folder / "sub").mkdir()
    (folder / "link.json").symlink_to(to.format(folder=folder))
    with opened(folder / "link.json", folder) as file:
        assert file.read() == b"{}"
    assert [path.name for path in listed(folder)] == ["config.json", "link.json"]


def test_the_folder_given_may_be_a_link_and_so_may_a_file_that_the_user_names(folder: Path) -> None:
    (folder.parent / "mine").symlink_to("model")
    assert read_bytes(folder.parent / "mine" / "config.json", folder.parent / "mine", 10) == b"{}"
    (folder / "link").symlink_to("../secret")
    assert read_bytes(folder / "link", None, 10) == b"key"


@pytest.mark.parametrize("below", ["", "sub"])
def test_the_hub_s_cache_is_read(tmp_path: Path, below: str) -> None:
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / ("0" * 40)
    (cache / "blobs").mkdir(parents=True)
    (snapshot / below).mkdir(parents=True)
    (cache / "blobs" / "abc").write_text("{}")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    up = "../" * len((snapshot / below).relative_to(cache).parts)
    (snapshot / below / "config.json").symlink_to(f"{up}blobs/abc")
    for root in {snapshot, snapshot / below}:
        assert read_bytes(snapshot / below / "config.json", root, 10) == b"{}"
    for elsewhere in (f"{up}refs/main", f"{up}../secret", f"{up}blobs/../refs/main"):
        (tmp_path / "secret").write_text("key")
        (snapshot / below / "config.json").unlink()
        (snapshot / below / "config.json").symlink_to(elsewhere)
        with pytest.raises(Refused, match="outside"):
            opened(snapshot / below / "config.json", snapshot)


def test_blobs_that_are_a_link_are_not_the_cache_s(tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "key").write_text("key")
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").symlink_to(tmp_path / "ssh")
    (snapshot / "merges.txt").symlink_to("../../blobs/key")
    with pytest.raises(Refused, match="outside"):
        opened(snapshot / "merges.txt", snapshot)


def test_a_linked_folder_leads_nowhere_else(folder: Path) -> None:
    (folder / "data").symlink_to("..")
    for listing in (listed, tree):
        with pytest.raises(Refused, match=r"data is a link to \.\., outside"):
            listing(folder)
    with pytest.raises(Refused, match="secret is reached through a link, outside"):
        opened(folder / "data" / "secret", folder)
    (folder / "data").unlink()
    (folder / "data").symlink_to(".")
    assert [path.name for path in tree(folder)] == ["config.json"]


def test_hidden_ones_and_folders_are_left_out_and_any_other_name_is_not(folder: Path) -> None:
    names = ["a b", 'a"b', "a'b", "[bold]x[bold]", "ü", "a\nb", "-rf", "*"]
    for name in names:
        (folder / name).write_text("")
    (folder / ".cache").symlink_to("/")
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_text("")
    assert sorted(path.name for path in listed(folder)) == sorted([*names, "config.json"])
    assert {path.relative_to(folder).as_posix() for path in tree(folder)} == {*names, "config.json", "sub/x"}
    for name in names:
        assert read_bytes(folder / name, folder, 1) == b""


def test_a_name_that_is_not_utf_8_is_refused(folder: Path) -> None:
    Path(os.fsdecode(bytes(folder) + b"/\xff.txt")).write_text("")
    with pytest.raises(Refused, match=r"the name of .*\\udcff\.txt is not UTF-8: rename it"):
        listed(folder)


def test_what_the_system_does_not_let_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, words in ((13, "Permission denied"), (5, "Input/output error"), (116, "Stale file handle")):

        def failing(*_: Any, number: int = number, **__: Any) -> Any:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", failing)
            with pytest.raises(Unreadable, match=rf"config\.json cannot be read: {words}"):
                opened(folder / "config.json", folder)
            patch.setattr(os, "scandir", failing)
            with pytest.raises(Unreadable, match=f"model cannot be read: {words}"):
                listed(folder)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "config.json/x", "nothing"])
def test_names_of_nothing(folder: Path, name: str) -> None:
    with pytest.raises((FileNotFoundError, Refused, Unreadable)):
        opened(folder / name, folder)


def test_a_folder_that_is_gone(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listed(folder / "gone")
    assert not exists(folder / "gone" / "config.json")
    (folder / "link").symlink_to("gone")
    assert exists(folder / "link")


def test_a_file_is_read_up_to_its_limit(folder: Path) -> None:
    sparse(folder / "merges.txt", 20 << 30)
    with (
        bounded(),
        pytest.raises(Refused, match=r"merges\.txt has 21,474,836,480 bytes, but at most 100 are"),
    ):
        read_bytes(folder / "merges.txt", folder, 100)
    for name in ("tokenizer.json", "vocab.txt", "chat_template.jinja", "additional_chat_templates/a.jinja"):
        (folder / "additional_chat_templates").mkdir(exist_ok=True)
        sparse(folder / name, 20 << 30)
        (folder / "merges.txt").unlink(missing_ok=True)
        with bounded(), pytest.raises(Refused, match=f"{name} has 21,474,836,480 bytes"):
            check_handed(folder)
        (folder / name).unlink()
    sparse(folder / "figure.png", 20 << 30)  # nobody reads it
    check_handed(folder)


def test_a_folder_of_too_many_files_is_not_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofcard.files._MOST_ENTRIES", 20)
    for number in range(19):
        (folder / str(number)).write_text("")
    assert len(listed(folder)) == 20
    (folder / "one more").write_text("")
    for listing in (listed, tree):
        with pytest.raises(Refused, match="has more than 20 files"):
            listing(folder)


def test_nothing_stays_open(folder: Path) -> None:
    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    os.mkfifo(folder / "pipe")
    before = handles()
    for _ in range(30):
        for path in (folder / "config.json", folder / "pipe"):
            with suppress(Refused):
                read_bytes(path, folder, 10)
    assert handles() == before


def test_names_in_messages_are_plain() -> None:
    assert plain("a\nb\x1b[0m\u202e\udcff\0") == "a\\nb\\x1b[0m\\u202e\\udcff\\x00"
    assert plain("x" * 300) == "x" * 199 + "…"
    assert plain("x" * 200) == "x" * 200
