"""Which files of a local copy are read: `datasets`' own resolution, and a sentence where it finds none."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proofcard.calibration.identity import described
from proofcard.calibration.sampling import sample
from proofcard.calibration.sources import streams
from proofcard.config import QuantizeConfig, compose
from proofcard.config.schema import Dataset
from proofcard.digest import sha256_file
from proofcard.errors import Stop, Usage


def dataset(path: Path | None, *splits: str, **changed: Any) -> Dataset:
    said = {"adapter": "text", "repository": "local", "revision": None, "subset": None, "samples": 9}
    return Dataset.model_validate(said | {"splits": splits or ("train",), "path": path} | changed)


def write(path: Path, first: int, count: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"row {n}"} for n in range(first, first + count)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def described_here(name: str, asked: Dataset) -> dict[str, Any]:
    """Of a local copy: nothing is noted."""
    return described(name, asked, Path("/nowhere"))


def first_rows(name: str, asked: Dataset) -> dict[str, str]:
    return {split: next(iter(rows))["text"] for split, rows in streams(name, asked).items()}


def test_a_readme_tells_subsets_and_splits(tmp_path: Path) -> None:
    for at, split in enumerate(("code", "chat", "safety")):
        write(tmp_path / "SFT" / split / f"{split}.jsonl", 100 * at)
    write(tmp_path / "RL" / "if.jsonl", 900)
    configs = "".join(f"  - split: {s}\n    path: SFT/{s}/*.jsonl\n" for s in ("code", "chat", "safety"))
    (tmp_path / "README.md").write_text(
        f"---\nconfigs:\n- config_name: SFT\n  data_files:\n{configs}"
        "- config_name: RL\n  data_files:\n  - split: instruction_following\n    path: RL/*.jsonl\n---\n"
    )
    asked = dataset(tmp_path, "chat", "code", subset="SFT")
    assert first_rows("x", asked) == {"chat": "row 100", "code": "row 0"}
    said = described_here("x", asked)
    assert list(said["files"]) == ["README.md", "SFT/chat/chat.jsonl", "SFT/code/code.jsonl"]
    file = tmp_path / "SFT" / "chat" / "chat.jsonl"
    assert said["files"]["SFT/chat/chat.jsonl"] == {"size": file.stat().st_size, "sha256": sha256_file(file)}
    with pytest.raises(
        Stop, match=r"datasets\.x has no split math, only code, chat, safety: correct .*splits"
    ):
        described_here("x", dataset(tmp_path, "math", subset="SFT"))
    with pytest.raises(Stop, match=r"datasets\.x cannot be read: .*'DPO' not found.*'SFT', 'RL'"):
        described_here("x", dataset(tmp_path, "chat", subset="DPO"))


def test_sharded_names_tell_splits_without_a_readme_and_links_are_followed(tmp_path: Path) -> None:
    cache = tmp_path / "datasets--a--b"
    blobs, folder = cache / "blobs", cache / "snapshots" / "c0ffee"
    for n, split in enumerate(("stem", "chat")):
        write(blobs / f"{n}.parquet", 100 * n)
        (blobs / f"{n}.parquet").rename(blobs / f"{n}")
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "data" / f"{split}-00000-of-00001.parquet").symlink_to(blobs / f"{n}")
    assert first_rows("x", dataset(folder, "chat", "stem")) == {"chat": "row 100", "stem": "row 0"}
    assert list(described_here("x", dataset(folder, "chat"))["files"]) == ["data/chat-00000-of-00001.parquet"]


def test_the_same_files_at_another_place_are_the_same_dataset(tmp_path: Path, monkeypatch: Any) -> None:
    for place in ("a", "b"):
        write(tmp_path / place / "train.jsonl", 0)
    said = [described_here("x", dataset(tmp_path / place)) for place in ("a", "b")]
    assert said[0] == said[1] == described_here("x", dataset(tmp_path / "a" / "train.jsonl"))
    monkeypatch.chdir(tmp_path)
    assert described_here("x", dataset(Path("a"))) == said[0]


def test_samples_are_shared_out_over_the_splits_and_the_last_takes_the_rest(tmp_path: Path) -> None:
    for at, split in enumerate(("a", "b", "c")):
        write(tmp_path / "data" / f"{split}-00000-of-00001.parquet", 100 * at)
    overrides = [
        "calibration=text", f"calibration.datasets.text.path={tmp_path}", "calibration.sampling.method=first",
        "calibration.datasets.text.splits=[c,a,b]",
    ]  # fmt: skip

    def drawn(count: int) -> list[tuple[str, int]]:
        config = compose(QuantizeConfig, "config", [*overrides, f"calibration.datasets.text.samples={count}"])
        chosen, _ = sample(config.calibration, lambda texts, **_: {"input_ids": [[1] for _ in texts]}, "text")
        return [(one.split, one.row) for one in chosen]

    in_order = [("c", n) for n in range(3)] + [("a", n) for n in range(3)] + [("b", n) for n in range(5)]
    assert drawn(11) == in_order
    assert drawn(2) == [("b", 0), ("b", 1)]


def test_a_split_named_twice_is_a_mistake() -> None:
    with pytest.raises(Usage, match="splits has a duplicate: a, a"):
        compose(QuantizeConfig, "config", ["calibration=text", "calibration.datasets.text.splits=[a,a]"])


@pytest.mark.parametrize(
    ("path", "splits", "sentence"),
    [
        (None, ["train"], r"path is not set: give a local file or folder \(.jsonl or .parquet\)"),
        ("nowhere", ["train"], "path=.*nowhere does not exist"),
        ("empty", ["train"], "empty contains no data files"),
        ("t.txt", ["train"], r"t\.txt is not a \.jsonl, \.json or \.parquet file"),
        (
            "t.jsonl",
            ["a", "b"],
            r"t\.jsonl is one file, but .*splits has 2 entries: set it to the dataset's folder",
        ),
        ("t.jsonl/..", ["code"], r"has no split code, only train: .*needs the dataset's README\.md"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(
    tmp_path: Path, path: str | None, splits: list[str], sentence: str
) -> None:
    folder = tmp_path / "texts"
    write(folder / "t.jsonl", 0)
    (folder / "t.txt").write_text("words")
    (tmp_path / "empty").mkdir()
    places = {None: None, "nowhere": tmp_path / "nowhere", "empty": tmp_path / "empty", "t.jsonl/..": folder}
    place = places[path] if path in places else folder / str(path)
    with pytest.raises(Stop, match=sentence) as stopped:
        described_here("text", dataset(place, *splits))
    assert "\n" not in str(stopped.value)
