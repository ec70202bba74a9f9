"""Output for people: the one way for untrusted text to reach a terminal or Markdown.

Answers, names of models, files and tensors, lines of logs and messages of errors are text, never markup and
never instructions to a terminal. All output of ours goes through `Screen`, which takes no markup in strings,
and through `printable`.
"""

import re
from typing import Any

from rich.console import Console
from rich.text import Text

from proofcard.escaping import on_one_line, printable
from proofcard.redact import redact

_LONGEST = 300  # characters of foreign text within one of our sentences
_BLANKS = re.compile(r"[ \t]+$", re.MULTILINE)
_MARKDOWN = re.compile(r"([\\`\[\]|])")


def quoted(text: str, longest: int = _LONGEST) -> str:
    """Foreign text for one of our sentences: secrets redacted, on one line, cut to a length."""
    if len(text) > 64 * longest:  # never process that much
        text = text[: 64 * longest]
    line = on_one_line(" ".join(redact(text).split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def indented(text: str) -> str:
    """As `printable`, with every line but the first indented, so that none looks like one of ours."""
    first, *more = printable(text).split("\n")
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in more)])


def in_markdown(text: str) -> str:
    """On one line, with everything escaped that Markdown or HTML reads as a link, code, tag or cell."""
    return _MARKDOWN.sub(r"\\\1", on_one_line(text)).replace("<", "&lt;")


def in_a_figure(text: str) -> str:
    """On one line, for matplotlib, which reads text between two dollar signs as a formula."""
    return on_one_line(text).replace("$", r"\$")


_json_asked = False


def ask_for_json() -> None:
    """Reserve standard output for a command's document; output for people goes to standard error."""
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

    def _render_buffer(self, buffer: Any) -> str:
        """Text without the blanks that rich pads lines with; a terminal may need them for colours."""
        text = super()._render_buffer(buffer)
        return text if self.is_terminal else _BLANKS.sub("", text)

    def render_str(self, text: str, **options: Any) -> Text:
        """The one place where rich receives strings: arguments, cells, headings, titles."""
        options["markup"] = options["emoji"] = False
        return super().render_str(on_one_line(text), **options)
