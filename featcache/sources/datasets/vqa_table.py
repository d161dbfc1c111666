"""Any table with a column of image paths, one of questions, and perhaps one of answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import SourceOptionError
from ..base import ReadReport, counted
from ..readers.images import storable_ids, storable_note
from ..readers.item_ledger import ItemLedger
from ..readers.question_source import (
    Question,
    QuestionSource,
    complete_in_splits,
)
from ..splits import BY_FOLDERS, hashed_splits, split_name
from ..tables.row_ledger import of_one_value
from ..tables.table import Table, TableFormat, open_table
from ..tables.table_files import Cells, find_table
from ..tables.table_images import ImageRow, TableImages
from ..tables.text_files import is_missing, listed_texts, text_of

_QUESTION_NAMES = ("question", "questions")
_ANSWER_NAMES = ("answer", "answers")


@dataclass(frozen=True, kw_only=True)
class VqaTableOptions(TableFormat):
    """Options of a table of images, questions and answers; what is None is found out.

    Attributes:
        image_column: Column of image paths.
        question_column: Column of questions.
        answer_column: Column of answers; the table may lack it only under its default names.
        separator: Text between several answers in one cell, such as `;`, or None where a cell
            that is no list holds one answer.
        question_type_column: Column of types of questions; the table may lack it only under its
            default name, as the next two.
        answer_type_column: Column of types of answers.
        split_column: Column of split names.
        root: Absolute path of a folder below which images may lie, too, such as `/`; without it
            those outside of the table's folder are refused.
    """

    image_column: str | None = None
    question_column: str | None = None
    answer_column: str | None = None
    separator: str | None = None
    question_type_column: str = "question_type"
    answer_type_column: str = "answer_type"
    split_column: str = "split"
    root: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and not self.separator.strip():
            raise SourceOptionError("source.separator must be a text such as ';', found no letter")


class _Columns(NamedTuple):
    image: str
    question: str
    answer: str | None
    question_type: str | None
    answer_type: str | None
    split: str | None


class _Asked(NamedTuple):
    """Question of one row, with its answers and types."""

    text: str
    answers: tuple[str, ...]
    question_type: str | None
    answer_type: str | None


class VqaTableSource(QuestionSource):
    """Read questions about images from a table: delimited text, JSON or parquet.

    Several answers to a question are a list, or stand in one cell with a separator; the one that
    is there most often is the label, of as many the first. Image paths, ids and splits are those of
    `image-text-table`. Rows that cannot be read are left out and listed, and so are empty
    questions, and in a split with answers questions without one.

    Args:
        place: The table, or a folder that holds exactly one.
        options: See `VqaTableOptions`.

    Raises:
        DatasetNotFoundError: There is no table, or none of its images.
        DatasetFormatError: The table is broken, lacks a column, is one of several, or names an
            image outside of its folder and of `root`.
        SpecError: `root` is no absolute path of a folder, or the separator, delimiter or encoding
            is none.
    """

    title = "Your own csv, tsv, json, jsonl or parquet table of images, questions and answers"
    Options = VqaTableOptions

    def __init__(self, place: Path, options: VqaTableOptions) -> None:
        files = find_table(place, name="vqa-table", content="image paths, questions and answers")
        table = open_table(files, options)
        columns = _columns(table, options)
        images = TableImages(table, columns.image, root=options.root)
        rows = images.inside(_read_rows(table, images, columns, options.separator))
        in_folders = images.in_splits_of_folders(rows) if columns.split is None else None
        rows = in_folders or rows
        table.ledger.check(len(rows))
        places = images.places_of(rows)
        ids, named_by = images.ids_of(rows)
        stored = storable_ids(dict.fromkeys(ids.values()), table.name)
        id_of = {name: stored.get(image_id, image_id) for name, image_id in ids.items()}
        ledger = ItemLedger("question")
        ledger.note(_column_note(columns, named_by), *([BY_FOLDERS] if in_folders else []))
        if columns.split is None and in_folders is None:
            rows = _with_hashed_splits(rows, id_of, options.split_column, ledger)
        rows = of_one_value(
            rows,
            lambda row: (id_of[row.image], split_name(row.split or ""), row.place),
            "split",
            table.ledger,
        )
        table.ledger.check(len(rows))
        questions = complete_in_splits(
            [_question(row, id_of[row.image]) for row in rows], table.ledger.skip
        )
        table.ledger.check(len(questions))
        ledger.note(*table.notes, *table.ledger.notes(), *storable_note(stored))
        place_of = {id_of[name]: at for name, at in places.items()}
        super().__init__(
            place,
            questions,
            table.name,
            place_of.__getitem__,
            reader=images.pictures,
            ledger=ledger,
            report=ReadReport(
                skipped_rows=tuple(table.ledger.rows), tables=(*files.files, *files.left_out)
            ),
        )


def _columns(table: Table, options: VqaTableOptions) -> _Columns:
    """Return the columns that are read: those asked for, or of usual names.

    Raises:
        UnknownColumnError: Nothing tells which holds the images, or the questions.
        DatasetFormatError: The table has none of a name that is asked for.
    """

    def optional(name: str, option: str) -> str | None:
        is_usual = name == getattr(VqaTableOptions(), option)
        return table.optional_column(name) if is_usual else table.require_column(name, option)

    image = table.image_column(options.image_column)
    if options.question_column is not None:
        question = table.require_column(options.question_column, "question_column")
    else:
        usual = table.usual_columns(_QUESTION_NAMES)
        if not usual:
            left = [column for column in table.columns if column not in {image, "split", "id"}]
            raise table.unrecognised("questions", _QUESTION_NAMES, "question_column", left)
        question = usual[0]
    if options.answer_column is not None:
        answer: str | None = table.require_column(options.answer_column, "answer_column")
    else:
        answer = next(iter(table.usual_columns(_ANSWER_NAMES)), None)
    return _Columns(
        image,
        question,
        answer,
        optional(options.question_type_column, "question_type_column"),
        optional(options.answer_type_column, "answer_type_column"),
        table.split_column(options.split_column),
    )


def _read_rows(
    table: Table, images: TableImages, columns: _Columns, separator: str | None
) -> list[ImageRow]:
    rows = []
    for place, cells in table.read([*columns, images.id_column]):
        try:
            row = images.row_of(place, cells)
            asked = _asked(table, cells, columns, separator)
            split = table.split_of(cells, columns.split)
        except ValueError as error:
            table.ledger.skip(place, str(error))
            continue
        rows.append(row._replace(value=asked, split=split))
    return rows


def _asked(table: Table, cells: Cells, columns: _Columns, separator: str | None) -> _Asked:
    text = cells.get(columns.question)
    if not isinstance(text, str) and not is_missing(text):
        raise ValueError(f"column {columns.question!r} must hold a question, found {text!r:.80}")
    answer = None if columns.answer is None else table.value_of(cells, columns.answer)
    return _Asked(
        "" if text is None or is_missing(text) else text_of(text).strip(),
        _answers(answer, separator),
        _type(table, cells, columns.question_type),
        _type(table, cells, columns.answer_type),
    )


def _answers(cell: Any, separator: str | None) -> tuple[str, ...]:
    """Return the answers in a cell: a text, a number, a list of these, or nothing.

    >>> _answers("cup; stand", ";"), _answers("cup; stand", None), _answers(["2", 3], None)
    (('cup', 'stand'), ('cup; stand',), ('2', '3'))

    Raises:
        ValueError: It holds something else.
    """
    if is_missing(cell):
        return ()
    answers: list[Any] | tuple[Any, ...]
    if isinstance(cell, str):
        listed = listed_texts(cell) if cell[:1] in "[ \t" else None
        if listed is not None:
            answers = listed
        elif not text_of(cell):
            answers = ()
        else:
            answers = [cell] if separator is None else cell.split(separator)
    else:
        answers = cell if isinstance(cell, list | tuple) else [cell]
    texts = [_text(answer).strip() for answer in answers if not is_missing(answer)]
    return tuple(text for text in texts if text)


def _text(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        problem = f"an answer must be text or a number, found {answer!r:.80}"
        raise ValueError(problem)  # noqa: TRY004  # as all of a row that cannot be read
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)


def _type(table: Table, cells: Cells, column: str | None) -> str | None:
    if column is None:
        return None
    value = table.value_of(cells, column)
    return "" if is_missing(value) else text_of(str(value)).strip()


def _question(row: ImageRow, image_id: str) -> Question:
    asked: _Asked = row.value
    most = Counter(asked.answers).most_common(1)  # the first of as many
    return Question(
        image_id,
        asked.text,
        asked.answers,
        row.place,
        split_name(row.split or ""),
        chosen=most[0][0] if most else None,
        question_type=asked.question_type,
        answer_type=asked.answer_type,
    )


def _with_hashed_splits(
    rows: Sequence[ImageRow], id_of: dict[str, str], column: str, ledger: ItemLedger
) -> list[ImageRow]:
    """Return rows with splits that depend on nothing but the ids of the images."""
    split_of, held_out = hashed_splits(id_of[row.image] for row in rows)
    ledger.note(
        f"no file gives the splits: {held_out:,} test and {counted(held_out, 'val image')} chosen "
        f"by the SHA-256 of their names; add a column {column!r} to choose"
    )
    return [row._replace(split=split_of[id_of[row.image]]) for row in rows]


def _column_note(columns: _Columns, named_by: str) -> str:
    answers = "no answers" if columns.answer is None else f"answers from {columns.answer}"
    read = f"images from {columns.image}, questions from {columns.question}, {answers}"
    return f"columns read: {read}; {named_by}"
