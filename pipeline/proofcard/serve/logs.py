"""Reads an engine's log: how the engine ended, what it does. Only a part of a large log is read."""

import re
from pathlib import Path

from proofcard.redact import redact

_READ = 256 * 1024  # bytes from the end
_TRACKED = 8 << 20  # bytes from each end that are tracked; settings are logged at the beginning
_LONGEST = 16 << 10  # characters; longer lines are cut
_FRAME = re.compile(r'^\s*(File ".*", line \d+|Traceback \(most recent call last\)|\^+|~+[\^~]*)')
_OUR_OWN_LOOK = '"GET /health HTTP'  # our own readiness checks
_EXCEPTION = re.compile(r"(^|\s)[\w.]*(Error|Exception): ")
_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|Not enough memory\. Please try"
    r"|No available memory for the cache blocks|less than desired GPU memory utilization"
    r"|larger than the available KV cache|(Prefill|Decode) out of memory|Cannot allocate memory|MemoryError"
    r"|not enough memory: you tried to allocate"
)
_REMEDY = {
    "sglang": "lower serving.flags.mem-fraction-static or context-length, or use more GPUs",
    "vllm": "lower serving.flags.gpu-memory-utilization or max-model-len, or use more GPUs",
    "transformers": "use a machine with more memory",
}


def last_line(log: Path) -> str:
    """The last line with content, secrets redacted."""
    return next(reversed(last_lines(log, 1)), "")


def last_lines(log: Path, count: int = 6) -> list[str]:
    """The last useful lines: without traceback frames and health checks.

    If the last line with an exception is not among them, it comes first.
    """
    useful: list[str] = []
    after_frame = False
    for line in _end_of(log):
        frame = bool(_FRAME.match(line)) or _FRAME.match(re.sub(r"^\[.*?\]\s?", "", line)) is not None
        if (
            line.strip()
            and _OUR_OWN_LOOK not in line
            and not frame
            and not (after_frame and line.startswith("    "))
        ):
            useful.append(redact(line.rstrip())[:400])
        after_frame = frame or (after_frame and line.startswith("    "))
    named = [line for line in useful[:-count] if _EXCEPTION.search(line)]
    return [*named[-1:], *useful[-count:]]


def whole(log: Path) -> str:
    """The whole log, or the last megabytes of a large one."""
    return "\n".join(_end_of(log, _TRACKED)) + "\n"


def both_ends(log: Path) -> str:
    """The whole log, or the first and last megabytes of a large one; long lines are cut."""
    if not log.exists() or log.stat().st_size <= 2 * _TRACKED:
        return "\n".join(_end_of(log, 2 * _TRACKED))
    with log.open("rb") as file:
        first = _cut(file.read(_TRACKED))
    return "\n".join([*first, *_end_of(log, _TRACKED)])


def out_of_memory(log: Path, engine: str, status: int | None) -> str | None:
    """What happened and what to do, if it ran out of memory."""
    if any(_OUT_OF_MEMORY.search(line) for line in _end_of(log)):
        return f"it ran out of memory: {_REMEDY[engine]}"
    if status == -9:
        return f"it was killed, probably by the kernel because memory ran out: {_REMEDY[engine]}"
    return None


def _end_of(log: Path, size: int = _READ) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - size))
        return _cut(file.read(size))


def _cut(data: bytes) -> list[str]:
    """Lines, with long ones cut."""
    text = data.decode(errors="replace").replace("\r", "\n").removesuffix("\n")
    return [line[:_LONGEST] for line in text.split("\n")]
