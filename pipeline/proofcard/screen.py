"""What reaches a person's eyes: one way for text that came from outside, on a terminal and in Markdown.

Answers, names of models, files and tensors, lines of logs and messages of errors are text, never markup and
never instructions to a terminal. All output of ours goes through `Screen`, which takes no markup in strings,
and through `printable`.
"""

import re
import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

from proofcard.redact import redact

_LONGEST = 300  # characters of what somebody else wrote, within a sentence of ours
_MARKDOWN = re.compile(r"([\\`\[\]|])")


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal would obey or not show, line ends and tabs excepted.

    That is control characters and escape sequences, overrides of the direction of writing, characters without
    width, lone surrogates, unassigned ones.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _shows(c) else _escaped(c) for c in text)


def on_one_line(text: str) -> str:
    """As `printable`, line ends and tabs escaped too: nothing in it can begin a line of its own."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def quoted(text: str, longest: int = _LONGEST) -> str:
    """What somebody else said, for a sentence of ours: secrets struck out, one line, not too long."""
    if len(text) > 64 * longest:  # so much is never looked at
        text = text[: 64 * longest]
    line = on_one_line(" ".join(redact(text).split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def indented(text: str) -> str:
    """As `printable`, every line but the first indented: no line of it passes for one of ours."""
    first, *more = printable(text).split("\n")
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in more)])


def in_markdown(text: str) -> str:
    """On one line, what Markdown or HTML would take for a link, an image, code, a tag or a cell escaped."""
    return _MARKDOWN.sub(r"\\\1", on_one_line(text)).replace("<", "&lt;")


def in_a_figure(text: str) -> str:
    """On one line, for matplotlib, which would read what stands between two dollar signs as a formula."""
    return on_one_line(text).replace("$", r"\$")


_json_asked = False


def ask_for_json() -> None:
    """From now on standard output is for a command's document alone; what is for a person goes to stderr."""
    global _json_asked
    _json_asked = True


def json_is_asked() -> bool:
    """Whether a command's document goes to standard output."""
    return _json_asked


class Screen(Console):
    """A console on which each string is plain text on one line; for a style, give it a `Text`.

    It is standard output, or standard error where standard output is for JSON.
    """

    def __init__(self, **options: Any) -> None:
        if "file" not in options:
            options.setdefault("stderr", _json_asked)
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The one place through which rich takes strings: of arguments, cells, headings, titles."""
        options["markup"] = options["emoji"] = False
        return super().render_str(on_one_line(text), **options)


def _shows(character: str) -> bool:
    if character in "\n\t" or character.isprintable():
        return True
    return unicodedata.category(character) == "Zs"  # spaces of other widths


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
