"""Any table with two columns of texts and one of grades or labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SpecError
from ._caption_files import format_error
from ._graded_files import FIRST_NAMES, SECOND_NAMES, read_grade, read_tabbed, with_split
from ._graded_source import GradedRow, GradedSource, Scale, split_by_hash
from ._tables import Cells, Table, find_table, open_table, require_column, split_column_of

# Usual names, the preferred first; compared in lower case.
_GRADE_NAMES = ("grade", "score", "similarity", "relatedness", "label", "is_duplicate", "quality")
_BINARY = frozenset({0.0, 1.0})


@dataclass(frozen=True)
class _Columns:
    first: str
    second: str
    grade: str
    split: str | None


class TextPairTableSource(GradedSource):
    """Read graded pairs of texts from a .csv, .tsv, .jsonl or .parquet table.

    Grades that are all 0 or 1 are labels, else they are a scale from `lowest` to `highest`. Without
    a split column, splits come from a hash of the texts.

    Args:
        root: The table, or a folder that holds exactly one.
        first_column: Column of one text; None recognises it by the usual names.
        second_column: Column of the other, alike.
        grade_column: Column of grades, alike.
        split_column: Column of split names; the table may lack it only under its default name.
        lowest: Grade of two texts that mean nothing alike; the least of the table if None.
        highest: Grade of two texts that mean the same; the largest of the table if None.
        quoted: Whether cells of a .tsv may be quoted; if not, a quote is a letter like any other.

    Raises:
        DatasetNotFoundError: There is no table.
        DatasetFormatError: The table is broken, lacks a column, is one of several, or holds a grade
            that is no number or outside of the scale.
        SpecError: `lowest` is not below `highest`, or `quoted` is no and the table is no .tsv.
    """

    title = "Your own csv, tsv, jsonl or parquet table of two texts and a grade or label"

    def __init__(
        self,
        root: Path,
        *,
        first_column: str | None = None,
        second_column: str | None = None,
        grade_column: str | None = None,
        split_column: str = "split",
        lowest: float | None = None,
        highest: float | None = None,
        quoted: bool = True,
    ) -> None:
        file = find_table(root, name="text-pair-table", what="pairs of texts")
        table = _open(file, quoted=quoted)
        columns = _Columns(
            first=_column(table, first_column, FIRST_NAMES, "first_column"),
            second=_column(table, second_column, SECOND_NAMES, "second_column"),
            grade=_column(table, grade_column, _GRADE_NAMES, "grade_column"),
            split=split_column_of(table, split_column),
        )
        rows = _read_rows(table, columns)
        scale, scale_note = _scale(table.file, rows, lowest, highest)
        read = ", ".join(name for name in vars(columns).values() if name is not None)
        notes = [f"columns read: {read}; {scale_note}"]
        by_split: dict[str, list[GradedRow]] = {}
        if columns.split is None:
            remedy = f"add a column {split_column!r} to choose"
            by_split, note = split_by_hash(rows, remedy=remedy)
            notes.append(note)
        else:
            for row in rows:
                by_split.setdefault(row.split or "", []).append(row)
        super().__init__(root, by_split, scale=scale, notes=notes)


def _open(file: Path, *, quoted: bool) -> Table:
    if quoted:
        return open_table(file)
    if file.suffix.lower() != ".tsv":
        raise SpecError(f"quoted=false is for a .tsv, found {file.name}")
    lines = read_tabbed(file)
    _, header = next(lines)
    columns = [cell.strip() for cell in header]

    def read(_: Sequence[str]) -> Iterator[tuple[str, Cells]]:
        for place, fields in lines:
            if len(fields) != len(columns):
                problem = f"{len(fields)} fields where the header has {len(columns)}"
                raise format_error(file, place, problem)
            yield place, dict(zip(columns, fields, strict=True))

    return Table(file, columns, read)


def _column(table: Table, asked: str | None, usual: Sequence[str], option: str) -> str:
    if asked is not None:
        return require_column(table, asked, option)
    by_lower = {column.lower(): column for column in reversed(table.columns)}
    known = [by_lower[name] for name in usual if name in by_lower]
    if not known:
        problem = f"none of the columns {list(table.columns)} is called like {list(usual)}"
        raise format_error(table.file, "", f"{problem}; name one with the option {option}")
    return known[0]


def _read_rows(table: Table, columns: _Columns) -> list[GradedRow]:
    wanted = [name for name in vars(columns).values() if name is not None]
    rows = []
    for number, (place, cells) in enumerate(table.read(wanted), start=1):
        row = GradedRow(
            first=_text(table.file, place, cells, columns.first),
            second=_text(table.file, place, cells, columns.second),
            grade=read_grade(cells.get(columns.grade), None, table.file, place),
            number=number,
        )
        if columns.split is not None:
            row = with_split(row, cells.get(columns.split), table.file, place)
        rows.append(row)
    if not rows:
        raise format_error(table.file, "", "holds no pairs")
    return rows


def _text(file: Path, place: str, cells: Cells, column: str) -> str:
    text = cells.get(column)
    if text is None:
        return ""  # an empty cell: the pair is left out and counted
    if not isinstance(text, str):
        raise format_error(file, place, f"column {column!r} must hold a text, found {text!r:.80}")
    return text


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
