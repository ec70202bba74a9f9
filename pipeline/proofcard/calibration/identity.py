"""What identifies a dataset's content: its files with their digests. The hub is asked once a commit."""

from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard.calibration import allowed_files, dataset_files
from proofcard.calibration.sources import files_of, is_on_hub
from proofcard.config.schema import Dataset
from proofcard.digest import file_table, readable_json, sha256_file, sha256_json
from proofcard.disk import write_whole
from proofcard.errors import Stop
from proofcard.files import exists


def described(name: str, dataset: Dataset, records: Path) -> dict[str, Any]:
    """What identifies the dataset's content: its files with their digests, their `digest`, a hub's commit.

    Reads a local copy wholly. Asks the hub for what it keeps at a commit once, and notes it in `records`.

    Raises:
        Stop: when the files, the subset or a split is not there, or the hub refuses.
    """
    if is_on_hub(name, dataset):
        return _at_commit(name, dataset, records)
    assert dataset.path is not None
    local = [Path(file) for file in files_of(name, dataset)]
    folder = dataset.path.absolute()
    if dataset.path.is_dir():
        local += [folder / card for card in allowed_files.CARDS if exists(folder / card)]
        table = file_table(folder, local)
    else:
        table = {file.name: {"size": file.stat().st_size, "sha256": sha256_file(file)} for file in local}
    return {"files": table, "digest": sha256_json(table)}


def _at_commit(name: str, dataset: Dataset, records: Path) -> dict[str, Any]:
    """A commit never changes: with a record of it the hub is not asked, and need not be reached."""
    asked = {"commit": dataset.revision, "subset": dataset.subset, "splits": list(dataset.splits)}
    place = f".{dataset.repository.replace('/', '--')}-{sha256_json([dataset.repository, asked])[:12]}.json"
    if (record := _recorded(records / place)) is not None:
        return record
    known = dataset_files.listing(name, dataset)
    root = f"hf://datasets/{dataset.repository}@{dataset.revision}/"
    files = {url.removeprefix(root): known[url.removeprefix(root)] for url in files_of(name, dataset)}
    content: dict[str, Any] = {"commit": dataset.revision, "files": dict(sorted(files.items()))}
    content["digest"] = sha256_json(content)
    records.mkdir(parents=True, exist_ok=True)
    write_whole(records / place, readable_json(content))
    return content


def _recorded(path: Path) -> dict[str, Any] | None:
    """What was noted, if its own digest holds: anything else is asked for again."""
    try:
        record = json_files.read(path, path.parent)
        rest = {key: record[key] for key in ("commit", "files")}
    except (OSError, Stop, KeyError):
        return None
    return record if record == rest | {"digest": sha256_json(rest)} else None
