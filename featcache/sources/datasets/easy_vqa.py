"""easy-VQA: 48,000 questions about 5,000 drawn pictures, each of one coloured shape.

Source: Zhou, easy-VQA, the package `easy-vqa` 1.0.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...regular_files import is_regular
from ..base import counted, format_error, missing_dataset
from ..readers.image_files import LeftOut, paths_below
from ..readers.item_ledger import ItemLedger
from ..readers.question_source import (
    Question,
    QuestionSource,
    answer_list,
    complete_in_splits,
    is_image_number,
    with_validation,
)
from ..tables.decoding import read_published_text
from ..tables.json_rows import parse_json
from ..tables.picture_places import PicturePlaces

_PACKAGE = "easy_vqa"
_SPLITS = ("train", "val", "test")
_VAL_SHARE = 0.1
_QUESTIONS, _ANSWERS = "questions.json", "answers.txt"


@dataclass(frozen=True, kw_only=True)
class EasyVqaOptions:
    """Options of easy-VQA.

    Attributes:
        val_share: Share of the training images that become `val`, where the files have none: from
            0 to 0.5; without it a tenth of easy-vqa, and nothing of daquar.
    """

    val_share: float | None = None


class EasyVqaSource(QuestionSource):
    """Read easy-VQA from its package, or from a folder in the layout of that.

    Args:
        place: Folder of the dataset, or the one that holds its `data`.
        options: See `EasyVqaOptions`.

    Raises:
        DatasetNotFoundError: No questions, or none of their images is there.
        DatasetFormatError: A file cannot be understood.
        SpecError: An option has no such value.
    """

    title = "easy-VQA: 48,000 questions about pictures of one shape, with answers"
    Options = EasyVqaOptions

    def __init__(self, place: Path, options: EasyVqaOptions) -> None:
        folders = (place, place / "data")
        root = next((top for top in folders if is_regular(top / "train" / _QUESTIONS)), None)
        if root is None:
            get_it = "Install its package by `pip install easy-vqa`, and name no place."
            looked_for = [f"train/{_QUESTIONS}", f"data/train/{_QUESTIONS}"]
            raise missing_dataset("easy-vqa", place, looked_for, get_it)
        files = {split: root / split / _QUESTIONS for split in _SPLITS}
        files = {split: file for split, file in files.items() if is_regular(file)}
        ledger = ItemLedger("question")
        questions = [question for split, file in files.items() for question in _read(file, split)]
        ledger.note(*_unasked(root, questions))
        path_of = _image_paths(root, questions)
        questions = complete_in_splits(questions, ledger.skip)
        questions, notes = with_validation(questions, options.val_share, usual=_VAL_SHARE)
        ledger.note(*notes)
        super().__init__(
            place,
            questions,
            files["train"],
            path_of.__getitem__,
            vocabulary=answer_list(root / _ANSWERS),
            ledger=ledger,
        )

    @classmethod
    def installed_at(cls) -> Path | None:
        """Return where the files of the package lie, without importing it."""
        spec = importlib.util.find_spec(_PACKAGE)
        folders = () if spec is None else spec.submodule_search_locations or ()
        places = (Path(folder) / "data" for folder in folders)
        return next((place for place in places if is_regular(place / "train" / _QUESTIONS)), None)


def _read(file: Path, split: str) -> Iterator[Question]:
    """Yield the questions of a file: lists of a question, its answer, and a number of an image."""
    value = parse_json(read_published_text(file), file)
    if not isinstance(value, list):
        raise format_error(file, "", "expected a list of [question, answer, image number]")
    for number, row in enumerate(value, start=1):
        place = f"question {number}"
        match row:
            case [str(text), str(answer), int(image)] if is_image_number(image):
                pass
            case _:
                expected = "expected [question, answer, image number]"
                raise format_error(file, place, f"{expected}, found {row!r:.200}")
        answers = [answer.strip()] if answer.strip() else []
        where = f"{split}/{file.name}, {place}"
        yield Question(f"{split}-{image}", text.strip(), answers, where, split)


def _image_paths(root: Path, questions: list[Question]) -> dict[str, str]:
    places = PicturePlaces(root / "train" / _QUESTIONS, root, None)
    path_of = {}
    for image, place in {question.image: question.place for question in questions}.items():
        split, _, number = image.partition("-")
        path_of[image] = str(places.path_of(f"{split}/images/{number}.png", place))
    places.check()
    return path_of


def _unasked(root: Path, questions: list[Question]) -> list[str]:
    """Return a note of the images that no question is about."""
    asked = {question.image for question in questions}
    unasked = [
        f"{split}/images/{name}"
        for split in _SPLITS
        for name in paths_below(root / split / "images", LeftOut(root))
        if f"{split}-{Path(name).stem}" not in asked
    ]
    if not unasked:
        return []
    images = counted(len(unasked), "image")
    return [f"{images} without a question left out, such as {unasked[0]}"]
