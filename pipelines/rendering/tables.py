"""Tables for people: cells are shown as they are, and names that people copy are never cut."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RichCast
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..common.printable import printable

_INDENT = "   "  # of a line below its row


class ResultTable(Table):
    """A table without lines; markup and control characters in it are text as any other.

    Args:
        title: What stands above it.
    """

    def __init__(self, title: str | None = None) -> None:
        super().__init__(box=None, header_style="bold")
        self._above = title and Text(printable(title), style="table.title")

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterable[ConsoleRenderable | RichCast | str | Segment]:
        """Yield the title, which a narrow table would fold if it were its own, and the table."""
        if self._above:
            yield self._above
        yield from super().__rich_console__(console, options)

    def add_column(self, header: Any = "", *arguments: Any, **options: Any) -> None:
        """Add a column; a newline in its header is kept."""
        lines = "\n".join(map(printable, str(header).split("\n")))
        super().add_column(Text(lines), *arguments, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of strings or texts."""
        super().add_row(*(Text(printable(str(cell))) for cell in cells), **options)


class _RowsTable(ResultTable):
    """A table of one line a row; where that is too wide the columns `below` follow each row."""

    def __init__(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        numeric: Sequence[bool],
        below: Iterable[int],
    ) -> None:
        super().__init__()
        self._lines = [list(map(printable, cells)) for cells in (header, *rows)]
        self._numeric = numeric
        self._widths = [max(map(cell_len, cells)) for cells in zip(*self._lines, strict=True)]
        self._below = frozenset(below)
        for position, name in enumerate(header):
            # the last is free text, which may fold; a name that folds could not be copied
            last = position == len(header) - 1
            self.add_column(
                name,
                justify="right" if numeric[position] else "left",
                no_wrap=not last,
                min_width=self._widths[0] if position == 0 else None,
            )
        for cells in rows:
            self.add_row(*cells)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterable[ConsoleRenderable | RichCast | str | Segment]:
        """Yield the table as wide as it is, or in several lines a row."""
        if not self._below or sum(self._widths) + 2 * len(self._widths) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield self._line(self._lines[0], style="bold")
        for cells in self._lines[1:]:
            yield self._line(cells)
            words = "  ".join(cells[position] for position in sorted(self._below))
            # a long name is broken by the terminal alone, which copies it in one piece
            width = max(options.max_width - len(_INDENT), 20)
            for line in wrap(words, width, break_long_words=False, break_on_hyphens=False):
                yield Text(f"{_INDENT}{line}", no_wrap=True, overflow="ignore")

    def _line(self, cells: Sequence[str], style: str = "") -> Text:
        """Return the first line of a row that takes several."""
        padded = []
        for position, (cell, width) in enumerate(zip(cells, self._widths, strict=True)):
            if position not in self._below:
                space = " " * (width - cell_len(cell))
                padded.append(space + cell if self._numeric[position] else cell + space)
        line = f" {'  '.join(padded)}".rstrip()
        return Text(line, style=style, no_wrap=True, overflow="ignore")


def rows_table(rows: Sequence[Mapping[str, Any]], *, below: Sequence[str] = ()) -> Table:
    """Return a table with one line a row; a cell that a row lacks is empty.

    The first column is never cut or folded, and the last one may fold.

    Args:
        rows: The cells of each row, by column.
        below: Columns that move, as far as the rows have them, to a line below their row where the
            table is wider than the terminal: then nothing is cut and no word is folded.
    """
    if not rows:
        return ResultTable()
    # the longest rows have the order of all columns
    longest_first = sorted(rows, key=len, reverse=True)
    columns = list(dict.fromkeys(column for row in longest_first for column in row))
    return _RowsTable(
        columns,
        [[str(row.get(column, "")) for column in columns] for row in rows],
        numeric=[
            any(isinstance(row.get(column), int | float) for row in rows) for column in columns
        ],
        below=[columns.index(column) for column in below if column in columns],
    )
