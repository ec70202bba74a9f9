"""How loops over raw bits are compiled and spread over threads; no formula is here.

Each kernel handles items `begin` to `end` (blocks, rows, strips) and writes nothing else, so any split over
threads gives the same bytes; it holds no GIL. `fastmath` stays off: nothing is contracted or reordered.
Compiled in memory at first use and never cached on disk: numba tells a stale cache by time and size alone,
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
    """An input may be read-only and unaligned: it is, when it comes from a mapped file."""
    return types.Array(dtype, ndim, "C", readonly=True, aligned=False)


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for this signature alone, when first called."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher: Any = numba.njit(**_OPTIONS)(function)
        ready = False

        def call(*args: Any) -> Any:
            nonlocal ready
            if not ready:
                with _compiling:
                    if not ready:
                        dispatcher.compile(signature)
                        dispatcher.disable_compile()  # a writable input must not bring a second compilation
                        ready = True
            return dispatcher(*args)

        return call

    return wrap


def spread(work: Callable[[int, int], Any], count: int, grain: int, threads: int) -> list[Any]:
    """work(begin, end) over 0 to count, on so many threads, several pieces each in case one is slow.

    Plain threads, not numba's: the kernels hold no GIL, and this neither depends on which OpenMP is
    installed nor breaks a process that forks or calls from two threads at once.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; at least 1 is needed")
    if threads == 1 or count <= grain:
        return [work(0, count)]
    size = max(grain, -(-count // (4 * threads)))
    begins = range(0, count, size)
    with ThreadPoolExecutor(min(threads, len(begins))) as pool:
        return list(pool.map(lambda begin: work(begin, min(count, begin + size)), begins))
