"""The card as README.md: metadata by huggingface_hub's ModelCard, Markdown in which no value is markup."""

from urllib.parse import quote

from proofcard.card.facts import FOLDER, PROGRAM
from proofcard.documents.card import Card, Section, Table, Value
from proofcard.screen import in_markdown, on_one_line


def readme(card: Card) -> str:
    """The text of README.md."""
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(**card.metadata)
    made = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body(card)}")
    return str(made)


def body(card: Card) -> str:
    """The Markdown below the metadata."""
    lines = [f"# {in_markdown(card.inputs.title)}", ""]
    for section in card.sections:
        lines += _section(card, section)
    return "\n".join(lines).rstrip() + "\n"


def _section(card: Card, section: Section) -> list[str]:
    lines = [f"## {in_markdown(section.title)}", ""]
    if section.intro:
        lines += [in_markdown(section.intro), ""]
    if section.command is not None:
        lines += ["*Not measured.* This fills the section:", "", "```", _in_code(section.command), "```", ""]
    if section.lines:
        lines += ["| | | | from |", "|---|---|---|---|", *(_value(card, each) for each in section.lines), ""]
    for table in section.tables:
        lines += _table(card, table)
    for chart in section.charts:
        lines += [f"![{in_markdown(chart.title)}]({FOLDER}/{quote(chart.name)}.svg)", ""]
    if section.code:
        lines += ["```bash", *map(_in_code, section.code), "```", ""]
    return lines


def _in_code(line: str) -> str:
    """A line of a block of code, which it cannot end."""
    return on_one_line(line).replace("`", "'")


def _value(card: Card, one: Value) -> str:
    where = source(card, one.document, one.pointer)
    return f"| {in_markdown(one.name)} | {in_markdown(one.shown)} | {one.mark} | {where} |"


def _table(card: Card, table: Table) -> list[str]:
    title = [f"**{in_markdown(table.title)}**", ""] if table.title else []
    rows = [_row(table.header), _row(["---"] * len(table.header)), *map(_row, table.rows)]
    return [*title, *rows, "", f"*{table.mark}, from {source(card, table.document, table.pointer)}*", ""]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell if cell == "---" else in_markdown(cell) for cell in cells) + " |"


def source(card: Card, document: str, pointer: str) -> str:
    """A link to a document, and the place in it."""
    if document == PROGRAM:
        return f"{PROGRAM} {in_markdown(pointer)}"
    return f"[{in_markdown(document)}]({place(card, document)}) {in_markdown(pointer)}"


def place(card: Card, document: str) -> str:
    """Where a document lies, relative to the card."""
    inside = document == "card.json" or document in {each.name for each in card.documents}
    return quote(f"{FOLDER}/{document}" if inside else document)
