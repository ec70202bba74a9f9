"""What identifies a dataset's content: its files with their digests. The hub is asked once a commit."""

import json
from pathlib import Path
from typing import Any

from proofcard.calibration import hub
from proofcard.calibration.sources import README, files_of, is_on_hub
from proofcard.config.schema import Dataset
from proofcard.digest import file_table, readable_json, sha256_json
from proofcard.disk import write_whole


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
    root_folder = dataset.path.absolute()
    if dataset.path.is_file():
        root_folder = root_folder.parent
    elif (root_folder / README).exists():
        local.append(root_folder / README)
    table = file_table(root_folder, local)
    return {"files": table, "digest": sha256_json(table)}


def _at_commit(name: str, dataset: Dataset, records: Path) -> dict[str, Any]:
    """A commit never changes: with a record of it the hub is not asked, and need not be reached."""
    asked = {"commit": dataset.revision, "subset": dataset.subset, "splits": list(dataset.splits)}
    place = f".{dataset.repository.replace('/', '--')}-{sha256_json([dataset.repository, asked])[:12]}.json"
    if (told := _recorded(records / place)) is not None:
        return told
    known = hub.listing(name, dataset)
    root = f"hf://datasets/{dataset.repository}@{dataset.revision}/"
    files = {url.removeprefix(root): known[url.removeprefix(root)] for url in files_of(name, dataset)}
    said: dict[str, Any] = {"commit": dataset.revision, "files": dict(sorted(files.items()))}
    said["digest"] = sha256_json(said)
    records.mkdir(parents=True, exist_ok=True)
    write_whole(records / place, readable_json(said))
    return said


def _recorded(path: Path) -> dict[str, Any] | None:
    """What was noted, if it is still what was: anything else is asked for again."""
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rest = {key: said[key] for key in ("commit", "files")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if said == rest | {"digest": sha256_json(rest)} else None
