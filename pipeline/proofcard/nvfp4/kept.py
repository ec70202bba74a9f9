"""Keeps compiled loops between runs, in a folder where only this user can write.

`$XDG_CACHE_HOME/proofcard/kernels` (`~/.cache/…`), created with mode 0700, holds one file per loop, named by
the digest of all that its machine code follows from: the byte code and constants of the loop and of every
function in it, as they are in memory; its signature; numba, llvmlite, numpy and Python; numba's settings; the
CPU. The time and size of a source file, by which numba's own cache goes, decide nothing.

A kept loop is unpickled and run, so it must come from this user: the folder and the file belong to them, no
one else may write to either, and no one else can replace a folder on the way there. A file begins with the
sha256 of the rest. Whatever does not hold, nothing is kept or read, and the loop is compiled as if there were
no cache.
"""

import contextlib
import hashlib
import marshal
import os
import pickle
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_LARGEST = 1 << 24  # bytes of a file; the loops here take 20 to 90 KB
_SHA256 = 32
_MOST = 200  # files; of more, those that were used longest ago are removed


class Kept:
    """The cache of one function, in place of numba's (`numba.core.caching._Cache`)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """`function` is what numba compiles."""
        self._function = function
        self._name = ""

    def load_overload(self, signature: Any, context: Any) -> Any:
        """What was compiled before; None where it has to be compiled now."""
        try:
            context.refresh()  # a process that compiles nothing has not loaded numba's types yet
            self._name = _digest(self._function, signature, context)
            with _folder(create=False) as folder:
                content = _read(folder, self._name)
            if content is None or hashlib.sha256(content[_SHA256:]).digest() != content[:_SHA256]:
                return None
            from numba.core.compiler import CompileResult

            return CompileResult._rebuild(context, *pickle.loads(content[_SHA256:]))
        except Exception:  # whatever a file or another numba may raise: compiling settles it
            return None

    def save_overload(self, _: Any, compiled: Any) -> None:
        """Keep it, where that can be done."""
        with contextlib.suppress(Exception):
            if not self._name or compiled.library.has_dynamic_globals or compiled.lifted:
                return
            from numba.core.serialize import dumps

            payload = dumps(compiled._reduce())
            with _folder(create=True) as folder:
                _write(folder, self._name, hashlib.sha256(payload).digest() + payload)


def place() -> Path:
    """The folder, whether or not it is there."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home.joinpath("proofcard", "kernels")


@contextlib.contextmanager
def _folder(create: bool) -> Iterator[int]:
    """A handle of the folder. Raises OSError unless nobody but this user and root can write there."""
    path = place()
    if not path.is_absolute():
        raise PermissionError("the cache is not at an absolute path")
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    path = path.parent.resolve(strict=True) / path.name
    for parent in path.parents:
        found = parent.stat()
        shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or shared:
            raise PermissionError(f"others can replace folders in {parent}")
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _expect_ours(os.fstat(handle), 0o077)
        yield handle
    finally:
        os.close(handle)


def _expect_ours(found: os.stat_result, closed: int) -> None:
    if found.st_uid != os.geteuid() or found.st_mode & closed:
        raise PermissionError("it belongs to another user, or others can write to it")


def _read(folder: int, name: str) -> bytes | None:
    """A file of the folder; None where there is none."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        _expect_ours(found, 0o022)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return None
        os.utime(file.fileno())  # used now
        return file.read(_LARGEST)


def _write(folder: int, name: str, content: bytes) -> None:
    """Under its name only when it is whole."""
    beside = f".{name}.{uuid.uuid4().hex}"
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise
    ages = {each: os.stat(each, dir_fd=folder, follow_symlinks=False).st_mtime for each in os.listdir(folder)}
    for each in sorted(ages, key=ages.__getitem__)[:-_MOST]:
        os.unlink(each, dir_fd=folder)


def _digest(function: Callable[..., Any], signature: Any, context: Any) -> str:
    """Hex sha256 of what decides the machine code."""
    import llvmlite
    import numba

    settings = {
        name: repr(getattr(numba.config, name))
        for name in dir(numba.config)
        if name.isupper() and "THREAD" not in name and "CACHE" not in name
    }
    said = (
        str(signature), context.codegen().magic_tuple(), numba.__version__, llvmlite.__version__,
        np.__version__, sys.version, sorted(settings.items()),
    )  # fmt: skip
    digest = hashlib.sha256(repr(said).encode())
    for part in _parts(function, set()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(function: Any, seen: set[Any]) -> Iterator[bytes]:
    """The byte code of a function and of those that it calls, and the values that they read."""
    code = function.__code__
    yield marshal.dumps(code, 2)  # of version 2: later ones depend on who else holds a constant
    cells = {} if function.__closure__ is None else dict(
        zip(code.co_freevars, (cell.cell_contents for cell in function.__closure__), strict=True)
    )  # fmt: skip
    for name in sorted({*code.co_names, *code.co_freevars}):
        value = cells.get(name, function.__globals__.get(name))
        yield f"{name} {type(value).__qualname__}".encode()
        called = getattr(value, "py_func", None)
        if called is not None and called not in seen:
            seen.add(called)
            yield from _parts(called, seen)
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype} {value.shape}".encode() + value.tobytes()
        elif isinstance(value, (bool, int, float, np.generic)):
            yield repr(value).encode()
        elif isinstance(value, type) or callable(value):
            yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}".encode()
