"""Give questions about images their splits, and serve both as a `Source`."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...answers import Answers
from ...errors import DatasetFormatError, SourceOptionError
from ...links import ANSWERS, Links, compact
from ...regular_files import is_regular
from ...string_array import GrowingStrings, Strings
from ...types import IMAGE_TEXT, Item, Modality
from ..base import (
    ImageReader,
    ReadReport,
    Source,
    Split,
    counted,
    format_error,
)
from ..splits import sha256_of
from ..tables.text_files import read_lines
from .images import require_images
from .item_ledger import ItemLedger, Skip

_MOST_SHARE = 0.5
_MOST_NUMBER = 10**12 - 1  # COCO writes numbers of images with twelve digits


class Question(NamedTuple):
    """Question about an image.

    Attributes:
        image: Id of the image.
        text: The question.
        answers: All answers to it; none where the dataset keeps them secret.
        place: Where it stands, such as `line 7`.
        split: Its split.
        chosen: The answer that is its label, or None for the first.
        question_type: Type of the question, or None.
        answer_type: Type of the answer, or None.
        text_id: Its id, or None for the id of the image and its number there.
    """

    image: str
    text: str
    answers: Sequence[str]
    place: str
    split: str
    chosen: str | None = None
    question_type: str | None = None
    answer_type: str | None = None
    text_id: str | None = None


def complete(
    questions: Iterable[Question], skip: Skip, *, are_answered: bool
) -> Iterator[Question]:
    """Yield the questions that say something, and in a split with answers those that have one.

    Args:
        questions: Questions of one split.
        skip: Takes the place of each other one, and why.
        are_answered: Whether the split has answers.
    """
    for question in questions:
        if not question.text:
            skip(question.place, "the question is empty")
        elif are_answered and not question.answers:
            skip(question.place, "the question has no answer")
        else:
            yield question


def complete_in_splits(questions: Sequence[Question], skip: Skip) -> list[Question]:
    """Return `complete` of all splits, of which those have answers where any question has one."""
    answered = {question.split for question in questions if question.answers}
    return [
        kept
        for question in questions
        for kept in complete([question], skip, are_answered=question.split in answered)
    ]


def with_validation(
    questions: Sequence[Question], share: float | None, *, usual: float
) -> tuple[list[Question], tuple[str, ...]]:
    """Return questions of which those of a share of the training images are `val`, and a note.

    The images come in the order of the SHA-256 of their ids. Splits that have a `val` stay.

    Args:
        questions: Questions of all splits.
        share: The share, or None for the usual one.
        usual: Share that the dataset has where nobody asks for another.

    Raises:
        SourceOptionError: The share is not from 0 to a half.
    """
    share = usual if share is None else share
    if not 0 <= share <= _MOST_SHARE:
        problem = f"must be from 0 to {_MOST_SHARE}, found {share}"
        raise SourceOptionError(f"source.val_share {problem}")
    images = {question.image for question in questions if question.split == "train"}
    count = round(share * len(images))
    if not count or any(question.split == "val" for question in questions):
        return list(questions), ()
    held_out = set(sorted(images, key=sha256_of)[:count])
    moved = [
        question._replace(split="val")
        if question.split == "train" and question.image in held_out
        else question
        for question in questions
    ]
    note = f"val is {counted(count, 'training image')} chosen by the SHA-256 of their names"
    return moved, (note,)


class QuestionSplit(Split):
    """Images of one split with the questions about them, of which all are answered or none.

    Args:
        reader: Reader of the images.
        place_of: Function from the id of an image to its file, or its place in the table; it is
            called once for each.
        vocabulary: All answers that the dataset officially has, or None.
    """

    modalities = IMAGE_TEXT

    def __init__(
        self,
        reader: ImageReader,
        place_of: Callable[[str], Any],
        vocabulary: Strings | None = None,
    ) -> None:
        self._reader = reader
        self._find = place_of
        self._vocabulary = vocabulary
        self._place_of: dict[str, Any] = {}  # by image id
        self._number_of: dict[str, int] = {}
        self._image_of_text = array("q")
        self._text_ids, self._texts = GrowingStrings(), GrowingStrings()
        self._given, self._ends, self._chosen = GrowingStrings(), array("q"), GrowingStrings()
        self._question_types, self._answer_types = GrowingStrings(), GrowingStrings()
        self._is_typed = [False, False]

    def add(self, question: Question, text_id: str) -> None:
        """Append a question, and its image where it is the first about that."""
        if question.image not in self._number_of:
            self._number_of[question.image] = len(self._number_of)
            self._place_of[question.image] = self._find(question.image)
        self._image_of_text.append(self._number_of[question.image])
        self._text_ids.append(text_id)
        self._texts.append(question.text)
        self._given.extend(question.answers)
        self._ends.append(len(self._given))
        if question.answers:
            first = question.answers[0]
            self._chosen.append(first if question.chosen is None else question.chosen)
        self._question_types.append(question.question_type or "")
        self._answer_types.append(question.answer_type or "")
        self._is_typed[0] |= question.question_type is not None
        self._is_typed[1] |= question.answer_type is not None

    @property
    def image_places(self) -> list[Any]:
        """Return where the images lie."""
        return list(self._place_of.values())

    def ids(self, modality: Modality) -> Sequence[str]:
        """Return the ids of images, or of questions."""
        return list(self._place_of) if modality is Modality.IMAGE else self._text_id_strings

    def count(self, modality: Modality) -> int:
        """Return the number of images, or of questions."""
        return len(self._place_of if modality is Modality.IMAGE else self._text_ids)

    def item(self, modality: Modality, position: int) -> Item:
        """Return an image, or a question."""
        if modality is Modality.IMAGE:
            image_id, place = self._images[position]
            return self._reader.item(image_id, place)
        return Item(id=self._text_id_strings.at(position), text=self._text_strings.at(position))

    def pairs(self) -> Links:
        """Return which question is of which image, and the answers."""
        images = np.array(self._image_of_text, dtype=np.int64)
        places = np.stack([images, np.arange(len(images))], axis=1)
        ids = {Modality.IMAGE: Strings.of(self._place_of), Modality.TEXT: self._text_id_strings}
        answers = self._answers
        labels = {} if answers is None else {ANSWERS: answers}
        return Links(ids, {IMAGE_TEXT: compact(places)}, labels)

    def content(self) -> str | None:
        """Return a hash of the images, or None where their file sizes stand for them."""
        return self._reader.digest(self.image_places)

    @cached_property
    def _images(self) -> list[tuple[str, Any]]:
        return list(self._place_of.items())

    @cached_property
    def _text_id_strings(self) -> Strings:
        return self._text_ids.strings()

    @cached_property
    def _text_strings(self) -> Strings:
        return self._texts.strings()

    @cached_property
    def _answers(self) -> Answers | None:
        if not len(self._given):
            return None
        return Answers(
            given=self._given.strings(),
            ends=np.array(self._ends, dtype=np.int64),
            chosen=self._chosen.strings(),
            question_types=self._question_types.strings() if self._is_typed[0] else None,
            answer_types=self._answer_types.strings() if self._is_typed[1] else None,
            vocabulary=self._vocabulary,
        )


class QuestionSource(Source):
    """Images with questions about them; the subclasses say where they come from.

    The id of a question is its own where the dataset has one, else that of its image and its number
    there, in the order of the files and the same in every split: `<image id>#<n>`.

    Args:
        root: Place of the dataset.
        questions: Complete questions of all splits; see `complete`.
        file: The file that holds them; used in messages.
        place_of: Function from the id of an image to its file, or its place in the table.
        vocabulary: All answers that the dataset officially has, or None.
        reader: Reader of the images, if some are no files.
        ledger: What becomes known while `questions` are read.
        report: How the files were read.

    Raises:
        DatasetNotFoundError: None of the images is there.
        DatasetFormatError: There are no questions, or two have the same id.
    """

    labels = (ANSWERS,)

    def __init__(
        self,
        root: Path,
        questions: Iterable[Question],
        file: Path,
        place_of: Callable[[str], Any],
        *,
        vocabulary: Sequence[str] | None = None,
        reader: ImageReader | None = None,
        ledger: ItemLedger,
        report: ReadReport | None = None,
    ) -> None:
        words = None if vocabulary is None else Strings.of(vocabulary)
        splits: defaultdict[str, QuestionSplit] = defaultdict(
            lambda: QuestionSplit(reader or ImageReader(), place_of, words)
        )
        num_of_image: Counter[str] = Counter()
        for question in questions:
            number = num_of_image[question.image]
            num_of_image[question.image] += 1
            text_id = question.text_id or f"{question.image}#{number}"
            splits[question.split].add(question, text_id)
        if not splits:
            raise DatasetFormatError(f"{file}: holds no questions")
        for split in splits.values():
            require_distinct(split.ids(Modality.TEXT), file)
        places = [place for split in splits.values() for place in split.image_places]
        require_images(
            places,
            listed_in=f" that {file} asks about",
            advice="; put the image files beside the questions",
        )
        super().__init__(root, dict(splits), ledger.report(report or ReadReport()))


def require_distinct(text_ids: Sequence[str], file: Path) -> None:
    """Pass if no two questions have the same id.

    Raises:
        DatasetFormatError: Two have.
    """
    seen: set[str] = set()
    for text_id in text_ids:
        if text_id in seen:
            raise DatasetFormatError(f"{file}: two questions have the id {text_id!r:.80}")
        seen.add(text_id)


def folder_of(names: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """Return the first folder that holds any of some files, or None."""
    holding = (folder for folder in folders if any(is_regular(folder / name) for name in names))
    return next(holding, None)


def answer_list(file: Path) -> list[str] | None:
    """Return the answers of a list, one a line, in its order, or None where it is not there.

    Raises:
        DatasetFormatError: It has an answer twice, or none.
    """
    if not is_regular(file):
        return None
    answers: dict[str, str] = {}
    for place, line in read_lines(file):
        answer = line.strip()
        if answers.setdefault(answer, place) != place:
            raise format_error(file, place, f"{answer!r:.80} is in {answers[answer]}, too")
    if not answers:
        raise format_error(file, "", "holds no answers")
    return list(answers)


def is_image_number(value: object) -> bool:
    """Return whether a value of JSON is the number of an image, or of a question."""
    return type(value) is int and 0 <= value <= _MOST_NUMBER
