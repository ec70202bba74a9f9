"""A stage's result folder: reused if sealed under the same key, otherwise built under a partial name."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proofcard import manifest
from proofcard.beside_seal import may_lie_beside
from proofcard.checkpoint.tensors import output_tables
from proofcard.digest import all_files, is_sealed
from proofcard.disk import force_to_disk, in_folder, write_whole
from proofcard.documents.manifest import FileEntry, Manifest
from proofcard.errors import Stop, may_pass
from proofcard.files import located, readable
from proofcard.fingerprint import environment
from proofcard.locks import alone, check_free
from proofcard.pasted import command
from proofcard.progress import console, over_files, shown

_MARK = "key"
_LOADED = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model", ".py")  # read with a checkpoint


def find_sealed(directory: Path, key: str, digests: bool = True) -> Manifest | None:
    """The manifest of `directory` if it is sealed under `key` and intact; None if it does not exist.

    Every byte is read, so that a reused result is exactly what was sealed. Without `digests`
    only sizes are compared, for the ranks that do not read.

    Raises:
        Stop: when something else has that name, so that nothing is overwritten.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    try:
        found = manifest.read(directory)
    except manifest.ManifestError as error:
        raise Stop(f"{error}; move {directory} away or choose another output_dir") from None
    if found.key != key:
        raise Stop(
            f"{directory} is the result of another configuration (key {found.key[:12]}, "
            f"this run has {key[:12]}); choose another output_dir or move it away"
        )
    sealed = found.outputs.files
    added = sorted(_standing(directory) - sealed.keys())
    name = added[0] if added else _altered(directory, sealed, digests)
    if name is not None:
        raise Stop(f"{directory}/{name} differs from what was sealed; run verify on it, or move it away")
    return found


def intact(directory: Path) -> Manifest:
    """The manifest of a sealed directory, after checking every byte against the seal.

    Other files do not matter unless they are of a kind that is loaded with a checkpoint.

    Raises:
        Stop: when a file differs from what was sealed, or one was added that would be loaded.
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
                f"see {command('verify', checkpoint=directory)}"
            )
        with readable(directory / altered), (directory / altered).open("rb"):
            pass  # what cannot be read is not called different
        raise Stop(
            f"{directory}/{altered} differs from what was sealed: "
            f"see {command('verify', checkpoint=directory)}"
        )
    return found


def _standing(directory: Path) -> set[str]:
    """Files that are sealed or unexpected: all but the manifest and what may lie beside it."""
    names = {path.relative_to(directory).as_posix() for path in all_files(directory)}
    return {name for name in names - {manifest.NAME} if not may_lie_beside(name)}


def _altered(directory: Path, sealed: dict[str, FileEntry], digests: bool = True) -> str | None:
    """The first file that differs from the seal: by size, then by sha256, using all cores."""
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

    def altered(path: Path) -> bool:
        entry = sealed[path.relative_to(directory).as_posix()]
        try:
            return not is_sealed(path, directory, entry.size, entry.sha256)
        except (Stop, OSError):
            return True

    paths = [directory / name for name in sizes]
    found = zip(sizes, over_files("checking digests", altered, paths), strict=True)
    return next((name for name, differs in found if differs), None)


def once(final: Path, key: str, make: Callable[[Path], Manifest]) -> Manifest:
    """The manifest of `final`, sealed under `key`: the existing one, or the result of `make`.

    `make` writes to the folder that it gets and seals it. If another process is making the same
    directory, this one waits and uses its result.

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
    """A folder next to `final` to write to; `seal` renames it to its final name.

    A failure leaves nothing under the final name, and nothing at all without `keep_for`. With that key, the
    folder and its state are kept if the state has a record (`<what>-<number from 00000>.json`) of something
    complete, and a run with the same key resumes from both; a note on the exception says so.

    Raises:
        Busy: when another process is building the same directory.
        Stop: when another process has made it in the meantime.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with alone(_lock_of(final), f"writing {shown(final)}", waits=False):
        if final.is_dir() and any(final.iterdir()):
            raise Stop(
                f"another process has made {shown(final)} in the meantime: the same command will reuse it"
            )
        with _building(final, keep_for) as partial:
            yield partial


def check_unused(final: Path) -> None:
    """Check that no other process prevents `building`.

    Raises:
        Busy: when another process is building the same directory; says which one.
        Stop: when the filesystem has no locks.
    """
    check_free(_lock_of(final), f"writing {shown(final)}")


@contextmanager
def _building(final: Path, keep_for: str | None) -> Iterator[Path]:
    """As `building`, once the lock is held."""
    partial, state = partial_of(final), state_of(final)
    try:
        if keep_for is None or not partial.exists() or _mark(state) != keep_for:
            if partial.exists() and (done := _done(state)):
                console.print(
                    f"the partial state in {shown(state)}, after {done}, is from another configuration, "
                    "machine or number of threads: deleting it"
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
    _discard(final)  # a sealed result has its final name by now


def _kept(error: BaseException, done: str, state: Path) -> str:
    """What the partial state is good for; an error that would recur makes it useless for resuming."""
    if may_pass(error):
        return f"the same command resumes after {done} (to start over instead, delete {shown(state)})"
    return f"the partial state after {done} uses disk space in {shown(state)} until you delete it"


def _lock_of(final: Path) -> Path:
    return final.parent / f".{final.name}.lock"


def _begin(state: Path, key: str) -> None:
    """Create an empty state for `key`. The mark is on disk before anything relies on it."""
    state.mkdir()
    write_whole(state / _MARK, key)
    force_to_disk(state.parent)


def _discard(final: Path) -> None:
    """Delete the folder and its state, the mark first, so that half a state never looks complete."""
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
    """The last complete item, as `layer 2`, if any."""
    records = [path for path in sorted(state.glob("*-?????.json")) if path.stem[-5:].isdigit()]
    if not records:
        return None
    what, _, number = records[-1].stem.rpartition("-")
    return f"{what} {int(number) + 1}"


def partial_of(final: Path) -> Path:
    """The partial name under which a directory is built."""
    return final.parent / f".{final.name}.partial"


def state_of(final: Path) -> Path:
    """The folder of a resumable stage's partial state, until its directory is sealed."""
    return final.parent / f".{final.name}.state"


def taken(final: Path) -> int:
    """Bytes on disk used by an unfinished run of this directory, which the next one reuses or frees."""
    files = [path for folder in (partial_of(final), state_of(final)) for path in all_files(folder)]
    return sum(512 * path.lstat().st_blocks for path in files)


def seal(partial: Path, final: Path, body: dict[str, Any]) -> Manifest:
    """Write the manifest over everything in `partial`, force it to disk and rename it to `final`.

    `body` is the manifest without `schema`, `outputs` and the toolchain's environment; returns
    the complete manifest, as `manifest.read`.
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
    """Force a complete folder to disk and rename it to its final name."""
    for path in all_files(partial):
        path.chmod(0o644)  # safetensors writes 0600, unreadable for a server under another user
        force_to_disk(path)
    force_to_disk(partial)
    if final.exists():
        final.rmdir()  # only an empty folder can exist here: find_sealed refuses anything else
    partial.rename(final)
    force_to_disk(final.parent)
