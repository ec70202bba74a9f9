"""A model of the hub on its way into a local folder: small files first, shards while others are in use.

Below `<work_dir>/sources` `owner/name` at a commit has the folder `owner--name@<its first 12 digits>` with
checked files only. Hidden beside it lie what is incoming and a record of what was promised and checked.
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
from proofcard.checkpoint.repository import Promised, Repository, quiet
from proofcard.checkpoint.shards import INDEX, counted, read_index
from proofcard.checkpoint.tensors import Tensor, described, read_header, united
from proofcard.digest import all_files, readable_json
from proofcard.disk import force_to_disk, free_at, write_whole
from proofcard.errors import Stop
from proofcard.locks import alone
from proofcard.progress import console, shown

Told = Callable[[str, int], None]
"""Called with the name and the bytes of each file that has arrived and is right."""


class Delivery:
    """A repository's files, from the hub to `folder`. A file stands there only once its digest is right."""

    def __init__(self, repository: Repository, sources: Path) -> None:
        """Asks the hub what the commit holds, unless that is on record. Raises Stop when it does not tell."""
        quiet()
        name = f"{repository.name.replace('/', '--')}@{repository.commit[:12]}"
        self.repository, self.folder = repository, sources / name
        self._record, self._incoming = sources / f".{name}.json", sources / f".{name}.incoming"
        self._lock = sources / f".{name}.lock"
        said = self._recorded()
        listing = said["promised"] if said else repository.listing()
        self.promised = {file: Promised(*listing[file]) for file in sorted(listing) if _wanted(file)}
        self._checked: dict[str, list[Any]] = said["checked"] if said else {}
        self._changed = Condition()
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        self._left = False
        self._asked: list[str] = []  # shards that somebody waits for
        self._order: list[str] = []
        self._described: dict[str, dict[str, Tensor]] = {}  # of shards to come, by their headers
        self.missing = {file for file in self.promised if not self._stands(file)}
        self._leave_out()

    def size(self, files: set[str]) -> int:
        """Bytes of the named files."""
        return sum(self.promised[file].size for file in files)

    def files(self) -> dict[str, dict[str, Any]]:
        """Size and sha256 of every file, of a shard to come as promised. The small ones must be here."""
        digests = {file: self._checked[file][2] for file in self._checked.keys() - self.missing}
        return {
            file: {"size": said.size, "sha256": digests.get(file, said.sha256)}
            for file, said in self.promised.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, those of shards to come by their headers, asked for by range."""
        shards = [file for file in self.promised if file.endswith(".safetensors")]
        if not shards:
            raise Stop(f"{self.repository} holds no .safetensors file: it is no source")
        found = {file: self._tensors_of(file) for file in shards}
        self._order = sorted(self.missing & found.keys(), key=lambda file: (_first_layer(found[file]), file))
        return united(found.values())

    def fetch(self, chosen: Callable[[str], bool], tell: Told = lambda file, size: None) -> None:
        """Download the chosen files that are missing. Raises as `Repository.fetch`, and Stop without room."""
        if any(chosen(file) for file in self.missing):
            with self._alone():
                self._room()
                for file in sorted(file for file in self.missing if chosen(file)):
                    self._take(file, tell)

    def fetch_small(self) -> None:
        """Download all but the shards whose digest is known beforehand."""
        self.fetch(lambda file: file == INDEX)
        self._leave_out()
        self.fetch(lambda file: not file.endswith(".safetensors") or self.promised[file].sha256 is None)

    def _leave_out(self) -> None:
        """Promise no safetensors file that does not count, once that can be known: nobody needs its bytes."""
        if INDEX in self.missing:
            return
        index = read_index(self.folder) if INDEX in self.promised else None
        weights = counted(self.promised, index)
        for file in [file for file in self.promised if file.endswith(".safetensors") and file not in weights]:
            del self.promised[file]
            self.missing.discard(file)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """A context in which the shards arrive in the background, those of the first layers first."""
        if not self.missing:
            yield
            return
        self._thread = Thread(target=self._deliver, daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            self._left = True  # the file that is coming ends with the process, and goes on in the next

    def wait(self, file: str) -> None:
        """Until a file is here and right; it is the next to come. Raises what ended the download."""
        with self._changed:
            if file in self.missing and self._thread is None:
                raise Stop(f"{file} of {self.repository} is needed before its download has begun")
            while file in self.missing and self._error is None:
                self._asked.append(file)
                self._changed.wait()
            if file in self.missing:
                assert self._error is not None
                raise self._error

    def whole(self) -> None:
        """Until every file is here and right. Raises what ended the download."""
        for file in self.promised:
            self.wait(file)

    def _deliver(self) -> None:
        total = len(self.promised)

        def tell(file: str, size: int) -> None:
            console.print(
                f"model: {total - len(self.missing)} of {total} files here, {file} is right", markup=False
            )

        try:
            with self._alone():
                while self.missing and not self._left:
                    asked = [file for file in self._asked if file in self.missing]
                    self._take((asked or [file for file in self._order if file in self.missing])[0], tell)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _take(self, file: str, tell: Told) -> None:
        """Download one file, check it, and give it its name and its place in the record."""
        staged, digest = self.repository.fetch(file, self.promised[file], self._incoming)
        staged.chmod(0o644)
        force_to_disk(staged)
        (self.folder / file).parent.mkdir(exist_ok=True)
        staged.rename(self.folder / file)
        force_to_disk((self.folder / file).parent)
        self._check_described(file)
        self._note(file, digest)
        with self._changed:
            self.missing.discard(file)
            self._changed.notify_all()
        if not self.missing:
            shutil.rmtree(self._incoming, ignore_errors=True)
        tell(file, self.promised[file].size)

    def _check_described(self, file: str) -> None:
        """Raises Stop when a shard is not what its header, asked for by range, has said."""
        if file in self._described:
            here = {
                name: replace(tensor, seen=None) for name, tensor in read_header(self.folder / file).items()
            }
            if here != self._described[file]:
                raise Stop(f"{self.repository}: {file} has another header than the hub told before")

    def _stands(self, file: str) -> bool:
        """Whether a file is here and right; it is read again only when it is not as it was when checked."""
        path = self.folder / file
        if not path.exists():
            return False
        known, stat = self._checked.get(file), path.stat()
        if known is not None and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return True
        digest = self.promised[file].kept_by(path)
        if digest is None:
            console.print(
                f"{shown(path)} is not what the hub promised: it is fetched again",
                markup=False,
                soft_wrap=True,
            )
            path.unlink()
            return False
        self._note(file, digest)
        return True

    def _note(self, file: str, digest: str) -> None:
        stat = (self.folder / file).stat()
        self._checked[file] = [stat.st_size, stat.st_mtime_ns, digest]
        said = {"promised": self.promised, "checked": self._checked}
        write_whole(self._record, readable_json(said))

    def _tensors_of(self, file: str) -> dict[str, Tensor]:
        path = self.folder / file
        if file not in self.missing:
            return read_header(path)
        header, length = self.repository.header(file), self.promised[file].size
        data = max((said["data_offsets"][1] for said in header.values()), default=0)
        # Tensors lie at a file's end, without a gap.
        self._described[file] = described(path, header, length - data, length)
        return self._described[file]

    def _room(self) -> None:
        known = self.missing if INDEX not in self.missing else {INDEX}  # which shards count, it says
        needed = self.size(known) - sum(path.lstat().st_size for path in all_files(self._incoming))
        free = free_at(self.folder)
        if free < needed:
            raise Stop(
                f"{shown(self.folder)} has {free / 1e9:.1f} GB free; the rest of {self.repository} needs "
                f"{needed / 1e9:.1f} GB: make room or choose another work_dir"
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The only process that downloads this repository here; what another has brought is not missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self._lock, f"fetching {shown(self.folder)}", waits=True):
            said = self._recorded()
            self._checked = said["checked"] if said else self._checked
            brought = {file for file in self.missing if self._stands(file)}
            with self._changed:
                self.missing -= brought
                self._changed.notify_all()
            yield

    def _recorded(self) -> dict[str, Any] | None:
        """What was noted of former downloads; of no use is a record that somebody has damaged."""
        try:
            said = json.loads(self._record.read_text(encoding="utf-8"))
            whole = isinstance(said["checked"], dict) and all(
                Promised(*each) for each in said["promised"].values()
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return said if whole else None


def _wanted(file: str) -> bool:
    """Files as of a local source, whose names can be printed; weights in other formats are left out."""
    return carried.belongs(file) and file.isprintable() and not file.endswith(carried.OTHER_FORMATS)


def _first_layer(tensors: dict[str, Tensor]) -> int:
    """The smallest number in the tensors' names that stands for a layer; names without one come last."""
    numbers = (re.search(r"\.(\d+)\.", name) for name in tensors)
    return min((int(number[1]) for number in numbers if number), default=1 << 30)
