"""A stage's flat directory: reused when sealed under the same key, built beside its final name otherwise."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proofcard import manifest
from proofcard.checkpoint.tensors import output_tables
from proofcard.digest import all_files
from proofcard.disk import force_to_disk, write_whole
from proofcard.errors import Stop
from proofcard.fingerprint import environment
from proofcard.progress import console, shown

_MARK = "key"


def find_sealed(directory: Path, key: str) -> dict[str, Any] | None:
    """The manifest of `directory` if it is sealed under `key` and complete; None if nothing stands there.

    Sizes are compared, not digests: `verify` reads every byte.

    Raises:
        Stop: when something else stands under that name, so that nothing of anybody's is overwritten.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    try:
        found = manifest.read(directory)
    except manifest.ManifestError as error:
        raise Stop(f"{error}; move {directory} away or choose another output_dir") from None
    if found["key"] != key:
        raise Stop(
            f"{directory} holds the result of another configuration (key {found['key'][:12]}, "
            f"this run's is {key[:12]}); choose another output_dir or move it away"
        )
    sealed = {name: file["size"] for name, file in found["outputs"]["files"].items()}
    standing = {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in all_files(directory)
        if path.is_file() and path != directory / manifest.NAME
    }
    if sealed != standing:
        name = sorted(sealed.items() ^ standing.items())[0][0]
        raise Stop(f"{directory}/{name} is not what was sealed; run verify on it, or move it away")
    return found


@contextmanager
def building(final: Path, keep_for: str | None = None) -> Iterator[Path]:
    """A folder beside `final` to write into; `seal` gives it its final name.

    A failure leaves nothing under the final name, and nothing at all without `keep_for`. With it, a key, the
    folder and its state stay when the state holds a record (`<what>-<number from 00000>.json`) of something
    complete, and a run of the same key finds both again; a note on the exception tells so.

    Raises:
        Stop: when another process is building the same directory.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    partial, state = partial_of(final), state_of(final)
    with (final.parent / f".{final.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop(f"another process is writing {final}: wait, or choose another output_dir") from None
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
        try:
            yield partial
        except BaseException as error:
            if partial.exists() and (done := _done(state)):
                error.add_note(
                    f"the same command goes on after {done} (to start over instead, remove {shown(state)})"
                )
            else:
                _discard(final)
            raise
        _discard(final)  # what was sealed has another name by now


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
    return mark.read_text() if mark.exists() else None


def _done(state: Path) -> str | None:
    """The last thing that is complete, as `layer 2`, if there is any."""
    records = sorted(state.glob("*-?????.json"))
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


def seal(partial: Path, final: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest over everything in `partial`, force it to disk and rename it to `final`.

    `body` is the manifest without `schema`, `outputs` and what its toolchain says of the environment; returns
    the whole, as `manifest.read` does.
    """
    (partial / manifest.NAME).unlink(missing_ok=True)  # of a run that ended while it sealed
    files, tensors = output_tables(partial)
    whole = {"schema": manifest.SCHEMA, "outputs": {"files": files, "tensors": tensors}} | body
    whole["toolchain"] = whole["toolchain"] | environment()
    (partial / manifest.NAME).write_text(manifest.seal(whole), encoding="utf-8")
    name(partial, final)
    return whole


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
