"""VQA v2: 1.1 million questions about 204,721 photos of COCO, ten answers to each.

Source: Goyal et al., Making the V in VQA Matter: Elevating the Role of Image Understanding in
Visual Question Answering, CVPR 2017; https://visualqa.org/download.html.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...regular_files import is_regular
from ...string_array import GrowingStrings, Strings
from ..base import counted, format_error, missing_dataset
from ..readers.item_ledger import ItemLedger
from ..readers.question_source import (
    Question,
    QuestionSource,
    complete,
    is_image_number,
)
from ..tables.json_lists import objects_in
from ..tables.picture_places import PicturePlaces

_FOLDERS = ("", "questions", "annotations", "Questions", "Annotations")  # of the files of text
_IMAGE_FOLDERS = ("", "images", "Images", "coco", "coco/images")


class _Files(NamedTuple):
    """Names of what one split consists of.

    Attributes:
        images: Name of the images, such as `train2014`.
        questions: File of the questions.
        annotations: File of the answers, which are secret of some splits.
        archives: Folders into which programs unpack the archives of both.
    """

    images: str
    questions: str
    annotations: str | None
    archives: tuple[str, ...]


_SPLITS = {
    split: _Files(
        f"{split}2014",
        f"v2_OpenEnded_mscoco_{split}2014_questions.json",
        f"v2_mscoco_{split}2014_annotations.json",
        (f"v2_Questions_{split.title()}_mscoco", f"v2_Annotations_{split.title()}_mscoco"),
    )
    for split in ("train", "val")
} | {
    split: _Files(
        "test2015",
        f"v2_OpenEnded_mscoco_{name}_questions.json",
        None,
        ("v2_Questions_Test_mscoco",),
    )
    for split, name in (("test", "test2015"), ("test-dev", "test-dev2015"))
}


@dataclass(frozen=True, kw_only=True)
class VqaV2Options:
    """Options of VQA v2.

    Attributes:
        root: Absolute path of a folder below which images may lie, too, such as `/`.
    """

    root: str | None = None


class _Annotations:
    """Answers of a split, by the number of the question."""

    def __init__(self, file: Path) -> None:
        self._row_of: dict[int, int] = {}
        self._given, self._ends = GrowingStrings(), array("q")
        self._labels = GrowingStrings(), GrowingStrings(), GrowingStrings()
        for place, value in objects_in(file, "annotations", "annotation"):
            question, answers, labels = _annotation(file, place, value)
            if question in self._row_of:
                raise format_error(file, place, f"question {question} is answered twice")
            self._row_of[question] = len(self._ends)
            self._given.extend(answers)
            self._ends.append(len(self._given))
            for strings, label in zip(self._labels, labels, strict=True):
                strings.append(label)
        self._strings: Strings = self._given.strings()
        self._label_strings = [strings.strings() for strings in self._labels]

    def __len__(self) -> int:
        return len(self._row_of)

    def answered(self, question: Question, number: int) -> Question:
        """Return a question with its answers, if it has any."""
        row = self._row_of.get(number)
        if row is None:
            return question
        chosen, question_type, answer_type = (strings.at(row) for strings in self._label_strings)
        return question._replace(
            answers=self._strings[self._ends[row - 1] if row else 0 : self._ends[row]],
            chosen=chosen,
            question_type=question_type,
            answer_type=answer_type,
        )


def _annotation(
    file: Path, place: str, value: dict[str, Any]
) -> tuple[int, list[str], tuple[str, str, str]]:
    """Return the number of a question, all answers to it, and its label with both types."""
    match value:
        case {
            "question_id": int(question),
            "answers": [_, *_] as answers,
            "multiple_choice_answer": str(chosen),
            "question_type": str(question_type),
            "answer_type": str(answer_type),
        } if is_image_number(question):
            texts = [
                text
                for answer in answers
                if isinstance(answer, dict) and isinstance(text := answer.get("answer"), str)
            ]
            if len(texts) == len(answers):
                return question, texts, (chosen, question_type, answer_type)
    keys = "question_id, answers, multiple_choice_answer, question_type and answer_type"
    raise format_error(file, place, f"expected the keys {keys}, found {value!r}")


class VqaV2Source(QuestionSource):
    """Read VQA v2 from its official files, packed in whatever folders they unpack to.

    Splits are `train`, `val`, `test` and `test-dev`, of which those are read whose questions are
    there; the last two have no answers. The id of a question is its official number, that of an
    image the name of its file. The label is `multiple_choice_answer`.

    Args:
        place: Folder of the dataset.
        options: See `VqaV2Options`.

    Raises:
        DatasetNotFoundError: No questions, or none of their images is there.
        DatasetFormatError: A file cannot be understood.
        SpecError: `root` is no absolute path of a folder.
    """

    title = "VQA v2: 1.1 million questions about photos of COCO, ten answers each"
    Options = VqaV2Options

    def __init__(self, place: Path, options: VqaV2Options) -> None:
        files = {split: _find(place, names, names.questions) for split, names in _SPLITS.items()}
        present = {split: file for split, file in files.items() if file is not None}
        if not present:
            looked_for = [names.questions for names in _SPLITS.values()]
            get_it = "Get it from https://visualqa.org/download.html."
            raise missing_dataset("vqav2", place, looked_for, get_it)
        first = next(iter(present.values()))
        images = _Images(place, options.root, first)
        ledger = ItemLedger("question")
        questions = (
            question
            for split, file in present.items()
            for question in _questions(place, split, file, ledger)
        )
        super().__init__(place, questions, first, images.place_of, ledger=ledger)
        images.check()


class _Images:
    """Images by their ids, in the folders of their splits."""

    def __init__(self, place: Path, root: str | None, file: Path) -> None:
        self._tops = [place, *([] if root is None else [Path(root)])]
        self._root = root
        self._file = file
        self._places: dict[str, PicturePlaces] = {}  # by the folder's name

    def place_of(self, image: str) -> str:
        """Return the file of an image."""
        name = image.split("_")[1]
        if name not in self._places:
            folders = [top / folder for top in self._tops for folder in _IMAGE_FOLDERS]
            candidates = [*(folder / name for folder in folders), *folders]
            folder = next(
                (place for place in candidates if _holds_images(place, name)), candidates[0]
            )
            self._places[name] = PicturePlaces(self._file, folder, self._root)
        return str(self._places[name].path_of(image, ""))

    def check(self) -> None:
        """Pass if no image lies elsewhere.

        Raises:
            DatasetFormatError: A link leads out of a folder.
        """
        for places in self._places.values():
            places.check()


def _holds_images(folder: Path, name: str) -> bool:
    """Return whether a folder has any image that is called as those of a split are."""
    return folder.is_dir() and next(folder.glob(f"COCO_{name}_*.jpg"), None) is not None


def _find(place: Path, names: _Files, name: str) -> Path | None:
    folders = (*_FOLDERS, *names.archives)
    return next((file for folder in folders if is_regular(file := place / folder / name)), None)


def _questions(place: Path, split: str, file: Path, ledger: ItemLedger) -> Iterator[Question]:
    """Yield the questions of a split with their answers, and note what does not fit."""
    names = _SPLITS[split]
    answers = None if names.annotations is None else _find(place, names, names.annotations)
    if answers is None:
        why = "secret" if names.annotations is None else f"{names.annotations} is not there"
        ledger.note(f"{split} has no answers: {why}")
    annotations = None if answers is None else _Annotations(answers)
    num_answered = 0
    for question in complete(
        _read(file, split, names.images, annotations),
        ledger.skip_in(file),
        are_answered=annotations is not None,
    ):
        num_answered += bool(question.answers)
        yield question
    if annotations is not None and num_answered < len(annotations):
        lost = counted(len(annotations) - num_answered, "annotation")
        ledger.note(f"{lost} of {split} left out: {file.name} has no such question")


def _read(
    file: Path, split: str, images: str, annotations: _Annotations | None
) -> Iterator[Question]:
    for place, value in objects_in(file, "questions", "question"):
        match value:
            case {"image_id": int(image), "question": str(text), "question_id": int(number)} if (
                is_image_number(image) and is_image_number(number)
            ):
                pass
            case _:
                keys = "image_id, question and question_id"
                raise format_error(file, place, f"expected the keys {keys}, found {value!r}")
        name = f"COCO_{images}_{image:012}.jpg"
        question = Question(name, text.strip(), (), place, split, text_id=str(number))
        yield question if annotations is None else annotations.answered(question, number)
