"""A repository before its shards are downloaded: the listing, small files, placeholders for the others."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from proofcard.checkpoint.placeholders import Placeholder
from proofcard.checkpoint.repository import HubFile, Repository
from proofcard.disk import free_at
from proofcard.errors import Stop
from proofcard.files import plain
from proofcard.progress import shown

_READ_WHOLE = (
    ".json", ".jinja", ".py", ".txt", ".model", ".tiktoken", ".vocab", ".bpe", ".codes", ".spm", ".csv",
)  # fmt: skip
_LARGEST = 128 << 20  # bytes of a file that is not a shard and is fetched at once
_MOST_FILES = 200_000
_CONNECTIONS = 8  # for headers


def listing(repository: Repository) -> dict[str, HubFile]:
    """Every file by path. Raises Stop for names that lead elsewhere, and for more files than a model has."""
    files = repository.listing()
    for file in files:
        path = PurePosixPath(file)
        odd = path.is_absolute() or ".." in path.parts or path.as_posix() != file
        if odd or not file.isprintable() or len(files) > _MOST_FILES:
            raise Stop(f"{repository} lists {len(files):,} files, one of them {plain(file)!r}: refused")
    return files


def fetch_small(repository: Repository, folder: Path, files: dict[str, HubFile]) -> None:
    """Everything that is read whole, right away. Raises as `Repository.fetch`, and Stop without room."""
    for file, promised in sorted(files.items()):
        if _is_small(file, promised) and promised.digest_if_right(folder / file) is None:
            check_room(repository, folder, promised.size)
            repository.fetch(file, promised, folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's own notes


def placeholders(
    repository: Repository, folder: Path, state: Path, files: dict[str, HubFile]
) -> dict[str, Placeholder]:
    """One for each file that is not small, by name. Raises as `Placeholder.create`."""
    state.mkdir(parents=True, exist_ok=True)
    created = {
        file: Placeholder(file, folder / file, state / hashlib.sha256(file.encode()).hexdigest(), promised)
        for file, promised in sorted(files.items())
        if not _is_small(file, promised)
    }
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(lambda each: each.create(repository), created.values()))
    return created


def check_room(repository: Repository, folder: Path, needed: int) -> None:
    """Raises Stop when the disk of a folder has no room for so many bytes."""
    free = free_at(folder)
    if free < needed:
        raise Stop(
            f"{shown(folder)} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB of {repository} come "
            "next: free some space, or choose another work_dir"
        )


def _is_small(file: str, promised: HubFile) -> bool:
    return file.endswith(_READ_WHOLE) and promised.size <= _LARGEST
