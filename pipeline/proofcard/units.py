"""Quantities as people read them. One convention: 1 GB is 10^9 bytes, on disk and in memory."""

_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def size(count: float) -> str:
    """Bytes in decimal units with three digits or more: `134.3 GB`, `5.1 MB`, `17 bytes`."""
    for unit, name in _SIZES:
        if count >= 0.9995 * unit:
            return f"{count / unit:,.1f} {name}"
    return counted(int(count), "byte")


def counted(count: int, one: str, more: str = "") -> str:
    """A number and what it counts: `1 file`, `2 files`."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def many(number: float) -> str:
    """A large number in words: `228.69 billion`, `5.02 million`; a smaller one in digits."""
    for unit, name in ((1e15, "quadrillion"), (1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:.2f} {name}"
    return f"{number:,.0f}"


def duration(hours: float) -> str:
    """`3.2 h`, or minutes or seconds for less than one hour or minute."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    if hours >= 1 / 60:
        return f"{60 * hours:.1f} min"
    seconds = 3600 * hours
    return f"{seconds:.1f} s" if seconds >= 0.1 or not seconds else "under 0.1 s"


def operations(flop: float) -> str:
    """Floating-point operations with a metric prefix: `1.6 PFLOP`."""
    for unit, name in ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if flop >= unit:
            return f"{flop / unit:,.1f} {name}"
    return f"{flop:,.0f} FLOP"
