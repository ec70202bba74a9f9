"""Whether a task's files are there, compile, and do what they should. Asked inside, compared outside."""

from pathlib import Path
from textwrap import indent
from typing import NamedTuple

from pydantic import JsonValue

from proofcard.config.agentic import BuildTask
from proofcard.config.serving import Call, Calls
from proofcard.sandbox import Mode
from proofcard.serve.truth.code import trial

_RAISED = """\
def raised(call, *given, **named):
    try:
        call(*given, **named)
    except Exception as error:
        return type(error).__name__
"""


class Judged(NamedTuple):
    """`why` is empty when the task passed."""

    compiles: bool
    why: str


def judge(task: BuildTask, folder: Path, mode: Mode) -> Judged:
    """A task's files, as they lie in `folder`.

    Raises:
        Stop: when no process can be confined.
    """
    if absent := [name for name in task.files if not (folder / name).is_file()]:
        return Judged(False, f"{absent[0]} is missing")
    for name in task.files:
        compiles = f'compile(open({name!r}, encoding="utf-8").read(), {name!r}, "exec")\nresult = True'
        right, why = _holds(compiles, True, folder, mode)
        if not right:
            return Judged(False, f"{name} does not compile: {why}")
    for number, check in enumerate(task.checks, 1):
        right, why = _holds(check.do, check.gives, folder, mode)
        if not right:
            return Judged(True, f"check {number} of {len(task.checks)}: {why}")
    return Judged(True, "")


def _holds(do: str, gives: JsonValue, folder: Path, mode: Mode) -> tuple[bool, str]:
    code = f"{_RAISED}\ndef check():\n{indent(do, '    ')}\n    return [result]\n"
    calls = Calls(function="check", expected=(Call(given=(), returns=[gives]),))
    return trial(code, calls, mode, folder=folder)
