"""A stage's flat directory: reused when sealed under the same key, built beside its final name otherwise."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import manifest
from pipeline.checkpoint.tensors import output_tables
from pipeline.digest import all_files
from pipeline.disk import force_to_disk
from pipeline.errors import Stop


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

    A failure leaves nothing under the final name. Without `keep_for` the folder is empty at first and gone
    at last. With it, a key, it stays until it is sealed, and another run of the same key finds it again.

    Raises:
        Stop: when another process is building the same directory.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(final)
    with (final.parent / f".{final.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop(f"another process is writing {final}: wait, or choose another output_dir") from None
        state = state_of(final)
        mark = state / "key"
        if keep_for is None or not mark.exists() or mark.read_text() != keep_for:
            shutil.rmtree(state, ignore_errors=True)
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        if keep_for is not None and not mark.exists():
            state.mkdir()
            fresh = mark.with_suffix(".new")
            fresh.write_text(keep_for)
            fresh.rename(mark)
        try:
            yield partial
        finally:
            if keep_for is None:
                shutil.rmtree(partial, ignore_errors=True)
            elif not partial.exists() or not any(partial.iterdir()):  # sealed, or stopped before any work
                shutil.rmtree(partial, ignore_errors=True)
                shutil.rmtree(state, ignore_errors=True)


def partial_of(final: Path) -> Path:
    """Where a directory is built before it has its final name."""
    return final.parent / f".{final.name}.partial"


def state_of(final: Path) -> Path:
    """Where a stage that can go on keeps what it needs for that, until its directory is sealed."""
    return final.parent / f".{final.name}.state"


def seal(partial: Path, final: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest over everything in `partial`, force it to disk and rename it to `final`.

    `body` is the manifest without `schema` and `outputs`; returns the whole, as `manifest.read` does.
    """
    files, tensors = output_tables(partial)
    whole = {"schema": manifest.SCHEMA, "outputs": {"files": files, "tensors": tensors}} | body
    (partial / manifest.NAME).write_text(manifest.seal(whole), encoding="utf-8")
    for path in all_files(partial):
        path.chmod(0o644)  # safetensors writes 0600, which no server under another user could read
        force_to_disk(path)
    force_to_disk(partial)
    if final.exists():
        final.rmdir()  # only an empty folder can stand here: find_sealed refused anything else
    partial.rename(final)
    force_to_disk(final.parent)
    return whole
