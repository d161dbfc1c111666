"""Find and read the files of a published dataset of graded text pairs, in its usual layouts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

from ...errors import DatasetFormatError
from ...regular_files import is_regular
from ..base import ReadReport, counted, format_error, missing_dataset
from ..splits import split_name
from ..tables.text_files import read_lines
from .graded_source import GradedRow, GradedSource, Scale, split_by_hash

_Lines = Iterator[tuple[str, list[str]]]  # the place and the fields of each line

# What the columns of both texts are called, in lower case.
FIRST_NAMES = ("sentence1", "question1", "#1 string", "sentence_a", "text1", "first")
SECOND_NAMES = ("sentence2", "question2", "#2 string", "sentence_b", "text2", "second")
_ALL = "all"  # stands for a file of all splits


@dataclass(frozen=True)
class _Columns:
    """Indices of the columns that are read, and the number of all; lines may go on behind these."""

    first: int
    second: int
    grade: int
    split: int | None
    count: int
    open_ended: bool


class PublishedPairs(GradedSource):
    """Published dataset of graded text pairs, in any of its usual layouts.

    A training part alone, or a file without splits, is split by hash. A test part without grades,
    as GLUE gives it, is passed over with a note.

    Args:
        root: Folder of the dataset, or one of its files.

    Attributes:
        published_as: Name of the dataset.
        layouts: Layouts, the preferred first: pattern of the file of each split, or of `all`.
        grade_names: What the column of grades may be called, in lower case.
        scale: What the grades may be.
        get_it: Where a user can get the files.
        split_column: What a column of splits is called, in lower case, where there may be one.
        bare: Pattern of the names of files without a header line, and their columns; their lines
            may go on behind these.
        broken_share: Share of the lines of a file that may have another number of fields than its
            header, as published files do; they are left out with a note.

    Raises:
        DatasetNotFoundError: None of the files is there.
        DatasetFormatError: A file is broken or empty, lacks a column, or holds a grade that is none
            of the scale.
    """

    published_as: ClassVar[str]
    layouts: ClassVar[Sequence[Mapping[str, str]]]
    grade_names: ClassVar[Sequence[str]]
    scale: ClassVar[Scale]
    get_it: ClassVar[str]
    split_column: ClassVar[str | None] = None
    bare: ClassVar[Sequence[tuple[str, Sequence[str]]]] = ()
    broken_share: ClassVar[float] = 0.0

    def __init__(self, root: Path) -> None:
        rows: dict[str, list[GradedRow]] = {}
        notes: list[str] = []
        for split, file in self._files(root).items():
            lines, columns = self._open(file)
            if columns is None:
                if split != "test":
                    problem = f"no column of grades; expected one of {list(self.grade_names)}"
                    raise format_error(file, "line 1", problem)
                notes.append(f"{file.name} left out: it has no grades")
                continue
            for row in self._rows(file, columns, lines, notes):
                rows.setdefault(row.split or split, []).append(row)
        if set(rows) <= {_ALL, "train"} and len(rows) == 1:
            published = ", ".join(self.layouts[0].values())
            remedy = f"a folder with {published} has the published ones"
            rows, note = split_by_hash(*rows.values(), remedy=remedy)
            notes.append(note)
        super().__init__(root, rows, scale=self.scale, report=ReadReport(notes=tuple(notes)))

    def _files(self, root: Path) -> dict[str, Path]:
        """Return the file of each split in the preferred layout that is there."""
        if is_regular(root):
            patterns = (pattern for layout in self.layouts for pattern in layout.items())
            of_split = (split for split, pattern in patterns if root.match(pattern))
            return {next(of_split, _ALL): root}
        for layout in self.layouts:
            file_of = {}
            for split, pattern in layout.items():
                files = sorted(file for file in root.glob(pattern) if is_regular(file))
                if len(files) > 1:
                    names = [file.name for file in files]
                    raise DatasetFormatError(
                        f"{root} holds several files like {pattern}: {names}; name one: "
                        f"--data {self.published_as}={files[0]}"
                    )
                if files:
                    file_of[split] = files[0]
            if file_of:
                return file_of
        looked_for = [", ".join(layout.values()) for layout in self.layouts]
        raise missing_dataset(self.published_as, root, looked_for, self.get_it)

    def _open(self, file: Path) -> tuple[_Lines, _Columns | None]:
        """Return the lines behind the header, and the columns, or None if there are no grades."""
        # quotes are letters like any other
        lines = ((place, line.split("\t")) for place, line in read_lines(file))
        first = next(lines, None)
        if first is None:
            raise format_error(file, "", "is empty")
        bare = [names for pattern, names in self.bare if file.match(pattern)]
        if bare:
            return chain([first], lines), self._columns(file, bare[0], open_ended=True)
        return lines, self._columns(file, first[1], open_ended=False)

    def _columns(self, file: Path, header: Sequence[str], *, open_ended: bool) -> _Columns | None:
        names = [name.strip().lower() for name in header]

        def place(usual: Sequence[str], content: str) -> int:
            indices = [names.index(name) for name in usual if name in names]
            if not indices:
                problem = f"no column of {content} among {names}; expected one of {list(usual)}"
                raise format_error(file, "line 1", problem)
            return indices[0]

        first, second = place(FIRST_NAMES, "first texts"), place(SECOND_NAMES, "second texts")
        if not set(self.grade_names) & set(names):
            return None
        split = names.index(self.split_column) if self.split_column in names else None
        grade = place(self.grade_names, "grades")
        return _Columns(first, second, grade, split, len(names), open_ended)

    def _rows(
        self, file: Path, columns: _Columns, lines: _Lines, notes: list[str]
    ) -> list[GradedRow]:
        """Return the rows, and note the lines that were left out."""
        rows: list[GradedRow] = []
        broken: list[tuple[str, int]] = []
        for number, (place, fields) in enumerate(lines, start=1):
            extra = len(fields) - columns.count
            if extra < 0 or (extra > 0 and not columns.open_ended):
                broken.append((place, len(fields)))
                continue
            try:
                grade = grade_of(fields[columns.grade], self.scale)
            except ValueError as error:
                raise format_error(file, place, str(error)) from error
            row = GradedRow(fields[columns.first], fields[columns.second], grade, number)
            if columns.split is not None:
                row = with_split(row, fields[columns.split], file, place)
            rows.append(row)
        if len(broken) > self.broken_share * (len(rows) + len(broken)):
            place, count = broken[0]
            problem = f"{count} fields where the header has {columns.count}, separated by tabs"
            raise format_error(file, place, problem)
        if broken:
            left_out = f"{counted(len(broken), 'broken line')} of {file.name} left out"
            notes.append(f"{left_out}, the first at {broken[0][0]}")
        if not rows:
            raise format_error(file, "", "holds no pairs")
        return rows


def with_split(row: GradedRow, cell: object, file: Path, place: str) -> GradedRow:
    """Return `row` with the split that a cell names.

    Raises:
        DatasetFormatError: It names none.
    """
    split = split_name("" if cell is None else str(cell))
    if not split:
        raise format_error(file, place, "gives no split")
    return row._replace(split="val" if split == "trial" else split)  # as SemEval calls it


def grade_of(cell: object, scale: Scale | None) -> float:
    """Return the grade that a cell holds.

    Raises:
        ValueError: It is no number, or none of the scale, where there is one.
    """
    expected = "a number" if scale is None else scale.describe()
    try:
        grade = float(cell)  # type: ignore[arg-type]  # what is neither raises TypeError
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"grade {cell!r:.40} is not {expected}") from error
    if not math.isfinite(grade) or (scale is not None and not scale.holds(grade)):
        raise ValueError(f"grade {grade:g} is not {expected}")
    return grade


def glue_like(name: str, **patterns: str) -> tuple[dict[str, str], ...]:
    """Return the layouts of GLUE's folders and of files that bear the name of the dataset.

    Args:
        name: Name of the dataset.
        patterns: Pattern by split where it is another than GLUE's.
    """
    glue = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv", **patterns}
    named = {split: f"{name}_{pattern}" for split, pattern in glue.items() if split not in patterns}
    return glue, named, {_ALL: f"{name}.tsv"}
