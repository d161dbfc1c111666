"""Rows of a delimited file as people see them, whatever stands for a delimiter or a quote."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from ...errors import SourceOptionError
from ..base import format_error
from .decoding import DecodedText

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_WRITTEN = {"tab": "\t", "\\t": "\t", **{name: character for character, name in DELIMITERS.items()}}
_SEP_LINE = re.compile(r"sep=([^\"\r\n\0 ])[\r\n]*")  # what Excel puts first, and takes from there
_OTHER_ENDS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # of a line, to Python alone
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_SAMPLED_RECORDS = 100  # by which one delimiter is told from another
_SAMPLED_LINES = 1000  # by which what the cells of a column look like is told
_LOOKED_AT = 20_000  # lines, to find so many that may be rows
_MOST_ALIKE = 0.8  # share of the cells of a column that makes it telling

_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
_FILE_NAME = re.compile(r".*\S\.([A-Za-z]\w{1,4})")
_CODE = re.compile(r"\S*\d\S*")
_SPLIT_NAMES = frozenset(
    ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "restval")
)

Skip = Callable[[str, str], None]  # takes the place of a row and why it cannot be read


class _Escaping(csv.excel):
    """Rules of quoting with backslashes before quotes, as databases write them."""

    doublequote = False
    escapechar = "\\"
    strict = True


class _Record(NamedTuple):
    """Cells of a row that is quoted by the rules, and the number of lines it takes."""

    cells: list[str]
    num_lines: int


def check_delimiter(delimiter: str | None) -> str | None:
    """Return the character that an option names, `tab` and the like included.

    Raises:
        SourceOptionError: It names no character that can stand between cells.
    """
    if delimiter is None:
        return None
    character = _WRITTEN.get(delimiter, delimiter)
    if len(character) != 1 or character in '"\r\n\0 ':
        problem = f"found {delimiter!r:.80}; such as ';' or tab"
        raise SourceOptionError(f"source.delimiter must be one character between cells, {problem}")
    return character


def lines_of(decoded: DecodedText) -> list[str]:
    """Return the lines of a text with their ends, which are LF, CR LF and CR alone."""
    if _OTHER_ENDS.search(decoded.text) is None:
        return decoded.text.splitlines(keepends=True)  # in a fourth of the memory
    return io.StringIO(decoded.text, newline="").readlines()


class DelimitedRows:
    """The header and the rows of a delimited file.

    A quote at the beginning of a cell opens a quoted cell, which may hold delimiters and line ends.
    People also begin captions with a quote that nothing closes, or that is closed within: where a
    row by those rules has not as many cells as the header, or takes in lines that are rows
    themselves, the quote is a letter like any other. A row that cannot be read either way is handed
    to `skip` with its line.

    Args:
        file: The file, for messages.
        lines: Its lines with their ends.
        delimiter: The character between cells.
        skip: Takes the place of each row that cannot be read, and why.
        is_broken: Whether bytes that are no letters stand in the lines as surrogates.
        quoted: Whether cells may be quoted; if not, a quote is a letter like any other.

    Raises:
        DatasetFormatError: There is no header.
    """

    def __init__(
        self,
        file: Path,
        lines: Sequence[str],
        delimiter: str,
        skip: Skip,
        *,
        is_broken: bool,
        quoted: bool,
    ) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._skip = skip
        self._is_broken = is_broken
        self._quoted = quoted
        first = _first_of(lines)
        if first == len(lines):
            raise format_error(file, "", "is empty, expected a header line")
        record = self._record_at(first) or _record_of_line(lines[first], delimiter)
        self._next = first + record.num_lines
        self._width = len(record.cells)
        self.place = f"line {first + 1}"
        self.header = record.cells

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        lines, width = self._lines, self._width
        start = self._next
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._quoted else csv.QUOTE_NONE
        while start < len(lines):
            following = map(lines.__getitem__, range(start, len(lines)))
            # strict: else letters behind a closing quote would join the cell without a word
            reader = csv.reader(following, delimiter=self._delimiter, strict=True, quoting=quoting)
            number = 0  # of lines that are read
            try:
                for cells in reader:
                    end = reader.line_num
                    if any(cells):
                        # a row of several lines may be several rows, or not all of it letters
                        is_doubtful = end > number + 1 and (
                            self._is_broken or self._are_rows(start + number + 1, start + end)
                        )
                        if is_doubtful or len(cells) != width:
                            break
                        if not self._is_broken or self._is_whole(start + number):
                            yield f"line {start + end}", cells
                    number = end
                else:
                    return
            except csv.Error:  # broken quoting, or a cell of more letters than its limit
                pass
            start += number
            odd_row, start = self._odd_row(start)
            if odd_row is not None:
                yield f"line {start}", odd_row

    def _record_at(self, index: int) -> _Record | None:
        """Return the row that begins at a line by the rules, or None where they break."""
        if self._quoted:
            return _record(self._lines, index, self._delimiter)
        return _Record(self._lines[index].rstrip("\r\n").split(self._delimiter), 1)

    def _is_whole(self, index: int) -> bool:
        """Return whether a line has no bytes that are no letters, or skip it."""
        if _ESCAPED_BYTE.search(self._lines[index]) is None:
            return True
        self._skip(f"line {index + 1}", "is not UTF-8")
        return False

    def _odd_row(self, index: int) -> tuple[list[str] | None, int]:
        """Return the row at a line that is not one of plain cells, and the line after it."""
        record = self._record_at(index)
        num_lines = 1 if record is None else record.num_lines
        fitting = None if record is None else self._fitted(record.cells)
        # texts have commas and semicolons within quotes: such a cell is none of two
        is_whole = record is not None and num_lines == 1 and self._delimiter in ",;"
        alone = None if is_whole or not self._quoted else self._row_of_line(index)
        is_doubtful = num_lines > 1 and (fitting is None or alone is not None)
        if is_doubtful and self._are_rows(index + 1, index + num_lines):
            record, fitting, num_lines = None, None, 1  # what seemed one cell holds rows
        if fitting is None and alone is not None:
            fitting, num_lines = alone, 1
        lines = self._lines[index : index + num_lines]
        if self._is_broken and any(map(_ESCAPED_BYTE.search, lines)):
            self._skip(f"line {index + 1}", "is not UTF-8")
            return None, index + num_lines
        if fitting is None:
            self._skip(f"line {index + 1}", self._problem(record, index))
        return fitting, index + num_lines

    def _problem(self, record: _Record | None, index: int) -> str:
        cells = _cells_of_line(self._lines[index], self._delimiter)
        if record is None and len(cells) == self._width:
            return "broken quoting"
        count = len(cells if record is None else record.cells)
        quote = f"quote cells that hold {self._delimiter!r}"
        broken = "broken quoting: " if record is None else ""
        return f"{broken}{count} cells where the header has {self._width}; {quote}"

    def _fitted(self, cells: list[str]) -> list[str] | None:
        """Return cells as many as the header has, or None where that would leave some out."""
        if len(cells) < self._width or any(cells[self._width :]):
            return None
        return cells[: self._width]

    def _row_of_line(self, index: int) -> list[str] | None:
        """Return the cells of one line by itself, or None where they are no row."""
        line = self._lines[index]
        cells = self._escaped(line) if '\\"' in line else None
        return (
            cells
            or self._fitted(_cells_of_line(line, self._delimiter))
            or self._fitted(line.rstrip("\r\n").split(self._delimiter))  # no quote is of the rules
        )

    def _escaped(self, line: str) -> list[str] | None:
        try:
            return self._fitted(next(csv.reader([line], _Escaping, delimiter=self._delimiter)))
        except csv.Error:
            return None

    def _are_rows(self, first: int, end: int) -> bool:
        """Return whether lines that a quoted cell takes in are rows themselves.

        Each has as many cells as the header then, and they look like those of other rows: names of
        files, numbers, splits. Where no column is telling, tabs and bars do not stand in texts.
        """
        indices = [index for index in range(first, end) if self._lines[index].strip()]
        if not indices or (not self._column_shapes and self._delimiter not in "\t|"):
            return False
        return all(self._is_like_others(self._row_of_line(index)) for index in indices)

    def _is_like_others(self, cells: list[str] | None) -> bool:
        shapes = self._column_shapes.items()
        return cells is not None and all(_shape(cells[column]) == shape for column, shape in shapes)

    @cached_property
    def _column_shapes(self) -> dict[int, str]:
        """Return the shape of the cells of each column in which nearly all are alike."""
        end = min(len(self._lines), self._next + _LOOKED_AT)
        rows_of_lines = map(self._row_of_line, range(self._next, end))
        rows = list(islice(filter(None, rows_of_lines), _SAMPLED_LINES))
        shapes = {}
        for column in range(self._width):
            counts = Counter(_shape(cells[column]) for cells in rows)
            shape, count = counts.most_common(1)[0] if counts else ("", 0)
            if shape and count >= _MOST_ALIKE * len(rows):
                shapes[column] = shape
        return shapes


def choose_delimiter(lines: Sequence[str], usual: str) -> str:
    """Return the delimiter of a file: the usual one, unless its rows agree better on another.

    Args:
        lines: Its lines.
        usual: The delimiter that files of this suffix have.
    """
    if lines and (named := _SEP_LINE.fullmatch(lines[0])):
        return named[1]
    first = _first_of(lines)
    if first == len(lines):
        return usual
    headers = {
        candidate: (_record(lines, first, candidate) or _record_of_line(lines[first], candidate))
        for candidate in (usual, *DELIMITERS)
    }

    def fitness(delimiter: str) -> tuple[float, int, bool, int]:
        cells = headers[delimiter].cells
        num_spaced = sum(cell[:1] == " " for cell in cells)  # as behind a comma of a sentence
        share = _share_of_rows(lines, first + 1, len(cells), delimiter)
        return share, -num_spaced, delimiter == usual, len(cells)

    candidates = [candidate for candidate, header in headers.items() if len(header.cells) > 1]
    return max(candidates, key=fitness, default=usual)


def _first_of(lines: Sequence[str]) -> int:
    """Return the line of the header."""
    index = 1 if lines and _SEP_LINE.fullmatch(lines[0]) else 0
    while index < len(lines) and not lines[index].strip():
        index += 1
    return index


def _share_of_rows(lines: Sequence[str], index: int, width: int, delimiter: str) -> float:
    """Return the share of the rows from a line on that have as many cells as the header."""
    num_fitting = num_rows = 0
    while index < len(lines) and num_rows < _SAMPLED_RECORDS:
        record = _record(lines, index, delimiter) or _record_of_line(lines[index], delimiter)
        index += record.num_lines
        if any(record.cells):
            num_rows += 1
            num_fitting += len(record.cells) == width
    return num_fitting / num_rows if num_rows else 1.0


def _shape(cell: str) -> str:
    """Return what a cell looks like: a number, a file of some suffix, a split, a code, or nothing.

    >>> [_shape(cell) for cell in ("7", "a b.JPG", "dev", "img_07", "a dog runs.")]
    ['number', '.jpg', 'split', 'code', '']
    """
    cell = cell.strip().strip('"')
    if _NUMBER.fullmatch(cell):
        return "number"
    if (name := _FILE_NAME.fullmatch(cell)) is not None:
        return f".{name[1].lower()}"
    if cell.lower() in _SPLIT_NAMES:
        return "split"
    return "code" if _CODE.fullmatch(cell) else ""


def _closing_quote(line: str, start: int) -> int:
    """Return the place of the quote that ends a quoted cell, or -1; two quotes are a letter."""
    at = line.find('"', start)
    while at >= 0 and line[at + 1 : at + 2] == '"':
        at = line.find('"', at + 2)
    return at


def _record(lines: Sequence[str], start: int, delimiter: str) -> _Record | None:
    """Return the row that begins at a line, by the rules of quoting, or None where they break.

    It is what `csv.reader` reads strictly, of cells of any length.
    """
    cells: list[str] = []
    number, at = start, 0
    line = lines[number]
    body = line.rstrip("\r\n")
    while True:
        if not body.startswith('"', at):
            end = body.find(delimiter, at)
            cells.append(body[at:] if end < 0 else body[at:end])
            if end < 0:
                return _Record(cells, number - start + 1)
            at = end + 1
            continue
        pieces, at = [], at + 1
        # a quoted cell may hold the ends of lines
        while (end := _closing_quote(line, at)) < 0:
            pieces.append(line[at:])
            number, at = number + 1, 0
            if number == len(lines):
                return None
            line = lines[number]
            body = line.rstrip("\r\n")
        pieces.append(line[at:end])
        cells.append("".join(pieces).replace('""', '"'))
        rest = line[end + 1 : end + 2]
        if rest in {"", "\r", "\n"}:
            return _Record(cells, number - start + 1)
        if rest != delimiter:
            return None
        at = end + 2


def _record_of_line(line: str, delimiter: str) -> _Record:
    return _Record(_cells_of_line(line, delimiter), 1)


def _cells_of_line(line: str, delimiter: str) -> list[str]:
    """Return the cells of one line; quotes that no delimiter follows are letters."""
    line = line.rstrip("\r\n")
    cells: list[str] = []
    at = 0
    while True:
        end = _closing_quote(line, at + 1) if line.startswith('"', at) else -1
        if end >= 0 and line[end + 1 : end + 2] in {"", delimiter}:
            cells.append(line[at + 1 : end].replace('""', '"'))
            stop = end + 1 if end + 1 < len(line) else -1
        else:
            stop = line.find(delimiter, at)
            cells.append(line[at:] if stop < 0 else line[at:stop])
        if stop < 0:
            return cells
        at = stop + 1
