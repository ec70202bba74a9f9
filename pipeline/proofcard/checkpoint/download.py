"""Downloads a model from the hub into a local folder: small files first, shards while others are in use.

`owner/name` at a commit goes to `<work_dir>/sources/owner--name@<first 12 digits>`, which only ever contains
checked files. Hidden next to it are the incoming files and a record of what the hub listed and what was
checked.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from proofcard.checkpoint import carried
from proofcard.checkpoint.repository import HubFile, Repository, quiet
from proofcard.checkpoint.shards import INDEX, read_index, weight_file_names
from proofcard.checkpoint.tensors import Tensor, described, read_header, united
from proofcard.digest import all_files, readable_json
from proofcard.disk import force_to_disk, free_at, write_whole
from proofcard.errors import Stop
from proofcard.locks import alone
from proofcard.progress import console, shown

OnFile = Callable[[str, int], None]
"""Called with the name and size in bytes of each file that has been downloaded and checked."""


def folder_of(repository: Repository, sources: Path) -> Path:
    """Where a repository's files are kept below `sources`."""
    return sources / f"{repository.name.replace('/', '--')}@{repository.commit[:12]}"


class Download:
    """Downloads a repository's files to `folder`, where a file appears only after its digest was checked."""

    def __init__(self, repository: Repository, sources: Path) -> None:
        """List the commit's files on the hub, unless they are on record. Raises Stop when the hub fails."""
        quiet()
        self.repository, self.folder = repository, folder_of(repository, sources)
        name = self.folder.name
        self._record, self._incoming = sources / f".{name}.json", sources / f".{name}.incoming"
        self._lock = sources / f".{name}.lock"
        record = self._recorded()
        listing = record["promised"] if record else repository.listing()
        self.promised = {file: HubFile(*listing[file]) for file in sorted(listing) if _wanted(file)}
        self._checked: dict[str, list[Any]] = record["checked"] if record else {}
        self._changed = Condition()
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        self._stopped = False
        self._requested: list[str] = []  # shards that a thread is waiting for
        self._order: list[str] = []
        self._described: dict[str, dict[str, Tensor]] = {}  # tensors of missing shards, from their headers
        self.missing = {file for file in self.promised if not self._is_right(file)}
        self._leave_out()

    def size(self, files: set[str]) -> int:
        """Bytes of the named files."""
        return sum(self.promised[file].size for file in files)

    def files(self) -> dict[str, dict[str, Any]]:
        """Size and sha256 of every file, for a missing shard as the hub lists them. Needs all small files."""
        digests = {file: self._checked[file][2] for file in self._checked.keys() - self.missing}
        return {
            file: {"size": record.size, "sha256": digests.get(file, record.sha256)}
            for file, record in self.promised.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor; those of missing shards from their headers, read by HTTP range."""
        shards = [file for file in self.promised if file.endswith(".safetensors")]
        if not shards:
            raise Stop(f"{self.repository} has no .safetensors file, so it cannot be a source")
        by_shard = {file: self._tensors_of(file) for file in shards}
        self._order = sorted(
            self.missing & by_shard.keys(), key=lambda file: (_first_layer(by_shard[file]), file)
        )
        return united(by_shard.values())

    def fetch(self, selected: Callable[[str], bool], on_file: OnFile = lambda file, size: None) -> None:
        """Download the selected missing files. Raises as `Repository.fetch`, and Stop when space is short."""
        if any(selected(file) for file in self.missing):
            with self._exclusively():
                self._check_space()
                for file in sorted(file for file in self.missing if selected(file)):
                    self._fetch_one(file, on_file)

    def fetch_small(self) -> None:
        """Download everything except shards whose digest the hub lists."""
        self.fetch(lambda file: file == INDEX)
        self._leave_out()
        self.fetch(lambda file: not file.endswith(".safetensors") or self.promised[file].sha256 is None)

    def _leave_out(self) -> None:
        """Drop safetensors files that are not part of the weights, once the index shows which those are."""
        if INDEX in self.missing:
            return
        index = read_index(self.folder) if INDEX in self.promised else None
        weights = weight_file_names(self.promised, index)
        for file in [file for file in self.promised if file.endswith(".safetensors") and file not in weights]:
            del self.promised[file]
            self.missing.discard(file)

    @contextmanager
    def downloading(self) -> Iterator[None]:
        """A context in which shards are downloaded in the background, those of the first layers first."""
        if not self.missing:
            yield
            return
        self._thread = Thread(target=self._fetch_all, daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            self._stopped = True  # the current file stops with the process, and the next one resumes it

    def wait(self, file: str) -> None:
        """Wait until a file is downloaded and checked, at the front of the queue. Raises its error."""
        with self._changed:
            if file in self.missing and self._thread is None:
                raise Stop(f"{file} of {self.repository} is needed before its download has started")
            while file in self.missing and self._error is None:
                self._requested.append(file)
                self._changed.wait()
            if file in self.missing:
                assert self._error is not None
                raise self._error

    def wait_for_all(self) -> None:
        """Wait until every file is downloaded and checked. Raises the download's error."""
        for file in self.promised:
            self.wait(file)

    def _fetch_all(self) -> None:
        total = len(self.promised)

        def on_file(file: str, size: int) -> None:
            console.print(
                f"model: {total - len(self.missing)} of {total} files downloaded, {file} checked",
                markup=False,
            )

        try:
            with self._exclusively():
                while self.missing and not self._stopped:
                    requested = [file for file in self._requested if file in self.missing]
                    self._fetch_one(
                        (requested or [file for file in self._order if file in self.missing])[0], on_file
                    )
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _fetch_one(self, file: str, on_file: OnFile) -> None:
        """Download one file, check it, move it to its final name and record it."""
        staged, digest = self.repository.fetch(file, self.promised[file], self._incoming)
        staged.chmod(0o644)
        force_to_disk(staged)
        (self.folder / file).parent.mkdir(exist_ok=True)
        staged.rename(self.folder / file)
        force_to_disk((self.folder / file).parent)
        self._check_described(file)
        self._record_check(file, digest)
        with self._changed:
            self.missing.discard(file)
            self._changed.notify_all()
        if not self.missing:
            shutil.rmtree(self._incoming, ignore_errors=True)
        on_file(file, self.promised[file].size)

    def _check_described(self, file: str) -> None:
        """Raise Stop when a shard does not match its header as read by HTTP range."""
        if file in self._described:
            here = {
                name: replace(tensor, seen=None) for name, tensor in read_header(self.folder / file).items()
            }
            if here != self._described[file]:
                raise Stop(
                    f"{self.repository}: the header of {file} differs from the one the hub sent before"
                )

    def _is_right(self, file: str) -> bool:
        """Whether a file is present and right; read again only if it changed since it was checked."""
        path = self.folder / file
        if not path.exists():
            return False
        known, stat = self._checked.get(file), path.stat()
        if known is not None and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return True
        digest = self.promised[file].digest_if_right(path)
        if digest is None:
            console.print(
                f"{shown(path)} differs from the file on the hub: downloading it again",
                markup=False,
                soft_wrap=True,
            )
            path.unlink()
            return False
        self._record_check(file, digest)
        return True

    def _record_check(self, file: str, digest: str) -> None:
        stat = (self.folder / file).stat()
        self._checked[file] = [stat.st_size, stat.st_mtime_ns, digest]
        record = {"promised": self.promised, "checked": self._checked}
        write_whole(self._record, readable_json(record))

    def _tensors_of(self, file: str) -> dict[str, Tensor]:
        path = self.folder / file
        if file not in self.missing:
            return read_header(path)
        header, length = self.repository.header(file), self.promised[file].size
        data = max((record["data_offsets"][1] for record in header.values()), default=0)
        # Tensors are at the end of a file, without gaps.
        self._described[file] = described(path, header, length - data, length)
        return self._described[file]

    def _check_space(self) -> None:
        known = self.missing if INDEX not in self.missing else {INDEX}  # the index decides which shards count
        needed = self.size(known) - sum(path.lstat().st_size for path in all_files(self._incoming))
        free = free_at(self.folder)
        if free < needed:
            raise Stop(
                f"{shown(self.folder)} has {free / 1e9:.1f} GB free, but the rest of {self.repository} needs "
                f"{needed / 1e9:.1f} GB: free some space or choose another work_dir"
            )

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Be the only process that downloads this repository here; note what others have downloaded."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self._lock, f"fetching {shown(self.folder)}", waits=True):
            record = self._recorded()
            self._checked = record["checked"] if record else self._checked
            fetched = {file for file in self.missing if self._is_right(file)}
            with self._changed:
                self.missing -= fetched
                self._changed.notify_all()
            yield

    def _recorded(self) -> dict[str, Any] | None:
        """The record of earlier downloads, or None if there is none or it is damaged."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            wait_for_all = isinstance(record["checked"], dict) and all(
                HubFile(*each) for each in record["promised"].values()
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return record if wait_for_all else None


def _wanted(file: str) -> bool:
    """Whether a file belongs to a source and has a printable name; weights in other formats do not count."""
    return carried.belongs(file) and file.isprintable() and not file.endswith(carried.OTHER_FORMATS)


def _first_layer(tensors: dict[str, Tensor]) -> int:
    """The smallest layer number in the tensors' names; large if there is none."""
    numbers = (re.search(r"\.(\d+)\.", name) for name in tensors)
    return min((int(number[1]) for number in numbers if number), default=1 << 30)
