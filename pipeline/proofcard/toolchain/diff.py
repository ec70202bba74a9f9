"""Applies unified diffs strictly: every line where the patch has it, or an error. No fuzz, no offsets."""

import re
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


class DiffError(ValueError):
    """The text is not a supported unified diff, or it does not match the file."""


@dataclass(frozen=True)
class Hunk:
    """Replace `old`, at line index `at` of the file, by `new`."""

    at: int
    old: tuple[str, ...]
    new: tuple[str, ...]


def parse(text: str) -> dict[str, list[Hunk]]:
    """`{path: hunks}` of a unified diff of existing files; prose before the first file is skipped.

    Raises:
        DiffError: for a file that is created, deleted, renamed or listed twice, and for a miscounted hunk.
    """
    lines = text.splitlines(keepends=True)
    files: dict[str, list[Hunk]] = {}
    path, number = None, 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("--- "):
            path = _path(line, lines[number + 1] if number + 1 < len(lines) else "")
            if path in files:
                raise DiffError(f"{path} is listed twice")
            files[path] = []
            number += 2
        elif path is not None:
            hunk, number = _hunk(lines, number)
            files[path].append(hunk)
        else:
            number += 1
    if not files or not all(files.values()):
        raise DiffError("it changes nothing")
    return files


def apply(hunks: list[Hunk], text: str) -> str:
    """The text with every hunk applied exactly at its line.

    Raises:
        DiffError: with the number of the first line that differs from what a hunk expects.
    """
    lines = text.splitlines(keepends=True)
    done: list[str] = []
    position = 0
    for hunk in hunks:
        if hunk.at < position:
            raise DiffError(f"its hunk at line {hunk.at + 1} overlaps the previous one")
        end = hunk.at + len(hunk.old)
        actual = tuple(lines[hunk.at : end])
        if actual != hunk.old or hunk.at > len(lines):
            pairs = zip(actual, hunk.old, strict=False)
            off = next((n for n, (a, b) in enumerate(pairs) if a != b), len(actual))
            raise DiffError(f"line {hunk.at + off + 1} differs from what it expects")
        done += lines[position : hunk.at]
        done += hunk.new
        position = end
    return "".join(done + lines[position:])


def _path(before: str, after: str) -> str:
    old, new = before[4:].split("\t")[0].strip(), after[4:].split("\t")[0].strip()
    if not after.startswith("+++ ") or not old.startswith("a/") or not new.startswith("b/"):
        raise DiffError(f"{before.strip()!r} is not the header of a changed file")
    if old[2:] != new[2:] or ".." in old.split("/"):
        raise DiffError(f"{old} and {new} are not the same file of the package")
    return old[2:]


def _hunk(lines: list[str], number: int) -> tuple[Hunk, int]:
    header = _HUNK.match(lines[number])
    if header is None:
        raise DiffError(f"{lines[number].rstrip()!r} is outside all hunks")
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
