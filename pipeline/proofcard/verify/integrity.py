"""Level `integrity`: the folder holds what was sealed; nothing is missing, nothing is extra.

Every file is hashed once: where its digest is the sealed one, so are all of its tensors. Where it is not, the
file is read again, and the digest of each tensor says which one differs.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from proofcard import manifest
from proofcard.beside_seal import in_short, may_lie_beside
from proofcard.checkpoint.reading import give_up
from proofcard.checkpoint.shards import weight_files
from proofcard.checkpoint.tensors import Tensor, digests, read_header
from proofcard.digest import all_files, sha256_file
from proofcard.documents.manifest import FileEntry, Manifest, TensorEntry
from proofcard.errors import Stop, one_line
from proofcard.files import Refused, Unreadable, located
from proofcard.progress import Bar
from proofcard.verify.file_digests import FileDigests
from proofcard.verify.inventory import natural
from proofcard.verify.report import Finding, Level

_LISTED = 8  # files beside the seal that are named
_MB = 10**6

Files = dict[str, FileEntry]
Tensors = dict[str, TensorEntry]


class Seal:
    """The manifest of a folder, or why it cannot be used."""

    def __init__(self, folder: Path) -> None:
        """Read and check `manifest.json`; raises nothing."""
        self._folder = folder
        self.body: Manifest | None = None
        self.finding: Finding | None = None
        self.unchecked: str | None = None
        self.sha256: str | None = None
        try:
            self.body = manifest.read(folder)
            self.sha256 = sha256_file(folder / manifest.NAME, folder)
        except manifest.NeverSealed:
            self.unchecked = f"it was never sealed: it has no {manifest.NAME}"
        except Unreadable as error:
            self.unchecked = f"{manifest.NAME}: {one_line(error, checkpoint=folder)}"
        except Stop as error:
            self._refuse(one_line(error, checkpoint=folder))

    def _refuse(self, why: str) -> None:
        self.finding = Finding("mismatched", why, file=manifest.NAME)

    def digests(self) -> FileDigests | None:
        """Of the sealed files, before anything of them is hashed."""
        if self.body is None:
            return None
        return FileDigests(self._folder, {name: file.size for name, file in self.body.outputs.files.items()})

    def identity(self) -> dict[str, Any] | None:
        """How the report identifies it."""
        return None if self.body is None else {"key": self.body.key, "sha256": self.sha256}


def check(folder: Path, seal: Seal, threads: int, hashed: FileDigests | None = None) -> Level:
    """Compare every file and tensor of `folder` with the manifest.

    `hashed` has what was hashed while another level read the same files.
    """
    level = Level("integrity")
    if seal.body is None:
        level.unchecked += [seal.unchecked] if seal.unchecked else []
        level.add(*([seal.finding] if seal.finding else []))
        return level
    sealed, tensors = seal.body.outputs.files, seal.body.outputs.tensors
    present = {name: folder / name for name in _present(folder)}
    beside = sorted(name for name in present.keys() - sealed.keys() if _beside(name, folder))
    if beside:
        named = in_short(beside)
        more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
        level.notes.append(f"beside the sealed files, not part of them: {', '.join(named[:_LISTED])}{more}")
    for name in beside:
        del present[name]
    findings = [*_names(sealed, present)]
    sizes: dict[str, int] = {}
    for name in sorted(sealed.keys() & present.keys()):
        try:
            sizes[name] = located(present[name], folder).stat().st_size
        except Refused as error:
            findings.append(Finding("missing", one_line(error, checkpoint=folder), file=name))
        except (Unreadable, OSError) as error:
            level.unchecked.append(f"{name}: {one_line(error, checkpoint=folder)}")
    expected: dict[str, Tensors] = {name: {} for name in sealed}
    for name, entry in tensors.items():
        expected[entry.file][name] = entry

    counted = _counted(folder)
    with Bar("integrity", -(-sum(sizes.values()) // _MB), "MB") as bar:
        progress = _Progress(bar)

        def compare(name: str) -> list[Finding] | str:
            try:
                counts = name in counted
                found = _compare(name, folder, sealed[name], expected[name], counts, hashed, progress.add)
                return list(found)
            except (Unreadable, OSError) as error:
                return f"{name}: {one_line(error, checkpoint=folder)}"

        pool = ThreadPoolExecutor(threads)
        try:
            for outcome in pool.map(compare, sorted(sizes, key=lambda name: -sizes[name])):
                if isinstance(outcome, str):
                    level.unchecked.append(outcome)
                else:
                    findings += outcome
        except KeyboardInterrupt:
            give_up()
            raise
        finally:
            progress.stopped = True  # an interrupt must not wait for the rest of a shard
            pool.shutdown(cancel_futures=True)
        progress.finish()
    level.add(*sorted(findings, key=lambda f: (natural(f.file or ""), natural(f.tensor or ""))))
    level.counts.update(files=len(sizes), tensors=len(tensors), bytes=sum(sizes.values()))
    return level


def _counted(folder: Path) -> set[str]:
    """Safetensors files whose tensors a manifest lists: all of them, if the index cannot be read."""
    try:
        return {path.name for path in weight_files(folder)}
    except Stop:
        return {path.name for path in folder.glob("*.safetensors")}


def _beside(name: str, folder: Path) -> bool:
    """Whether a file that is not sealed may be there all the same (docs/manifest.md)."""
    if not may_lie_beside(name):
        return False
    try:
        located(folder / name, folder)
    except (Stop, OSError):
        return False
    return True


def _names(sealed: Files, present: dict[str, Path]) -> Iterator[Finding]:
    for name in sorted(sealed.keys() - present.keys()):
        yield Finding("missing", "it was sealed but is missing", file=name)
    for name in sorted(present.keys() - sealed.keys()):
        what = "link" if present[name].is_symlink() else "folder" if name.endswith("/") else "file"
        yield Finding("extra", f"a {what} that was not sealed", file=name)


def _present(folder: Path) -> Iterator[str]:
    """Relative names of what is there: files, links, and, with a final slash, empty folders.

    A link under a sealed name is followed inside the folder and to the blobs of the Hugging Face cache: what
    counts is the bytes that a server would read.
    """
    files = [path.relative_to(folder) for path in all_files(folder)]
    inner = {parent for path in files for parent in path.parents}
    for path in files:
        if path.as_posix() != manifest.NAME:
            yield path.as_posix()
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink() and path.relative_to(folder) not in inner:
            yield f"{path.relative_to(folder).as_posix()}/"


def _compare(
    name: str,
    folder: Path,
    sealed: FileEntry,
    expected: Tensors,
    counted: bool,
    hashed: FileDigests | None,
    tick: Callable[[int], None],
) -> Iterator[Finding]:
    """Differences of one file: by tensor where its header counts and allows it, else of the file.

    If a file's size differs, only tensors of the sealed size are read: a hole of terabytes costs nothing.
    """
    path = folder / name
    size = located(path, folder).stat().st_size
    tensors: dict[str, Tensor] = {}
    broken = None
    if counted:
        try:
            tensors = read_header(path)
        except Unreadable:
            raise
        except Stop as error:
            broken = one_line(error, checkpoint=folder)
    if size == sealed.size:
        digest, inside = _digests(path, folder, tensors, sealed.sha256, hashed, tick)
    else:
        digest, inside = "", _digests_of_alike(tensors, expected)
    same = digest == sealed.sha256 and size == sealed.size
    if broken is not None and not same:
        yield Finding("mismatched", f"its header cannot be read: {broken}", file=name)
        return
    by_tensor = list(_compare_tensors(name, tensors, inside, expected)) if broken is None else []
    yield from by_tensor
    if same or by_tensor:
        return
    if size != sealed.size:
        message = f"it has {size} bytes, but {sealed.size} were sealed"
    elif inside:
        end = min(tensor.start for tensor in tensors.values())
        message = f"bytes 0 to {end - 1}, its header, differ; every tensor in it is what was sealed"
    else:
        message = f"its content differs: sha256 {digest}, but {sealed.sha256} was sealed"
    yield Finding("mismatched", message, file=name, expected=sealed.sha256, found=digest or None)


def _digests(
    path: Path,
    folder: Path,
    tensors: dict[str, Tensor],
    sealed: str,
    hashed: FileDigests | None,
    tick: Callable[[int], None],
) -> tuple[str, dict[str, str]]:
    """Hex sha256 of a file and, where it is not the sealed one, of each tensor."""
    digest = hashed.finished(path.relative_to(folder).as_posix(), tick) if hashed is not None else None
    inside: dict[str, str] = {}
    if digest is None:
        digest, inside = digests(path, [], tick, folder)
    if digest != sealed and not inside:
        again, inside = digests(path, list(tensors.values()), lambda _: tick(0), folder)
        inside = inside if again == digest else {}  # it is being written to: nothing is known of its tensors
    return digest, inside


def _digests_of_alike(tensors: dict[str, Tensor], sealed: Tensors) -> dict[str, str]:
    """Hex sha256 of the tensors that have their sealed dtype and shape."""
    return {name: tensor.sha256() for name, tensor in tensors.items() if _alike(tensor, sealed.get(name))}


def _alike(tensor: Tensor, entry: TensorEntry | None) -> bool:
    return entry is not None and [tensor.dtype, list(tensor.shape)] == [entry.dtype, entry.shape]


def _compare_tensors(
    file: str, tensors: dict[str, Tensor], digests: dict[str, str], sealed: Tensors
) -> Iterator[Finding]:
    for name in sorted(sealed.keys() - tensors.keys()):
        yield Finding("missing", f"it was sealed in {file} but is missing", file=file, tensor=name)
    for name in sorted(tensors.keys() - sealed.keys()):
        yield Finding("extra", f"it is in {file}, but was not sealed there", file=file, tensor=name)
    for name in sorted(sealed.keys() & tensors.keys()):
        tensor, entry = tensors[name], sealed[name]
        if not _alike(tensor, entry):
            expected, actual = f"{entry.dtype} {entry.shape}", f"{tensor.dtype} {list(tensor.shape)}"
            message = f"it is {actual}, but {expected} was sealed"
        elif digests.get(name, entry.sha256) != entry.sha256:
            expected, actual = entry.sha256, digests[name]
            last = tensor.start + tensor.size - 1
            message = f"it differs, somewhere in bytes {tensor.start} to {last} of {file}"
        else:
            continue
        yield Finding("mismatched", message, file=file, tensor=name, expected=expected, found=actual)


class _Progress:
    """Bytes from many threads to whole MiB on one bar."""

    def __init__(self, bar: Bar) -> None:
        self.stopped = False
        self._bar, self._bytes, self._shown, self._lock = bar, 0, 0, threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes; raises when the work was given up."""
        if self.stopped:
            raise InterruptedError("given up")
        with self._lock:
            self._bytes += count
            self._show(self._bytes // _MB)

    def finish(self) -> None:
        """The last, incomplete MiB."""
        self._show(-(-self._bytes // _MB))

    def _show(self, mib: int) -> None:
        if mib > self._shown:
            self._bar.advance(mib - self._shown)
            self._shown = mib
