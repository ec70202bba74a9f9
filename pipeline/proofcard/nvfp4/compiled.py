"""How loops over raw bits are compiled and spread over threads; no formula is here.

Each kernel handles items `begin` to `end` (blocks, rows, strips) and writes nothing else, so any split over
threads gives the same bytes; it holds no GIL. `fastmath` stays off: nothing is contracted or reordered.
Compiled in memory at first use and never cached on disk: numba tells a stale cache by time and size alone,
and two builds with squashed times can agree in both.

numba is not part of the base installation (the extra `fast` brings it, 190 MB with LLVM). Without it every
kernel is its numpy namesake of `plain` or, where it has none, the loop as Python runs it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

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
    """An input may be read-only and unaligned: it is, when it comes from a mapped file."""
    return numba.types.Array(dtype, ndim, "C", readonly=True, aligned=False) if numba is not None else dtype


def kernel(
    signature: Any, plain: Callable[..., Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for this signature alone, when first called. `plain` takes its place without numba."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        if numba is None:
            return plain or function
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
