"""Which files of a repository are fetched at all; the repository is one of ours, in a folder."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from proofcard.checkpoint.delivery import Delivery
from proofcard.checkpoint.repository import Promised
from proofcard.checkpoint.shards import INDEX, BadIndex, MissingShards
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_header
from proofcard.errors import Stop

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
OTHERS = ("consolidated.safetensors", "model.safetensors")


class Folder:
    """As much of a `Repository` as a delivery uses; notes what is fetched."""

    name, commit = "owner/name", "0" * 40

    def __init__(self, folder: Path) -> None:
        self.folder, self.fetched = folder, list[str]()

    def listing(self) -> dict[str, Promised]:
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return {name: Promised(len(c), hashlib.sha256(c).hexdigest(), "") for name, c in files.items()}

    def header(self, file: str) -> dict[str, Any]:
        content = (self.folder / file).read_bytes()
        said: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return said

    def fetch(self, file: str, promised: Promised, incoming: Path) -> tuple[Path, str]:
        incoming.mkdir(exist_ok=True)
        self.fetched.append(file)
        shutil.copyfile(self.folder / file, incoming / file)
        return incoming / file, str(promised.sha256)


@pytest.fixture
def kept(tmp_path: Path) -> Folder:
    """Indexed shards with the same weights twice more beside them."""
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for file, names in {SHARDS[0]: "ab", SHARDS[1]: "c", OTHERS[0]: "abc", OTHERS[1]: "abc"}.items():
        save_file({name: np.full(4, len(names), np.float32) for name in names}, folder / file)
    weight_map = {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return Folder(folder)


def delivered(kept: Folder, tmp_path: Path) -> Delivery:
    repository: Any = kept
    return Delivery(repository, tmp_path / "sources")


def test_what_the_index_does_not_name_is_not_fetched(kept: Folder, tmp_path: Path) -> None:
    delivery = delivered(kept, tmp_path)
    delivery.fetch_small()
    assert sorted(kept.fetched) == ["config.json", INDEX]
    assert set(delivery.files()) == {"config.json", INDEX, *SHARDS}
    source = Source(delivery.folder, delivery)
    with delivery.arriving():
        assert source.bits("a").tolist() == [2, 2, 2, 2]
        source.whole()
    assert sorted(kept.fetched) == ["config.json", *SHARDS, INDEX]
    assert source.files() == Source(delivery.folder).files()
    assert not delivered(kept, tmp_path).missing


def test_without_an_index_the_one_file_is(kept: Folder, tmp_path: Path) -> None:
    (kept.folder / INDEX).unlink()
    delivery = delivered(kept, tmp_path)
    delivery.fetch(lambda _: True)
    assert sorted(kept.fetched) == ["config.json", "model.safetensors"]


def test_an_index_that_names_more_than_there_is(kept: Folder, tmp_path: Path) -> None:
    (kept.folder / SHARDS[1]).unlink()
    with pytest.raises(MissingShards, match=f"names 2 files, 1 of them not here, the first {SHARDS[1]}"):
        delivered(kept, tmp_path).fetch_small()


def test_an_index_that_names_files_elsewhere(kept: Folder, tmp_path: Path) -> None:
    (kept.folder / INDEX).write_text('{"weight_map": {"a": "../../x.safetensors"}}')
    with pytest.raises(BadIndex, match=r"names '\.\./\.\./x\.safetensors': only"):
        delivered(kept, tmp_path).fetch_small()


def test_a_shard_with_another_header_than_was_told_before(kept: Folder, tmp_path: Path) -> None:
    delivery = delivered(kept, tmp_path)
    delivery.fetch_small()
    kept.header = lambda file: {  # type: ignore[method-assign]
        {"a": "b", "b": "a"}.get(name, name): said for name, said in Folder.header(kept, file).items()
    }
    source = Source(delivery.folder, delivery)
    with delivery.arriving(), pytest.raises(Stop, match=f"{SHARDS[0]} has another header than the hub told"):
        source.bits("a")


def test_no_file_s_name_leads_out_of_the_folder(kept: Folder, tmp_path: Path) -> None:
    listing = kept.listing()
    for name in ("../x.json", "/etc/x.json", "sub/x.json", ".hidden.json", "a\nb.json"):
        listing[name] = listing["config.json"]
    kept.listing = lambda: listing  # type: ignore[method-assign]
    delivery = delivered(kept, tmp_path)
    delivery.fetch_small()
    assert {path.name for path in delivery.folder.iterdir()} == {"config.json", INDEX}
    assert read_header(kept.folder / SHARDS[0])
