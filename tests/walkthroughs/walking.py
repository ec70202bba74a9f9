"""Runs a page of docs/ as it is written: its `console` blocks in order, in one shell and one folder.

A line that begins with `$ ` is a command; it goes on in the next line after a backslash, or where a quotation
mark is open. The lines below are what it prints, if any are shown: all of standard output, and standard error
as well where it fails. `…` in a line is any text, a line `…` any lines. Blank lines and how many spaces there
are do not count. A command has to succeed unless the next one is `echo $?`.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "walked-"


@dataclass
class Step:
    """A command, and the lines that the page shows below it."""

    line: int
    command: str
    shown: list[str] = field(default_factory=list)


def steps(page: str) -> list[Step]:
    """The commands of a page in order."""
    found: list[Step] = []
    for block in _BLOCK.finditer(page):
        first = page.count("\n", 0, block.start(1)) + 1
        continues = False
        for number, line in enumerate(block[1].splitlines(), first):
            if continues:
                found[-1].command += f"\n{line}"
            elif line.startswith("$ "):
                found.append(Step(number, line.removeprefix("$ ")))
            else:
                found[-1].shown.append(line)
            is_command = continues or line.startswith("$ ")
            continues = is_command and (line.endswith("\\") or found[-1].command.count('"') % 2 == 1)
    return found


def differs(shown: list[str], printed: str) -> str | None:
    """The first line of `shown` that is not in `printed` where it should be, or what is printed besides."""
    expected = [" ".join(line.split()) for line in shown if line.strip()]
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    free = False
    for line in expected:
        if line == "…":
            free = True
            continue
        places = range(len(lines) if free else min(1, len(lines)))
        place = next((n for n in places if _pattern(line).fullmatch(lines[n])), None)
        if place is None:
            return (
                f"{line!r} is shown, {lines[0]!r} printed" if lines else f"{line!r} is shown, nothing printed"
            )
        lines, free = lines[place + 1 :], False
    return f"{lines[0]!r} is printed and not shown" if lines and not free else None


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, line.split("…"))))


class Shell:
    """A bash in a folder, which keeps its variables from one command to the next."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._out, self._err = folder / ".stdout", folder / ".stderr"
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=os.environ | environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> "Shell":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bash.kill()
        self._bash.communicate()

    def run(self, command: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        assert self._bash.stdin is not None and self._bash.stdout is not None
        status = "__status=$?"
        self._bash.stdin.write(
            f"{{ (exit $__status)\n{command}\n}} >{self._out} 2>{self._err} </dev/null\n{status}\n"
            f"echo {_END}$__status\n"
        )
        self._bash.stdin.flush()
        for line in self._bash.stdout:
            if line.startswith(_END):
                return int(line.removeprefix(_END)), self._out.read_text(), self._err.read_text()
        raise AssertionError(f"the shell ended within {command!r}")


def walk(page: Path, shell: Shell) -> Iterator[Step]:
    """Run every step of a page; each that was as shown is given back."""
    found = steps(page.read_text(encoding="utf-8"))
    for step, following in zip(found, [*found[1:], None], strict=True):
        status, out, err = shell.run(step.command)
        where = f"{page.name}, line {step.line}: {step.command}\n{out}{err}"
        may_fail = following is not None and following.command == "echo $?"
        assert status == 0 or may_fail, f"exit status {status} of {where}"
        if step.shown:
            wrong = differs(step.shown, out + (err if status else ""))
            assert wrong is None, f"{wrong}\n{where}"
        yield step
