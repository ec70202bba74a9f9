"""The card as one HTML page that opens offline: no script, nothing from outside; light, dark and in print."""

from html import escape
from pathlib import Path

from proofcard.card.facts import PROGRAM
from proofcard.card.markdown import place
from proofcard.card.svg import drawn
from proofcard.documents.card import Card, Mark, Section, Table, Value
from proofcard.screen import on_one_line

_CLASSES: dict[Mark, str] = {
    "proven": "proven", "measured": "measured", "derived": "derived", "not measured": "missing",
}  # fmt: skip

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(card: Card) -> str:
    """The text of README.html."""
    title = _text(card.inputs.title)
    links = "".join(f'<a href="#s{n}">{_text(each.title)}</a>' for n, each in enumerate(card.sections))
    parts = "".join(_section(card, each, number) for number, each in enumerate(card.sections))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<p class="from">{card.key}</p>\n<nav>{links}</nav>\n{parts}</body>\n</html>\n'
    )


def _section(card: Card, section: Section, number: int) -> str:
    parts = [f'<section id="s{number}">\n<h2>{_text(section.title)}</h2>\n']
    if section.intro:
        parts.append(f"<p>{_text(section.intro)}</p>\n")
    if section.command is not None:
        parts.append(
            '<div class="empty"><span class="mark missing">not measured</span> This fills the section:'
            f"<pre>{_text(section.command)}</pre></div>\n"
        )
    if section.lines:
        rows = "".join(_value(card, each) for each in section.lines)
        parts.append(f'<div class="wide"><table>{rows}</table></div>\n')
    parts += [_table(card, each) for each in section.tables]
    parts += [f"<h3>{_text(each.title)}</h3>\n{drawn(each)}" for each in section.charts]
    if section.code:
        parts.append(_code(section.code))
    return "".join([*parts, "</section>\n"])


def _code(lines: list[str]) -> str:
    return "<pre>" + "\n".join(map(_text, lines)) + "</pre>\n"


def _value(card: Card, one: Value) -> str:
    return (
        f"<tr><td>{_text(one.name)}</td><td>{_text(one.shown)}</td>"
        f'<td class="mark {_CLASSES[one.mark]}">{one.mark}</td>'
        f'<td class="from">{_source(card, one.document, one.pointer)}</td></tr>\n'
    )


def _table(card: Card, table: Table) -> str:
    title = f"<h3>{_text(table.title)}</h3>\n" if table.title else ""
    head = "".join(f"<th>{_text(each)}</th>" for each in table.header)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows)
    mark = f'<span class="mark {_CLASSES[table.mark]}">{table.mark}</span>'
    return (
        f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div>\n"
        f'<p class="from">{mark}, from {_source(card, table.document, table.pointer)}</p>\n'
    )


def _source(card: Card, document: str, pointer: str) -> str:
    if document == PROGRAM:
        return f"{PROGRAM} {_text(pointer)}"
    return f'<a href="{escape(place(card, document))}">{_text(document)}</a> {_text(pointer)}'


def _text(text: str) -> str:
    return escape(on_one_line(text))
