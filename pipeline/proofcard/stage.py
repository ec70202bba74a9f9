"""A stage's flat directory: reused when sealed under the same key, built beside its final name otherwise."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from proofcard import manifest
from proofcard.beside_seal import may_lie_beside
from proofcard.checkpoint.tensors import output_tables
from proofcard.digest import all_files, is_sealed
from proofcard.disk import force_to_disk, in_folder, write_whole
from proofcard.documents.manifest import FileEntry, Manifest
from proofcard.errors import Stop, may_pass
from proofcard.files import located
from proofcard.fingerprint import environment
from proofcard.locks import alone, check_free
from proofcard.progress import Bar, console, shown

_MARK = "key"
_WORTH_A_BAR = 10**9  # bytes
_LOADED = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model", ".py")  # read with a checkpoint


def find_sealed(directory: Path, key: str, digests: bool = True) -> Manifest | None:
    """The manifest of `directory` if it is sealed under `key` and intact; None if nothing stands there.

    Every byte is read: what is used again is what was sealed, whatever became of the disk. Without `digests`
    sizes alone are compared: for ranks beside the one that reads.

    Raises:
        Stop: when something else stands under that name, so that nothing of anybody's is overwritten.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    try:
        found = manifest.read(directory)
    except manifest.ManifestError as error:
        raise Stop(f"{error}; move {directory} away or choose another output_dir") from None
    if found.key != key:
        raise Stop(
            f"{directory} holds the result of another configuration (key {found.key[:12]}, "
            f"this run's is {key[:12]}); choose another output_dir or move it away"
        )
    sealed = found.outputs.files
    added = sorted(_standing(directory) - sealed.keys())
    name = added[0] if added else _altered(directory, sealed, digests)
    if name is not None:
        raise Stop(f"{directory}/{name} is not what was sealed; run verify on it, or move it away")
    return found


def intact(directory: Path) -> Manifest:
    """The manifest of a sealed directory, every byte of which has been read and is what was sealed.

    What stands beside does not matter unless it is of a kind that is loaded with a checkpoint.

    Raises:
        Stop: when a file is not what was sealed, or one was added that would be loaded.
    """
    found = manifest.read(directory)
    sealed = found.outputs.files
    for name in sorted(_standing(directory) - sealed.keys()):
        if name.endswith(_LOADED):
            raise Stop(f"{directory}/{name} was not sealed and would be loaded: see verify, or move it away")
    if (altered := _altered(directory, sealed)) is not None:
        if not (directory / altered).exists():
            raise Stop(
                f"{directory}/{altered} was sealed and is missing: "
                f"see proofcard verify checkpoint={directory}"
            )
        raise Stop(
            f"{directory}/{altered} is not what was sealed: see proofcard verify checkpoint={directory}"
        )
    return found


def _standing(directory: Path) -> set[str]:
    """Files that are sealed, or should not be there: all but the manifest and what may stand beside it."""
    names = {path.relative_to(directory).as_posix() for path in all_files(directory)}
    return {name for name in names - {manifest.NAME} if not may_lie_beside(name)}


def _altered(directory: Path, sealed: dict[str, FileEntry], digests: bool = True) -> str | None:
    """The first file that is not there as it was sealed: by size, then by sha256, read on every core."""
    sizes = {}
    for name in sorted(sealed):
        try:
            size = located(directory / name, directory).stat().st_size
        except (Stop, OSError):
            return name
        if size != sealed[name].size:
            return name
        sizes[name] = size
    if not digests:
        return None

    def altered(name: str) -> bool:
        try:
            return not is_sealed(directory / name, directory, sealed[name].size, sealed[name].sha256)
        except (Stop, OSError):
            return True

    bar = Bar("checking digests", len(sizes), "files") if sum(sizes.values()) > _WORTH_A_BAR else None
    with bar or nullcontext(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, differs in zip(sizes, pool.map(altered, sizes), strict=True):
            if differs:
                pool.shutdown(wait=False, cancel_futures=True)
                return name
            if bar is not None:
                bar.advance()
    return None


def once(final: Path, key: str, make: Callable[[Path], Manifest]) -> Manifest:
    """The manifest of `final`, sealed under `key`: as it stands, or as `make` gives it.

    `make` writes into the folder that it is given and seals it. Where another process is making the same
    directory, this one waits, and takes what the other has made.

    Raises:
        Stop: as `find_sealed`.
    """
    if (found := find_sealed(final, key)) is not None:
        return found
    final.parent.mkdir(parents=True, exist_ok=True)
    with alone(_lock_of(final), f"writing {shown(final)}", waits=True):
        if (found := find_sealed(final, key)) is not None:
            return found
        with _building(final, None) as partial:
            return make(partial)


@contextmanager
def building(final: Path, keep_for: str | None = None) -> Iterator[Path]:
    """A folder beside `final` to write into; `seal` gives it its final name.

    A failure leaves nothing under the final name, and nothing at all without `keep_for`. With it, a key, the
    folder and its state stay when the state holds a record (`<what>-<number from 00000>.json`) of something
    complete, and a run of the same key finds both again; a note on the exception tells so.

    Raises:
        Busy: when another process is building the same directory.
        Stop: when another process has made it since it was last looked for.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with alone(_lock_of(final), f"writing {shown(final)}", waits=False):
        if final.is_dir() and any(final.iterdir()):
            raise Stop(f"another process has made {shown(final)} meanwhile: the same command now reuses it")
        with _building(final, keep_for) as partial:
            yield partial


def check_unused(final: Path) -> None:
    """Whether `building` could begin now, as far as other processes are concerned.

    Raises:
        Busy: when another process is building the same directory; says which one.
        Stop: when the filesystem there has no locks.
    """
    check_free(_lock_of(final), f"writing {shown(final)}")


@contextmanager
def _building(final: Path, keep_for: str | None) -> Iterator[Path]:
    """As `building`, for whoever holds the lock."""
    partial, state = partial_of(final), state_of(final)
    try:
        if keep_for is None or not partial.exists() or _mark(state) != keep_for:
            if partial.exists() and (done := _done(state)):
                console.print(
                    f"{shown(state)} was kept after {done} of another configuration, machine or number of "
                    "threads: it is thrown away"
                )
            _discard(final)
            partial.mkdir()
            if keep_for is not None:
                _begin(state, keep_for)
        yield partial
    except BaseException as error:
        if partial.exists() and (done := _done(state)):
            error.add_note(_kept(error, done, state))
        else:
            _discard(final)
        raise
    _discard(final)  # what was sealed has another name by now


def _kept(error: BaseException, done: str, state: Path) -> str:
    """What the kept state is good for: an error that will come again makes it none to go on from."""
    if may_pass(error):
        return f"the same command goes on after {done} (to start over instead, remove {shown(state)})"
    return f"what is complete up to {done} takes room in {shown(state)} until you remove it"


def _lock_of(final: Path) -> Path:
    return final.parent / f".{final.name}.lock"


def _begin(state: Path, key: str) -> None:
    """An empty state for `key`. The mark outlives a power cut before anything relies on it."""
    state.mkdir()
    write_whole(state / _MARK, key)
    force_to_disk(state.parent)


def _discard(final: Path) -> None:
    """Remove the folder and its state, the mark first: half a state must not be taken for a whole one."""
    state = state_of(final)
    if state.exists():
        (state / _MARK).unlink(missing_ok=True)
        force_to_disk(state)
    for folder in (partial_of(final), state):
        if folder.exists():
            shutil.rmtree(folder)


def _mark(state: Path) -> str | None:
    mark = state / _MARK
    return mark.read_text(encoding="utf-8", errors="replace") if mark.exists() else None


def _done(state: Path) -> str | None:
    """The last thing that is complete, as `layer 2`, if there is any."""
    records = [path for path in sorted(state.glob("*-?????.json")) if path.stem[-5:].isdigit()]
    if not records:
        return None
    what, _, number = records[-1].stem.rpartition("-")
    return f"{what} {int(number) + 1}"


def partial_of(final: Path) -> Path:
    """Where a directory is built before it has its final name."""
    return final.parent / f".{final.name}.partial"


def state_of(final: Path) -> Path:
    """Where a stage that can go on keeps what it needs for that, until its directory is sealed."""
    return final.parent / f".{final.name}.state"


def taken(final: Path) -> int:
    """Bytes on disk that an unfinished run of this directory has taken: the next one uses or frees them."""
    files = [path for folder in (partial_of(final), state_of(final)) for path in all_files(folder)]
    return sum(512 * path.lstat().st_blocks for path in files)


def seal(partial: Path, final: Path, body: dict[str, Any]) -> Manifest:
    """Write the manifest over everything in `partial`, force it to disk and rename it to `final`.

    `body` is the manifest without `schema`, `outputs` and what its toolchain says of the environment; returns
    the whole, as `manifest.read` does.
    """
    (partial / manifest.NAME).unlink(missing_ok=True)  # of a run that ended while it sealed
    files, tensors = output_tables(partial)
    whole = {"schema": manifest.SCHEMA, "outputs": {"files": files, "tensors": tensors}} | body
    whole["toolchain"] = whole["toolchain"] | environment()
    made = manifest.sealed(whole)
    with in_folder(partial / manifest.NAME):
        (partial / manifest.NAME).write_text(made.text(), encoding="utf-8")
    name(partial, final)
    return made


def name(partial: Path, final: Path) -> None:
    """Force a complete folder to disk and give it its final name."""
    for path in all_files(partial):
        path.chmod(0o644)  # safetensors writes 0600, which no server under another user could read
        force_to_disk(path)
    force_to_disk(partial)
    if final.exists():
        final.rmdir()  # only an empty folder can stand here: find_sealed refused anything else
    partial.rename(final)
    force_to_disk(final.parent)
