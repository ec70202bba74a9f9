"""Escapes untrusted text: nothing that a terminal would obey or not show stays in it."""

import unicodedata


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal would obey or not show, except line ends and tabs.

    These are control characters and escape sequences, bidirectional overrides, characters without
    width, lone surrogates, unassigned ones.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _shows(c) else _escaped(c) for c in text)


def on_one_line(text: str) -> str:
    """As `printable`, with line ends and tabs escaped too: nothing in it can start a new line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _shows(character: str) -> bool:
    if character in "\n\t" or character.isprintable():
        return True
    return unicodedata.category(character) == "Zs"  # spaces of other widths


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
