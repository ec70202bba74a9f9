"""Code that a model wrote, run confined (`proofcard.sandbox`), its values compared here.

The process that runs the code is given arguments and nothing else: what a call must return stays in this one.
"""

import json
import re
from pathlib import Path
from typing import Any

from proofcard.config.serving import Call, Calls, Numbers
from proofcard.sandbox import Ended, Limits, Mode, Running, started
from proofcard.serve.truth import answering

_FENCED = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(.*?)^[ \t]*(?:```|~~~)", re.DOTALL | re.MULTILINE)
_DEFINES = re.compile(r"^[ \t]*(?:def|class) ", re.MULTILINE)
_LONGEST = 1 << 18  # characters of code
_ANSWERING = Path(answering.__file__)
_LIMITS = Limits()


class _Wrong(Exception):
    """The code does not do what was asked; the message says how."""


def code_in(answer: str) -> str | None:
    """The first fenced block that defines something, or the whole answer if it does without fences."""
    blocks = _FENCED.findall(answer) or [answer]
    return next((block for block in blocks if _DEFINES.search(block)), None)


def trial(
    code: str, calls: Calls, mode: Mode = "strict", limits: Limits = _LIMITS, folder: Path | None = None
) -> tuple[bool, str]:
    """Whether the function that the code defines returns what it must for every call, and what happened.

    The code can import the Python files of `folder`, and read its files.

    Raises:
        Stop: when no process can be confined; the code was not run.
    """
    if len(code) > _LONGEST:
        return False, f"its code is longer than {_LONGEST >> 10} KiB"
    try:
        with started(_ANSWERING, folder, limits, mode == "weak") as inside:
            _heard(inside, {"code": code, "function": calls.function})
            for call in calls.expected:
                _hold(inside, calls.function, call)
    except Ended as ended:
        return False, f"its code {ended}"
    except _Wrong as wrong:
        return False, f"its code fails: {wrong}"
    return True, "its code passes"


def _hold(inside: Running, function: str, call: Call) -> None:
    """Raises _Wrong unless the call returns what it must and reads no more of a served list than it may."""
    what = f"{function}({', '.join(_short(each) for each in call.given)})"
    heard = _heard(inside, {"given": [_argument(each) for each in call.given]})
    served = next((each for each in call.given if isinstance(each, Numbers) and each.reads is not None), None)
    if served is not None:
        heard = _serve(inside, served.values(), served.reads or 0, heard, what)
    if "other" in heard:
        raise _Wrong(f"{what} returns a {_short(heard['other'], quoted=False)}")
    if "value" not in heard or not _same(heard["value"], _values(call.returns)):
        raise _Wrong(f"{what} returns {_short(heard.get('value'))}, not {_short(call.returns)}")


def _serve(
    inside: Running, elements: list[int], most: int, heard: dict[str, Any], what: str
) -> dict[str, Any]:
    """Give the elements that are asked for, `most` of them; returns the answer that is no question."""
    reads = 0
    while "read" in heard:
        place, reads = heard["read"], reads + 1
        if reads > most:
            raise _Wrong(f"{what} reads more than {most} elements")
        if type(place) is not int or not 0 <= place < len(elements):
            raise _Wrong(f"{what} reads an element that is not there")
        heard = _heard(inside, {"element": elements[place]})
    return heard


def _argument(given: Any) -> dict[str, Any]:
    if isinstance(given, Numbers) and given.reads is not None:
        return {"served": given.count}
    return {"plain": _values(given)}


def _values(value: Any) -> Any:
    return value.values() if isinstance(value, Numbers) else value


def _heard(inside: Running, message: dict[str, Any]) -> dict[str, Any]:
    """What the process answers to a message. That can be anything: only its form is relied on.

    Raises:
        Ended: when it does not answer.
        _Wrong: when the code failed, or it answers otherwise than `answering` does.
    """
    inside.send(json.dumps(message).encode() + b"\n")
    try:
        heard = json.loads(inside.line())
    except (ValueError, RecursionError):
        heard = None
    if not isinstance(heard, dict) or len(heard) != 1:
        raise _Wrong("it answers something that was not asked")
    if "raised" in heard:
        raise _Wrong(_short(heard["raised"], quoted=False))
    return heard


def _same(value: Any, wanted: Any) -> bool:
    """Equality of JSON values in which true is not 1."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(value, list) and isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(_same, value, wanted))
    if isinstance(value, dict) and isinstance(wanted, dict):
        return value.keys() == wanted.keys() and all(_same(value[key], wanted[key]) for key in wanted)
    return bool(value == wanted)


def _short(value: Any, quoted: bool = True) -> str:
    text = str(value) if isinstance(value, Numbers) or not quoted else json.dumps(value, ensure_ascii=False)
    text = "".join(each if each.isprintable() else " " for each in text)
    return text if len(text) <= 120 else text[:117] + "…"
