"""Tables for terminals of any width, in one style: no heading is split, no line ends in blanks.

Where the columns do not fit side by side, every row is shown as a list of its headings and cells.
"""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from proofcard.escaping import on_one_line

_GAP = 2  # blanks between columns
_LONGEST_WORD = 20  # columns of a word in a cell before it is folded


class Grid:
    """A table of plain text. The first column is aligned left, the others right unless said otherwise."""

    def __init__(self, *headings: str, left: tuple[int, ...] = (0,), title: str = "") -> None:
        self._headings = [on_one_line(heading) for heading in headings]
        self._left, self._title = left, on_one_line(title)
        self._rows: list[list[Text] | None] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row; missing cells at its end are empty."""
        row = [cell if isinstance(cell, Text) else Text(on_one_line(cell)) for cell in cells]
        self._rows.append(row + [Text("")] * (len(self._headings) - len(row)))

    def add_section(self) -> None:
        """Draw a line before the next row."""
        self._rows.append(None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The title, if there is one, and the table or the list."""
        if self._title:
            yield Text(self._title, style="bold")
        widths = self._widths(options.max_width)
        line = "-" if options.ascii_only else "─"
        if widths is None:
            yield from self._stacked(console, options)
        else:
            yield from self._side_by_side(console, widths, line)

    def _widths(self, width: int) -> list[int] | None:
        """The columns' widths; None where they do not fit."""
        rows = [row for row in self._rows if row is not None]
        columns = range(len(self._headings))
        cells = [[row[i].plain for row in rows] for i in columns]
        widths = [max(map(cell_len, [self._headings[i], *cells[i]])) for i in columns]
        words = [max((_longest(cell) for cell in cells[i]), default=0) for i in columns]
        least = [max(_longest(self._headings[i]), min(words[i], _LONGEST_WORD), 1) for i in columns]
        room = width - _GAP * (len(columns) - 1)
        while sum(widths) > room:
            widest = max((i for i in columns if widths[i] > least[i]), key=lambda i: widths[i], default=None)
            if widest is None:
                return None
            widths[widest] -= 1
        return widths

    def _side_by_side(self, console: Console, widths: list[int], line: str) -> Iterator[Text]:
        rule = Text((" " * _GAP).join(line * width for width in widths))
        if any(self._headings):
            yield from self._lines(console, widths, [Text(heading) for heading in self._headings])
            yield rule
        for row in self._rows:
            if row is None:
                yield rule
            else:
                yield from self._lines(console, widths, row)

    def _lines(self, console: Console, widths: list[int], row: list[Text]) -> Iterator[Text]:
        wrapped = [list(cell.wrap(console, width)) for cell, width in zip(row, widths, strict=True)]
        for number in range(max(len(lines) for lines in wrapped)):
            whole = Text()
            for i, (lines, width) in enumerate(zip(wrapped, widths, strict=True)):
                cell = lines[number] if number < len(lines) else Text("")
                cell.rstrip()
                blanks = " " * (width - cell.cell_len)
                cell = cell + blanks if i in self._left else Text(blanks) + cell
                whole = whole + (" " * _GAP if i else "") + cell
            whole.rstrip()
            yield whole

    def _stacked(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        rows = [row for row in self._rows if row is not None]
        for number, row in enumerate(rows):
            if number:
                yield Text("")
            for i, (heading, cell) in enumerate(zip(self._headings, row, strict=True)):
                if not cell.plain:
                    continue
                label = "" if i == 0 or not heading else f"{heading}: "
                indent = 0 if i == 0 else 2
                room = max(options.max_width - indent, 1)
                for line in (Text(label) + cell).wrap(console, room):
                    line.rstrip()
                    yield Text(" " * indent) + line


def _longest(text: str) -> int:
    """The width of the longest word."""
    return max(map(cell_len, text.split()), default=0)
