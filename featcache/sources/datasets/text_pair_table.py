"""Any table with two columns of texts and one of grades or labels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import SpecError
from ..base import ReadReport, format_error
from ..readers.graded_files import FIRST_NAMES, SECOND_NAMES, grade_of, with_split
from ..readers.graded_source import GradedRow, GradedSource, Scale, split_by_hash
from ..tables.columns import left_columns
from ..tables.table import Table, TableFormat, open_table
from ..tables.table_files import Cells, find_table
from ..tables.text_files import is_missing, text_of

# Usual names, the preferred first; compared in lower case.
_GRADE_NAMES = ("grade", "score", "similarity", "relatedness", "label", "is_duplicate", "quality")
_BINARY = frozenset({0.0, 1.0})
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True, kw_only=True)
class TextPairTableOptions(TableFormat):
    """Options of a table of graded pairs of texts; what is None is found out.

    Attributes:
        first_column: Column of one text.
        second_column: Column of the other.
        grade_column: Column of grades.
        split_column: Column of split names; the table may lack it only under its default name.
        lowest: Grade of two texts that mean nothing alike; the least of the table if None.
        highest: Grade of two texts that mean the same; the largest of the table if None.
    """

    first_column: str | None = None
    second_column: str | None = None
    grade_column: str | None = None
    split_column: str = "split"
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class _Columns:
    first: str
    second: str
    grade: str
    split: str | None


class TextPairTableSource(GradedSource):
    """Read graded pairs of texts from a table: delimited text, JSON or parquet, compressed or not.

    Rows that cannot be read are left out and listed. Grades that are all 0 or 1 are labels, else
    they are a scale from `lowest` to `highest`. Without a split column, splits come from a hash of
    the texts, or from the names of several files.

    Args:
        root: The table, or a folder that holds exactly one.
        options: See `TextPairTableOptions`.

    Raises:
        DatasetNotFoundError: There is no table.
        DatasetFormatError: The table is broken, lacks a column, is one of several, or holds a grade
            outside of the scale.
        SpecError: `lowest` is not below `highest`, the delimiter or encoding is none, or one of
            these or `quoted` is given for a table that is no delimited text.
    """

    title = "Your own csv, tsv, json, jsonl or parquet table of two texts and a grade or label"
    Options = TextPairTableOptions

    def __init__(self, root: Path, options: TextPairTableOptions) -> None:
        files = find_table(root, name="text-pair-table", content="pairs of texts")
        table = open_table(files, options)
        columns = _Columns(
            first=_column(table, options.first_column, FIRST_NAMES, "first_column"),
            second=_column(table, options.second_column, SECOND_NAMES, "second_column"),
            grade=_column(table, options.grade_column, _GRADE_NAMES, "grade_column"),
            split=table.split_column(options.split_column),
        )
        rows = _read_rows(table, columns)
        scale, scale_note = _scale(table.name, rows, options.lowest, options.highest)
        names = ", ".join(name for name in vars(columns).values() if name is not None)
        notes = [f"columns read: {names}; {scale_note}", *table.notes, *table.ledger.notes()]
        by_split: dict[str, list[GradedRow]] = {}
        if columns.split is None:
            remedy = f"add a column {options.split_column!r} to choose"
            by_split, note = split_by_hash(rows, remedy=remedy)
            notes.append(note)
        else:
            for row in rows:
                by_split.setdefault(row.split or "", []).append(row)
        report = ReadReport(notes=tuple(notes), skipped_rows=tuple(table.ledger.rows))
        super().__init__(root, by_split, scale=scale, report=report)


def _column(table: Table, asked: str | None, usual: Sequence[str], option: str) -> str:
    if asked is not None:
        return table.require_column(asked, option)
    columns = table.usual_columns(usual)
    if not columns:
        content = "grades" if option == "grade_column" else "texts"
        raise table.unrecognised(content, usual, option, left_columns(table.columns, ("split",)))
    return columns[0]


def _read_rows(table: Table, columns: _Columns) -> list[GradedRow]:
    rows = []
    for number, (place, cells) in enumerate(table.read(list(vars(columns).values())), start=1):
        try:
            first, second = _text(cells, columns.first), _text(cells, columns.second)
            grade = grade_of(_with_point(cells.get(columns.grade)), None)
        except ValueError as error:
            table.ledger.skip(place, str(error))
            continue
        row = GradedRow(first, second, grade, number)
        if columns.split is not None:
            row = with_split(row, cells.get(columns.split), table.name, place)
        rows.append(row)
    table.ledger.check(len(rows))
    if not rows:
        raise format_error(table.name, "", "holds no pairs")
    return rows


def _with_point(cell: object) -> object:
    """Return a number with a decimal comma, as half of the world writes it, with a point."""
    is_decimal = isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell.strip())
    return str(cell).replace(",", ".") if is_decimal else cell


def _text(cells: Cells, column: str) -> str:
    text = cells.get(column)
    if isinstance(text, str):
        return text_of(text)
    if is_missing(text):
        return ""  # an empty cell: the pair is left out and counted
    raise ValueError(f"column {column!r} must hold a text, found {text!r:.80}")


def _scale(
    file: Path, rows: Sequence[GradedRow], lowest: float | None, highest: float | None
) -> tuple[Scale, str]:
    grades = {row.grade for row in rows}
    if lowest is None and highest is None and grades <= _BINARY:
        return Scale(0.0, 1.0, binary=True), "grades are labels, 0 or 1"
    low = min(grades) if lowest is None else lowest
    high = max(grades) if highest is None else highest
    if not low < high:
        raise SpecError(f"the grades of {file.name} go from {low:g} to {high:g}: not a scale")
    scale = Scale(low, high, binary=False)
    outside = [grade for grade in sorted(grades) if not scale.holds(grade)]
    if outside:
        raise format_error(file, "", f"grade {outside[0]:g} is not {scale.describe()}")
    guessed = " (the least and the largest found: set lowest and highest if the scale is another)"
    return scale, f"grades are {scale.describe()}{guessed if None in (lowest, highest) else ''}"
