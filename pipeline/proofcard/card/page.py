"""The card as one HTML page that opens offline: no script, nothing from outside, light and dark, made to print."""

from html import escape

from proofcard.card.facts import PROGRAM
from proofcard.card.markdown import place
from proofcard.card.svg import drawn
from proofcard.documents.card import Card, Mark, Section, Table, Value
from proofcard.screen import on_one_line

_CLASSES: dict[Mark, str] = {
    "proven": "proven", "measured": "measured", "derived": "derived", "not measured": "missing",
}  # fmt: skip

_STYLE = """\
:root { color-scheme: light dark; --text: #1c2024; --soft: #5b6570; --line: #d9dee3; --back: #ffffff; --panel: #f5f7f9;
  --proven: #1a7f37; --measured: #0a5cc2; --derived: #5b6570; --missing: #a15c00; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e7eb; --soft: #9aa5b1; --line: #343b43; --back: #15181c;
  --panel: #1d2126; --proven: #4ac26b; --measured: #6cb0ff; --derived: #9aa5b1; --missing: #e0a040; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
nav { columns: 3 14rem; font-size: .875rem; background: var(--panel); padding: .75rem 1rem; border-radius: 6px; margin: 1rem 0; }
nav a { display: block; }
a { color: var(--measured); text-decoration: none; } a:hover { text-decoration: underline; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; margin: .25rem 0 .5rem; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td:first-child { min-width: 9rem; }
.from { font-size: .75rem; color: var(--soft); } td.from { width: 32%; }
.mark { font-size: .75rem; font-weight: 600; white-space: nowrap; }
.proven { color: var(--proven); } .measured { color: var(--measured); } .derived { color: var(--derived); }
.missing { color: var(--missing); }
pre { background: var(--panel); padding: .75rem 1rem; border-radius: 6px; overflow-x: auto; font-size: .85rem; margin: .5rem 0; }
.empty { border-left: 3px solid var(--missing); padding: .25rem 0 .25rem .75rem; }
svg { max-width: 100%; height: auto; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; } pre { white-space: pre-wrap; }
  h2 { break-after: avoid; } tr, pre, svg { break-inside: avoid; } a { color: inherit; } }
"""


def page(card: Card) -> str:
    """The text of README.html."""
    title = _text(card.inputs.title)
    links = "".join(f'<a href="#s{n}">{_text(each.title)}</a>' for n, each in enumerate(card.sections))
    parts = "".join(_section(card, each, number) for number, each in enumerate(card.sections))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<p class="from">{card.key}</p>\n<nav>{links}</nav>\n{parts}</body>\n</html>\n'
    )


def _section(card: Card, section: Section, number: int) -> str:
    parts = [f'<section id="s{number}">\n<h2>{_text(section.title)}</h2>\n']
    if section.said:
        parts.append(f"<p>{_text(section.said)}</p>\n")
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
        f'<tr><td>{_text(one.name)}</td><td>{_text(one.shown)}</td><td class="mark {_CLASSES[one.mark]}">{one.mark}</td>'
        f'<td class="from">{_source(card, one.document, one.pointer)}</td></tr>\n'
    )


def _table(card: Card, table: Table) -> str:
    title = f"<h3>{_text(table.title)}</h3>\n" if table.title else ""
    head = "".join(f"<th>{_text(each)}</th>" for each in table.header)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows)
    mark = f'<span class="mark {_CLASSES[table.mark]}">{table.mark}</span>'
    return (
        f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n'
        f'<p class="from">{mark}, from {_source(card, table.document, table.pointer)}</p>\n'
    )


def _source(card: Card, document: str, pointer: str) -> str:
    if document == PROGRAM:
        return f"{PROGRAM} {_text(pointer)}"
    return f'<a href="{escape(place(card, document))}">{_text(document)}</a> {_text(pointer)}'


def _text(text: str) -> str:
    return escape(on_one_line(text))
