"""Commands in a form that can be pasted into a shell, whatever a path in them contains.

A value passes two grammars, the shell's and Hydra's; both take the same plain texts as they are.
"""

import re
import shlex

_PLAIN = re.compile(r"[A-Za-z0-9_./:@+%-]*[A-Za-z0-9_/%-]")
"""Texts that Hydra and shells take as they are."""


def override(key: str, value: object) -> str:
    """`key=value` to be pasted into a shell, for any path or text."""
    text = str(value)
    return f"{key}={text}" if is_plain(text) else shlex.quote(f"{key}={quoted(text)}")


def command(name: str, **values: object) -> str:
    """`proofcard NAME key=value ...` to be pasted into a shell."""
    return " ".join(["proofcard", name, *(override(key, value) for key, value in values.items())])


def unquoted(value: str) -> str:
    """A value without Hydra's quotes around it, if there are any."""
    if not is_quoted(value):
        return value
    half = re.compile(rf"(\\+)(?={value[0]}|$)")  # only in front of a quote and at the end do they count
    return half.sub(lambda found: found[1][: len(found[1]) // 2], value[1:-1])


def is_plain(text: str) -> bool:
    """Whether Hydra and shells take a text as it is."""
    return _PLAIN.fullmatch(text) is not None


def quoted(text: str) -> str:
    """Between double quotes, as Hydra reads them: backslashes count only in front of a quote."""
    escaped = re.sub(r'(\\*)"', lambda found: found[1] * 2 + r"\"", text)
    escaped = re.sub(r"(\\+)$", lambda found: found[1] * 2, escaped)
    return f'"{escaped}"'


def is_quoted(value: str) -> bool:
    """Whether a value has Hydra's quotes around it."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
