"""Compiles loops over raw bits and runs them on several threads; contains no formula.

Each kernel handles items `begin` to `end` (blocks, rows, strips) and writes nothing else, so any split over
threads gives the same bytes; it releases the GIL. `fastmath` is off: nothing is contracted or reordered.
Compiled in memory at first use and never cached on disk: numba detects a stale cache by time and size alone,
and two builds with squashed times can agree in both.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
from numba import types

GRAIN = 1 << 17  # weights in the smallest piece of work; 256 KiB as BF16, inside a second-level cache

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "nogil": True}
inline: Callable[..., Any] = numba.njit(**_OPTIONS)
_compiling = threading.Lock()


def readable(dtype: types.Type, ndim: int = 1) -> types.Array:
    """The type of an input, which may be read-only and unaligned, as in a mapped file."""
    return types.Array(dtype, ndim, "C", readonly=True, aligned=False)


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for this signature only, on the first call."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher: Any = numba.njit(**_OPTIONS)(function)
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
