"""A strict applier of unified diffs: every line where the patch says, or an error. No fuzz, no offsets."""

import re
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


class DiffError(ValueError):
    """The text is no unified diff that we take, or it does not fit the file."""


@dataclass(frozen=True)
class Hunk:
    """Replace `old`, which stands at line index `at` of the file, by `new`."""

    at: int
    old: tuple[str, ...]
    new: tuple[str, ...]


def parse(text: str) -> dict[str, list[Hunk]]:
    """`{path: hunks}` of a unified diff of existing files; prose before the first file is skipped.

    Raises:
        DiffError: for a file that is created, deleted, renamed or named twice, and for a miscounted hunk.
    """
    lines = text.splitlines(keepends=True)
    found: dict[str, list[Hunk]] = {}
    path, number = None, 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("--- "):
            path = _path(line, lines[number + 1] if number + 1 < len(lines) else "")
            if path in found:
                raise DiffError(f"{path} is named twice")
            found[path] = []
            number += 2
        elif path is not None:
            hunk, number = _hunk(lines, number)
            found[path].append(hunk)
        else:
            number += 1
    if not found or not all(found.values()):
        raise DiffError("it changes nothing")
    return found


def apply(hunks: list[Hunk], text: str) -> str:
    """The text with every hunk applied where it says.

    Raises:
        DiffError: at the first line that is not what a hunk expects, by its number.
    """
    lines = text.splitlines(keepends=True)
    done: list[str] = []
    position = 0
    for hunk in hunks:
        if hunk.at < position:
            raise DiffError(f"its hunk at line {hunk.at + 1} overlaps the one before")
        end = hunk.at + len(hunk.old)
        standing = tuple(lines[hunk.at : end])
        if standing != hunk.old or hunk.at > len(lines):
            pairs = zip(standing, hunk.old, strict=False)
            off = next((n for n, (a, b) in enumerate(pairs) if a != b), len(standing))
            raise DiffError(f"line {hunk.at + off + 1} is not what it expects")
        done += lines[position : hunk.at]
        done += hunk.new
        position = end
    return "".join(done + lines[position:])


def _path(before: str, after: str) -> str:
    old, new = before[4:].split("\t")[0].strip(), after[4:].split("\t")[0].strip()
    if not after.startswith("+++ ") or not old.startswith("a/") or not new.startswith("b/"):
        raise DiffError(f"{before.strip()!r} is no header of a changed file")
    if old[2:] != new[2:] or ".." in old.split("/"):
        raise DiffError(f"{old} and {new} are not one file of the package")
    return old[2:]


def _hunk(lines: list[str], number: int) -> tuple[Hunk, int]:
    header = _HUNK.match(lines[number])
    if header is None:
        raise DiffError(f"{lines[number].rstrip()!r} is outside of every hunk")
    start, olds, news = int(header[1]), int(header[2] or 1), int(header[4] or 1)
    number += 1
    old: list[str] = []
    new: list[str] = []
    while number < len(lines) and (len(old) < olds or len(new) < news):
        sign, line = lines[number][0], lines[number][1:]
        if sign not in " -+":
            break
        if sign in " -":
            old.append(line)
        if sign in " +":
            new.append(line)
        number += 1
    if (len(old), len(new)) != (olds, news):
        raise DiffError(f"the hunk {header[0]} has {len(old)} old and {len(new)} new lines")
    at = start if olds == 0 else start - 1  # a pure insertion names the line it follows
    return Hunk(at, tuple(old), tuple(new)), number
