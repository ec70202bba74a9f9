"""Names of modules as configurations give them: exactly, by a class, or by a regular expression.

A regular expression from an untrusted file can run forever. Only plain ones are matched (characters, classes,
groups, alternatives, repetitions that hold no other), and only where their worst case over all names is
affordable.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from math import factorial
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

REGEX = "re:"
_LONGEST = 400  # characters
_COST = 2_000_000_000  # steps of a backtracking matcher, in the worst case


@dataclass(frozen=True)
class Pattern:
    """One name, as it is written; `everything`: it names the class of all linears."""

    text: str
    compiled: re.Pattern[str] | None
    repeats: int = 0
    everything: bool = False
    exact: str | None = None

    def matches(self, module: str) -> bool:
        """Whether it names this module."""
        return self.compiled is not None and self.compiled.match(module) is not None

    def cost(self, names: Iterable[str]) -> float:
        """Steps that matching all names may take at the worst."""
        power, ways = self.repeats + 1, factorial(self.repeats + 1)
        return float(sum(len(name) ** power / ways for name in names))


def named(text: str, regex: bool = False) -> Pattern | str:
    """As compressed-tensors and auto-round read a name; `regex`: it is one without saying so.

    Returns why it is not understood, where it is not.
    """
    if text == "Linear":
        return Pattern(text, None, everything=True)
    if not (regex or text.startswith(REGEX)):
        return Pattern(text, re.compile(re.escape(text) + r"\Z"), exact=text)
    body = text.removeprefix(REGEX)
    if len(body) > _LONGEST:
        return f"the pattern {body[:60]!r}… has {len(body)} characters"
    try:
        repeats = _repeats(parser.parse(body))
        compiled = re.compile(body)
    except (re.error, _TooMuch, RecursionError, OverflowError) as error:
        return f"the pattern {body!r} is not matched here: {error}"
    return Pattern(text, compiled, repeats)


def wildcard(text: str) -> Pattern:
    """As ModelOpt reads a name: `*` for anything."""
    return Pattern(text, re.compile(translate(re.sub(r"\*+", "*", text))), text.count("*"))


def affordable(patterns: Iterable[Pattern], names: Iterable[str]) -> bool:
    """Whether all of them can be matched with all names in a reasonable time."""
    known = list(names)
    return sum(pattern.cost(known) for pattern in patterns) <= _COST


class _TooMuch(Exception):
    pass


def _repeats(parsed: object, inside: bool = False) -> int:
    """The unbounded repetitions of a parsed expression. Raises _TooMuch for what may run forever."""
    count = 0
    for kind, value in parsed:  # type: ignore[attr-defined]
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            least, most, body = value
            if inside:
                raise _TooMuch("a repetition holds another")
            _repeats(body, inside=True)
            count += most > 1
            if least > _LONGEST:
                raise _TooMuch("it repeats too often")
        elif kind is kinds.SUBPATTERN:
            count += _repeats(value[-1], inside)
        elif kind is kinds.BRANCH:
            count += sum(_repeats(branch, inside) for branch in value[1])
        elif kind not in (kinds.LITERAL, kinds.NOT_LITERAL, kinds.ANY, kinds.IN, kinds.AT):
            raise _TooMuch(f"{str(kind).lower()} is not supported")
    return count
