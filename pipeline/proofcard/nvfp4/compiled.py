"""Compiles loops over raw bits and runs them on several threads; contains no formula.

Each kernel handles items `begin` to `end` (blocks, rows, strips) and writes nothing else, so any split over
threads gives the same bytes; it releases the GIL. `fastmath` is off: nothing is contracted or reordered.
Compiled at first use and kept for the next run where only this user can write (`kept`), never in numba's own
cache: that one takes a loop for a fresh one by the time and size of its source.

numba is not part of the base installation (the extra `fast` brings it, 190 MB with LLVM). Without it every
kernel is its numpy namesake of `plain` or, where it has none, the loop as Python runs it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from proofcard.nvfp4.kept import Kept

try:
    import numba
except ImportError:
    numba = None

GRAIN = 1 << 17  # weights in the smallest piece of work; 256 KiB as BF16, inside a second-level cache

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "nogil": True}
inline: Callable[..., Any] = numba.njit(**_OPTIONS) if numba is not None else lambda function: function
_compiling = threading.Lock()


class _Untyped:
    """Stands for every type of a signature where nothing is compiled."""

    def __call__(self, *_: Any) -> "_Untyped":
        return self

    def __getitem__(self, _: Any) -> "_Untyped":
        return self


def _type(name: str) -> Any:
    return getattr(numba, name) if numba is not None else _Untyped()


boolean, float32, int64, uint8, uint16, uint32, void = map(
    _type, ("boolean", "float32", "int64", "uint8", "uint16", "uint32", "void")
)


def kernels() -> Literal["compiled", "numpy"]:
    """Which loops run here."""
    return "compiled" if numba is not None else "numpy"


def readable(dtype: Any, ndim: int = 1) -> Any:
    """The type of an input, which may be read-only and unaligned, as in a mapped file."""
    return numba.types.Array(dtype, ndim, "C", readonly=True, aligned=False) if numba is not None else dtype


def kernel(
    signature: Any, plain: Callable[..., Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for this signature alone, when first called. `plain` takes its place without numba."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        if numba is None:
            return plain or function
        dispatcher: Any = numba.njit(**_OPTIONS)(function)
        dispatcher._cache = Kept(function)
        ready = False

        def call(*args: Any) -> Any:
            nonlocal ready
            if not ready:
                with _compiling:
                    if not ready:
                        dispatcher.compile(signature)
                        dispatcher.disable_compile()  # a writable input must not trigger a second compilation
                        ready = True
            return dispatcher(*args)

        return call

    return wrap


def spread(work: Callable[[int, int], Any], count: int, grain: int, threads: int) -> list[Any]:
    """Run work(begin, end) over 0 to count on `threads` threads, in several pieces each for balance.

    Plain threads instead of numba's: the kernels release the GIL, and this neither depends on which OpenMP is
    installed nor breaks a process that forks or calls from two threads at once.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    if threads == 1 or count <= grain:
        return [work(0, count)]
    size = max(grain, -(-count // (4 * threads)))
    begins = range(0, count, size)
    with ThreadPoolExecutor(min(threads, len(begins))) as pool:
        return list(pool.map(lambda begin: work(begin, min(count, begin + size)), begins))
