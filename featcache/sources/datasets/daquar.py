"""DAQUAR: 12,468 questions about 1,449 photos of rooms.

Source: Malinowski and Fritz, A Multi-World Approach to Question Answering about Real-World Scenes
based on Uncertain Input, NeurIPS 2014. The random split is that of OneEncoder's `main.py` for
visual question answering: scikit-learn's `train_test_split(test_size=0.2, random_state=42)`.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DatasetFormatError, SourceOptionError
from ...regular_files import is_regular
from ..base import counted, format_error, missing_dataset
from ..readers.item_ledger import ItemLedger
from ..readers.question_source import (
    Question,
    QuestionSource,
    answer_list,
    complete_in_splits,
    folder_of,
    with_validation,
)
from ..splits import split_name
from ..tables.decoding import DecodedText, read_published_text
from ..tables.delimited import DelimitedRows, lines_of
from ..tables.picture_places import PicturePlaces
from ..tables.text_files import read_lines

_OFFICIAL, _ONEENCODER = "official", "oneencoder"
_SUFFIXES = (".png", ".jpg", ".jpeg")
_IMAGE_FOLDERS = ("nyu_depth_images", "images", "image", "")
_IMAGE = re.compile(r"image\d+")
_ASKED_OF = re.compile(
    r"\b(?:(?:in|on|of)\s+)?(?:(?:the|this)\s+)?(?P<image>image\d+)\s*\?*$", re.IGNORECASE
)
_TABLE = "qa.csv"
_WHOLE = ("all_qa_pairs.txt", "qa.894.raw.txt", "qa.37.raw.txt")
_PAIRS = tuple(
    {"train": f"qa.{count}.raw.train.txt", "test": f"qa.{count}.raw.test.txt"}
    for count in (894, 37)
)
_TABLES = {"train": "data_train.csv", "test": "data_eval.csv"}
_LISTS = (
    {"train": "train_images_list.txt", "test": "test_images_list.txt"},
    {"train": "train.txt", "test": "test.txt"},
)
_ANSWERS = "answer_space.txt"
_HELD_OUT, _SEED = 0.2, 42
_WAY_TO_DRAW = f"--set source.split={_ONEENCODER}"


@dataclass(frozen=True, kw_only=True)
class DaquarOptions:
    """Options of DAQUAR.

    Attributes:
        split: `official`, by image, or `oneencoder`: a random fifth of all questions is `val`,
            whatever their images. OneEncoder chooses its checkpoint on the fifth that it reports.
        val_share: Share of the training images that become `val`, where the files have none: from
            0 to 0.5; without it a tenth of easy-vqa, and nothing of daquar.
        root: Absolute path of a folder below which images may lie, too, such as `/`.

    Raises:
        SourceOptionError: There is no split of this name.
    """

    split: str = _OFFICIAL
    val_share: float | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        if self.split not in {_OFFICIAL, _ONEENCODER}:
            problem = f"must be {_OFFICIAL} or {_ONEENCODER}, found {self.split!r:.80}"
            raise SourceOptionError(f"source.split {problem}")


class _Asked(NamedTuple):
    """Question as a file has it; the split is None where another file tells it."""

    image: str
    text: str
    answer: str
    place: str
    file: Path
    split: str | None = None
    path: str | None = None  # of the image, where the file has it


@dataclass(frozen=True)
class _Read:
    """Questions that were read from some files, of which the first is called in messages."""

    file: Path
    asked: Sequence[_Asked]
    notes: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()  # images that a list has, and no question


class DaquarSource(QuestionSource):
    """Read DAQUAR as its authors, as Kaggle, or as a `qa.csv` has it.

    The first of several answers is the label. Image ids are `image1` and so on in every layout. In
    the official split, the authors' training side is `train`, and the other `test`.

    Args:
        place: Folder of the dataset.
        options: See `DaquarOptions`.

    Raises:
        DatasetNotFoundError: No file of questions, or none of the images is there.
        DatasetFormatError: A file cannot be understood, or names an image elsewhere.
        SpecError: An option has no such value.
    """

    title = "DAQUAR: 12,468 questions about photos of rooms, with answers"
    Options = DaquarOptions

    def __init__(self, place: Path, options: DaquarOptions) -> None:
        read = _drawn(place) if options.split == _ONEENCODER else _official(place)
        ledger = ItemLedger("question")
        ledger.note(*read.notes, *_unasked(read))
        questions = [
            Question(
                asked.image,
                asked.text,
                tuple(answer for part in asked.answer.split(",") if (answer := part.strip())),
                f"{asked.file.name}, {asked.place}",
                asked.split or "",
            )
            for asked in read.asked
        ]
        questions = complete_in_splits(questions, ledger.skip)
        questions, notes = with_validation(questions, options.val_share, usual=0.0)
        path_of = _image_paths(place, read, options.root)
        ledger.note(*notes)
        super().__init__(
            place,
            questions,
            read.file,
            path_of.__getitem__,
            vocabulary=answer_list(place / _ANSWERS),
            ledger=ledger,
        )


def _official(place: Path) -> _Read:
    """Read the first layout that tells the official split."""
    if _is_daquar_table(place / _TABLE):
        return _Read(place / _TABLE, list(_read_table(place / _TABLE, "image", None)))
    for pair in _PAIRS:
        if is_regular(place / pair["train"]):
            return _read_pair(place, pair, _read_lines_of)
    whole = next((place / name for name in _WHOLE if is_regular(place / name)), None)
    listed = next((pair for pair in _LISTS if is_regular(place / pair["train"])), None)
    if whole is not None and listed is not None:
        return _by_lists(_Read(whole, list(_read_lines_of(whole, None))), place, listed)
    if is_regular(place / _TABLES["train"]):
        return _read_pair(place, _TABLES, _read_table_of)
    if whole is not None:
        lists = " and ".join(_LISTS[0].values())
        problem = f"says nothing of splits; put {lists} beside it, or draw them: {_WAY_TO_DRAW}"
        raise format_error(whole, "", problem)
    raise _missing(place)


def _drawn(place: Path) -> _Read:
    """Read all questions in the order of the files, and draw OneEncoder's split.

    >>> np.random.RandomState(42).permutation(10)[:2].tolist()
    [8, 1]
    """
    whole = next((place / name for name in _WHOLE if is_regular(place / name)), None)
    read = _official(place) if whole is None else _Read(whole, list(_read_lines_of(whole, None)))
    count = len(read.asked)
    held_out = np.random.RandomState(_SEED).permutation(count)[: math.ceil(_HELD_OUT * count)]
    is_val = np.zeros(count, dtype=bool)
    is_val[held_out] = True
    asked = [
        question._replace(split="val" if drawn else "train")
        for question, drawn in zip(read.asked, is_val.tolist(), strict=True)
    ]
    note = (
        f"OneEncoder's split: {len(held_out):,} of {count:,} questions are val, whatever their "
        "images"
    )
    if whole is None or whole.name != _WHOLE[0]:
        note += f"; published over {_WHOLE[0]}, here over the questions of {read.file.name}"
    return replace(read, asked=asked, notes=(*read.notes, note))


def _read_pair(
    place: Path, pair: Mapping[str, str], read: Callable[[Path, str], Iterator[_Asked]]
) -> _Read:
    files = {split: place / name for split, name in pair.items() if is_regular(place / name)}
    asked = [question for split, file in files.items() for question in read(file, split)]
    return _Read(files["train"], asked)


def _by_lists(read: _Read, place: Path, listed: Mapping[str, str]) -> _Read:
    """Return questions with the split of their images; what no list has is left out."""
    split_of: dict[str, str] = {}
    unasked: list[str] = []
    images = {asked.image for asked in read.asked}
    for split, name in listed.items():
        file = place / name
        for at, line in read_lines(file) if is_regular(file) else ():
            image = Path(line.strip()).stem
            if not _IMAGE.fullmatch(image):
                raise format_error(file, at, f"expected an image such as image1, found {line!r}")
            if split_of.setdefault(image, split) != split:
                raise format_error(file, at, f"{image} is in {listed[split_of[image]]}, too")
            if image not in images:
                unasked.append(f"{image} ({name}, {at})")
    asked = [
        question._replace(split=split_of[question.image])
        for question in read.asked
        if question.image in split_of
    ]
    if not asked:
        lists = " and ".join(listed.values())
        raise format_error(read.file, "", f"has no image in common with {lists}")
    notes = list(read.notes)
    unlisted = [question for question in read.asked if question.image not in split_of]
    if unlisted:
        questions = f"{counted(len(unlisted), 'question')} of {read.file.name}"
        first = f"{unlisted[0].image} of {unlisted[0].place}"
        notes.append(f"{questions} left out: no list has the image, such as {first}")
    return replace(read, asked=asked, notes=tuple(notes), unasked=tuple(unasked))


def _unasked(read: _Read) -> Iterator[str]:
    """Yield a note of the images that are listed, and that no question is about."""
    if read.unasked:
        images = counted(len(read.unasked), "image")
        yield f"{images} without a question left out, such as {read.unasked[0]}"


def _read_lines_of(file: Path, split: str | None) -> Iterator[_Asked]:
    """Yield the questions of a file in which a line is a question, and the next its answer."""
    lines = read_lines(file)
    for place, line in lines:
        asked = _asked_of(line)
        if asked is None:
            expected = "expected a question that ends in 'in the image1 ?'"
            raise format_error(file, place, f"{expected}, found {line!r}")
        image, text = asked
        at, answer = next(lines, (place, ""))
        if at == place:
            raise format_error(file, place, "is a question without an answer below it")
        if _asked_of(answer) is not None:
            raise format_error(file, at, f"expected the answer to {place}, found {answer!r}")
        yield _Asked(image, text, answer, place, file, split)


def _asked_of(line: str) -> tuple[str, str] | None:
    """Return the image that a question is about, and the question without it, or None.

    >>> _asked_of("what is on the table in the image12 ?")
    ('image12', 'what is on the table')
    """
    line = line.strip()
    ending = _ASKED_OF.search(line)
    return None if ending is None else (ending["image"].lower(), line[: ending.start()].strip())


def _is_daquar_table(file: Path) -> bool:
    """Return whether a table is of the images of DAQUAR: others may be called so, too."""
    if not is_regular(file):
        return False
    try:
        first = next(_read_table(file, "image", None), None)
    except DatasetFormatError:
        return False
    return first is not None and _IMAGE.fullmatch(first.image) is not None


def _read_table_of(file: Path, split: str) -> Iterator[_Asked]:
    return _read_table(file, "image_id", split)


def _read_table(file: Path, image_column: str, split: str | None) -> Iterator[_Asked]:
    """Yield the questions of a csv file.

    Args:
        file: The file.
        image_column: Its column of images.
        split: The split of all, or None where a column has it.
    """
    decoded = DecodedText(read_published_text(file), "utf-8")

    def refuse(place: str, reason: str) -> None:
        raise format_error(file, place, reason)

    rows = DelimitedRows(file, lines_of(decoded), ",", refuse, is_broken=False, quoted=True)
    header = [cell.strip() for cell in rows.header]
    columns = ["question", "answer", image_column, *([] if split else ["split"])]
    lacking = [name for name in columns if name not in header]
    if lacking:
        problem = f"lacks the columns {lacking}; expected {columns}, found {header}"
        raise format_error(file, rows.place, problem)
    for place, cells in rows:
        row = dict(zip(header, map(str.strip, cells), strict=False))
        path = row[image_column]
        image = Path(path).stem
        if not _IMAGE.fullmatch(image):
            raise format_error(file, place, f"expected an image such as image1, found {path!r}")
        of_row = split or split_name(row["split"])
        if not of_row:
            raise format_error(file, place, f"gives no split for {image}")
        named = path if Path(path).suffix else None
        yield _Asked(image, row["question"], row["answer"], place, file, of_row, named)


def _image_paths(place: Path, read: _Read, root: str | None) -> dict[str, str]:
    """Return the file of each image by its id.

    Raises:
        DatasetFormatError: A path leads out of the dataset, or one image has two.
    """
    named: dict[str, str] = {}
    bare: dict[str, str] = {}
    for asked in read.asked:
        if asked.path is None:
            bare[asked.image] = asked.place
        elif named.setdefault(asked.image, asked.path) != asked.path:
            problem = f"{asked.image} is {named[asked.image]!r}, and {asked.path!r}"
            raise format_error(asked.file, asked.place, problem)
    places = PicturePlaces(read.file, place, root)
    path_of = {image: str(places.path_of(name, "")) for image, name in named.items()}
    places.check()
    tops = [place, *([] if root is None else [Path(root)])]
    folders = [top / name for top in tops for name in _IMAGE_FOLDERS]
    files = [f"{image}{suffix}" for image in bare for suffix in _SUFFIXES]
    folder = (folder_of(files, folders) if bare else None) or folders[0]
    places = PicturePlaces(read.file, folder, root)  # which may be a link
    for image, at in bare.items():
        candidates = [f"{image}{suffix}" for suffix in _SUFFIXES]
        name = next((name for name in candidates if is_regular(folder / name)), candidates[0])
        path_of[image] = str(places.path_of(name, at))
    places.check()
    return path_of


def _missing(place: Path) -> Exception:
    looked_for = (
        _PAIRS[0]["train"],
        f"{_WHOLE[0]} with {_LISTS[0]['train']}",
        _TABLES["train"],
        f"{_TABLE} with image1 and so on",
    )
    get_it = (
        "Get it from https://www.kaggle.com/datasets/bhavikardeshna/"
        "visual-question-answering-computer-vision-nlp."
    )
    return missing_dataset("daquar", place, looked_for, get_it)
