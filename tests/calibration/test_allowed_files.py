"""A local dataset is read from its own folder alone, and no code of it is run."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calibration.test_sources import dataset, described_here, first_rows, write

from proofcard.calibration.allowed_files import check_card
from proofcard.errors import Stop


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset's folder beside a secret, on a machine where any look at the network is an error."""

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    write(tmp_path / "secret.jsonl", 900)
    write(tmp_path / "texts" / "t.jsonl", 0)
    return tmp_path / "texts"


def card(folder: Path, data_files: str, name: str = "README.md", **more: str) -> None:
    lines = [f"  {key}: {value}" for key, value in {"data_files": data_files, **more}.items()]
    text = "\n".join(["configs:", "- config_name: default", *lines])
    (folder / name).write_text(text if name.endswith(".yaml") else f"---\n{text}\n---\n")


ELSEWHERE = {
    "above": "../secret.jsonl",
    "above, deeper": "data/../../secret.jsonl",
    "above, by a glob": "../*.jsonl",
    "absolute": "{parent}/secret.jsonl",
    "absolute, by a glob": "{parent}/s*.jsonl",
    "http": "http://127.0.0.1:9/secret.jsonl",
    "https": "https://example.com/secret.jsonl",
    "hub": "hf://datasets/a/b/secret.jsonl",
    "bucket": "s3://bucket/secret.jsonl",
    "file": "file://{parent}/secret.jsonl",
    "chained": "zip://secret.jsonl::{parent}/secret.zip",
    "chained, here": "zip://../secret.jsonl::t.zip",
    "in a list": "[t.jsonl, ../secret.jsonl]",
    "in a split": "[{{split: train, path: [t.jsonl, ../secret.jsonl]}}]",
    "in another split": "[{{split: train, path: t.jsonl}}, {{split: test, path: 'https://example.com/x'}}]",
}


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("which", ELSEWHERE)
def test_a_card_that_names_files_elsewhere(folder: Path, which: str, name: str) -> None:
    card(folder, ELSEWHERE[which].format(parent=folder.parent), name)
    with pytest.raises(Stop, match=r"as data: only files below its own folder are read") as stopped:
        described_here("x", dataset(folder))
    assert name in str(stopped.value) and "\n" not in str(stopped.value)


@pytest.mark.parametrize("place", ["..", "{parent}", "https://example.com/data", "a/../.."])
def test_a_card_whose_folder_of_data_is_elsewhere(folder: Path, place: str) -> None:
    text = f"configs:\n- config_name: default\n  data_dir: {place.format(parent=folder.parent)}"
    (folder / "README.md").write_text(f"---\n{text}\n---\n")
    with pytest.raises(Stop, match="as data: only files below"):
        described_here("x", dataset(folder))


def test_a_card_that_names_its_own_files(folder: Path) -> None:
    write(folder / "data" / "part one" / "a.jsonl", 100)
    for files in ("data/**", "data/part one/*.jsonl", "./data/part one/a.jsonl"):
        card(folder, f"'{files}'")
        assert first_rows("x", dataset(folder)) == {"train": "row 100"}
    assert list(described_here("x", dataset(folder))["files"]) == ["README.md", "data/part one/a.jsonl"]


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jsonl")


def listening(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # the address of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind("s.jsonl")
    finally:
        os.chdir(here)


def sparse(path: Path, size: int) -> None:
    path.write_bytes(b"")
    os.truncate(path, size)


SPECIAL: dict[str, tuple[Callable[[Path], Any], str]] = {
    "link": (lambda f: (f / "u.jsonl").symlink_to("../secret.jsonl"), "link to ../secret.jsonl, outside"),
    "linked folder": (lambda f: (f / "data").symlink_to(".."), "is a link to .., outside"),
    "linked card": (lambda f: (f / "README.md").symlink_to("../secret.jsonl"), "README.md is a link to"),
    "device": (lambda f: (f / "u.jsonl").symlink_to("/dev/zero"), "is a link to /dev/zero, outside"),
    "pipe": (fifo, "pipe.jsonl is a named pipe, not a file"),
    "socket": (listening, "s.jsonl is a socket, not a file"),
    "dangling": (lambda f: (f / "u.jsonl").symlink_to("nothing"), "is a link to nothing, where nothing is"),
    "loop": (lambda f: (f / "u.jsonl").symlink_to("u.jsonl"), "u.jsonl"),
    "script": (lambda f: (f / "texts.py").write_text("raise SystemExit"), "datasets' code is never run"),
    "not UTF-8": (lambda f: Path(os.fsdecode(bytes(f) + b"/\xff.jsonl")).write_text("{}"), "is not UTF-8"),
    "pickles": (lambda f: (card(f, "p.tar"), (f / "p.tar").write_bytes(b"")), "reader webdataset"),
    "a huge card": (lambda f: sparse(f / "README.md", 1 << 33), "at most 4,194,304 are read of it"),
    "YAML that is none": (lambda f: (f / "README.md").write_text("---\nconfigs: [\n---\n"), "cannot be read"),
    "a bomb": (lambda f: (f / "README.md").write_text(BOMB), "too many values"),
    "one endless line": (lambda f: sparse(f / "t.jsonl", 20 << 30), "a line of more than 64 MiB"),
}  # fmt: skip
_NINE = ("a{n}: &a{n} [" + 9 * "*a{before}," + "]\n").format
BOMB = "---\na0: &a0 [x]\n" + "".join(_NINE(n=n, before=n - 1) for n in range(1, 30)) + "---\n"


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_never_read(folder: Path, what: str) -> None:
    change, message = SPECIAL[what]
    change(folder)
    with pytest.raises(Stop) as stopped:
        described_here("x", dataset(folder))
    assert message in str(stopped.value) and "\n" not in str(stopped.value)


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "hidden").mkdir()
    (folder / "t.jsonl").rename(folder / "hidden" / "real")
    (folder / "t.jsonl").symlink_to("hidden/real")
    assert first_rows("x", dataset(folder)) == {"train": "row 0"}


def test_one_file_may_be_a_link_of_the_user_s_and_have_any_name(folder: Path) -> None:
    for name in ("mine[1].jsonl", "mine *.jsonl", 'a "b".jsonl'):
        (folder / name).symlink_to("../secret.jsonl")
        assert first_rows("x", dataset(folder / name)) == {"train": "row 900"}
        assert list(described_here("x", dataset(folder / name))["files"]) == [name]


@pytest.mark.parametrize("kind", [fifo, lambda f: (f / "pipe.jsonl").symlink_to("/dev/zero")])
def test_one_file_is_a_regular_one(folder: Path, kind: Any) -> None:
    kind(folder)
    with pytest.raises(Stop, match=r"pipe.jsonl is a (named pipe|device), not a file"):
        described_here("x", dataset(folder / "pipe.jsonl"))


def test_a_folder_with_a_pattern_in_its_path_is_one_sentence(folder: Path) -> None:
    write(folder / "data[1]" / "t.jsonl", 0)
    with pytest.raises(Stop, match=r"data\[1\]: a folder with \*, \? or \[ in its path cannot be read"):
        described_here("x", dataset(folder / "data[1]"))


def test_a_picture_in_a_row_is_not_fetched(folder: Path) -> None:
    """Parquet says itself which columns are pictures; decoding one opens its path or address."""
    rows = [{"text": "row 5", "picture": {"path": "http://127.0.0.1:9/x.png", "bytes": None}}]
    table = pa.Table.from_pylist(rows)
    kinds = {"text": {"dtype": "string", "_type": "Value"}, "picture": {"_type": "Image"}}
    said = {"huggingface": json.dumps({"info": {"features": kinds}})}
    (folder / "t.jsonl").unlink()
    pq.write_table(table.replace_schema_metadata(said), folder / "t.parquet")
    assert first_rows("x", dataset(folder)) == {"train": "row 5"}


def test_a_card_of_the_hub_is_held_to_its_own_repository() -> None:
    with pytest.raises(Stop, match=r"README.md names '/etc/passwd' as data"):
        check_card(b"---\nconfigs:\n- config_name: a\n  data_files: /etc/passwd\n---\n", Path("README.md"))
