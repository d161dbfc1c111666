"""Name datasets, show what they hold, and tell where they lie now."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...featcache import known_datasets
from ...featcache.errors import DatasetNotFoundError, LightalignError, SpecError
from ...featcache.home import command_line, plain_place
from ...featcache.known_datasets import DatasetVersion
from ...featcache.links import ANSWERS, REGIONS
from ...featcache.modalities import reader_of
from ...featcache.regions import NOWHERE, Regions
from ...featcache.sources.base import SkippedRow, Source
from ...featcache.sources.opening import (
    SOURCES,
    define,
    identified,
    is_drawn,
    locate,
    open_version,
    split_fingerprints,
)
from ...featcache.sources.readers.question_source import QuestionSource
from ...featcache.sources.tables.parquet import StoredItem
from ...featcache.types import IMAGE_TEXT, Item, Modality

PREVIEWED = 10  # rows
_EXAMPLES = 3  # of what cannot be read


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """Items of one split.

    Attributes:
        images: Images, readable or not.
        links: Pairs of items that belong together, such as an image and a text.
        classes: Classes, or 0 of a dataset without.
        unreadable: Images, or other files, that are missing or not readable.
        others: Items of other modalities, by what these are called.
    """

    split: str
    images: int
    texts: int
    links: int
    classes: int
    unreadable: int
    others: Mapping[str, int] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Return all counts by name, those of other items by what these are called."""
        return {name: count for name, count in vars(self).items() if name != "others"} | dict(
            self.others
        )


@dataclass(frozen=True, kw_only=True)
class AnswerCounts:
    """Answers to the questions of one split.

    Attributes:
        questions: Questions of the split.
        different: Different answers that are the label of a question, as they are written; 0 of
            a split without answers.
        most_frequent: The answer that is the label of most questions, or None.
        share: Share of the questions whose label it is.
        listed: Answers that the dataset officially has, or None.
    """

    split: str
    questions: int
    different: int = 0
    most_frequent: str | None = None
    share: float = 0.0
    listed: int | None = None


@dataclass(frozen=True, kw_only=True)
class RegionCounts:
    """Boxes in the images of one split.

    Attributes:
        boxes: Boxes of all images.
        images: Images that have a box.
        classes: Different classes of boxes.
        most_frequent: The class of most boxes, or None where none has a class.
        share: Share of the boxes whose class it is.
        mentions: Words of texts that name a box, counted once for each box.
        texts: Texts that name a box.
    """

    split: str
    boxes: int
    images: int
    classes: int
    most_frequent: str | None
    share: float
    mentions: int
    texts: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Preview of a dataset as it will be read.

    Attributes:
        version: What the name stands for.
        rows: The first rows of one split: an image with its texts, its class, or a question and its
            answers, or two texts with their grade.
        notes: How the files were read, and what was left out.
        unreadable: Some images that will be skipped, and why.
        skipped_rows: Rows of its table that cannot be read, and why.
        answers: Answers of each split, of a dataset of questions.
        regions: Boxes of each split, of a dataset that has them.
    """

    version: DatasetVersion
    counts: Sequence[SplitCounts]
    rows: Sequence[Mapping[str, Any]]
    split: str
    notes: Sequence[str]
    unreadable: Sequence[str]
    skipped_rows: Sequence[SkippedRow] = ()
    answers: Sequence[AnswerCounts] = ()
    regions: Sequence[RegionCounts] = ()


def add(
    home: Path,
    name: str,
    place: Path | None,
    *,
    kind: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[DatasetVersion, Source]:
    """Give a dataset a name, and return what it stands for and the opened dataset.

    `place` is None of a family that is drawn, or of a dataset in its usual place; `kind` is the
    family that reads it, or None to find it; `options` are those of the family.

    Raises:
        LightalignError: It cannot be opened, or the home not be written.
    """
    name = _name_of(name)
    if kind is not None:
        SOURCES.load(kind)
    if is_drawn(name) and kind in {None, name}:
        raise SpecError(f"{name!r} is what a family is called that is drawn: name it otherwise")
    data = name if place is None else f"{name}={place}"
    version, opened = locate(data, home=home, options=options, kind=kind, anew=place is not None)
    # a new place begins without the options of the old one, unless it cannot be read without them
    if place is not None and version.options != (options or {}):
        version, opened = _named_anew(version, opened, options or {}, home=home)
    source = opened or open_version(version, home=home)
    version = identified(version, source)
    if not known_datasets.remember(home, version):
        raise SpecError(f"{home / known_datasets.FOLDER} may not be written")
    return version, source


def _named_anew(
    version: DatasetVersion, opened: Source | None, options: Mapping[str, Any], *, home: Path
) -> tuple[DatasetVersion, Source | None]:
    """Return a version without what was said of its name before, unless it needs that."""
    fresh = replace(version, options=options)
    try:
        return fresh, open_version(fresh, home=home)
    except LightalignError:
        if options:
            raise
        return version, opened


def _name_of(name: str) -> str:
    """Return a name as it is remembered; `NAME=PATH` is none."""
    return known_datasets.checked_name(known_datasets.written_name(name))


def move(home: Path, name: str, place: Path) -> DatasetVersion:
    """Have a dataset lie somewhere else; see `known_datasets.move`."""

    def read(version: DatasetVersion) -> Mapping[str, str]:
        try:
            return split_fingerprints(open_version(version, home=home))
        except DatasetNotFoundError as error:
            # the family's own words call the dataset by the family's name
            cause = error.__cause__ if isinstance(error.__cause__, DatasetNotFoundError) else error
            is_there = version.place is not None and version.place.exists()
            reason = cause.lacking if is_there else "there is neither a folder nor a file"
            again = command_line("data", "move", version.name, "PATH", home=home)
            raise DatasetNotFoundError(
                f"dataset {version.name!r} is not at {version.place}: {reason}; say where it is by "
                f"`{again}`"
            ) from error

    return known_datasets.move(home, _name_of(name), plain_place(place), read)


def forget(home: Path, name: str) -> Path:
    """Forget a name; see `known_datasets.forget`."""
    return known_datasets.forget(home, _name_of(name))


def require(home: Path, name: str) -> DatasetVersion:
    """Return what a name stands for.

    Raises:
        DatasetNotFoundError: The home does not remember it, nor is it a family in its usual place.
        StoreCorruptError: What is remembered cannot be read.
    """
    name = _name_of(name)
    version = known_datasets.newest(home, name)
    if version is not None:
        return version
    if name not in SOURCES.names():
        raise known_datasets.unknown_dataset(home, name)
    return define(name, home=home)


def preview(version: DatasetVersion, source: Source, *, split: str | None = None) -> Preview:
    """Read a dataset as an extraction will, without decoding any image.

    The rows are of the first split if none is named.

    Raises:
        LightalignError: It cannot be read, or has no such split.
    """
    splits = source.splits()
    if not splits:
        raise DatasetNotFoundError(f"{version.name} holds nothing")
    shown = split or splits[0]
    unreadable: list[str] = []
    counts = [_counts(source, split_name, unreadable) for split_name in splits]
    return Preview(
        version=version if version.splits else identified(version, source),
        counts=counts,
        rows=_rows(source, shown),
        split=shown,
        notes=(*source.notes(), *_note_unlooked(source)),
        unreadable=unreadable,
        skipped_rows=source.skipped_rows(),
        answers=answer_counts(source),
        regions=region_counts(source),
    )


def answer_counts(source: Source) -> list[AnswerCounts]:
    """Return what is answered in each split of a dataset of questions; nothing of any other."""
    if ANSWERS not in source.labels:
        return []
    splits = source.splits()
    # of a family whose texts are always questions, those that nobody answered count, too
    if not isinstance(source, QuestionSource):
        splits = tuple(split for split in splits if source.pairs(split).answers is not None)
    return [_answer_counts(source, split) for split in splits]


def region_counts(source: Source) -> list[RegionCounts]:
    """Return what boxes there are in each split of a dataset with boxes; nothing of any other."""
    if REGIONS not in source.labels:
        return []
    regions_of = {split: source.pairs(split).regions for split in source.splits()}
    return [
        _region_counts(split, regions)
        for split, regions in regions_of.items()
        if regions is not None
    ]


def _region_counts(split: str, regions: Regions) -> RegionCounts:
    labels = regions.class_of[regions.class_of != NOWHERE]
    times = np.bincount(labels, minlength=len(regions.class_names))
    return RegionCounts(
        split=split,
        boxes=len(regions.boxes),
        images=int((np.diff(regions.ends, prepend=0) > 0).sum()),
        classes=int((times > 0).sum()),
        most_frequent=regions.class_names[int(times.argmax())] if len(labels) else None,
        share=float(times.max() / len(regions.boxes)) if len(labels) else 0.0,
        mentions=len(regions.mentions),
        texts=int((np.diff(regions.mention_ends, prepend=0) > 0).sum()),
    )


def _answer_counts(source: Source, split: str) -> AnswerCounts:
    answers = source.pairs(split).answers
    if answers is None:
        return AnswerCounts(split=split, questions=len(source.items(split, Modality.TEXT)))
    times = Counter(answers.chosen)
    ((answer, count),) = times.most_common(1)
    return AnswerCounts(
        split=split,
        questions=len(answers),
        different=len(times),
        most_frequent=answer,
        share=count / len(answers),
        listed=None if answers.vocabulary is None else len(answers.vocabulary),
    )


def counted_labels(version: DatasetVersion) -> tuple[str, ...]:
    """Return which labels of a dataset a preview counts; none of a family that is unknown."""
    return SOURCES.load(version.kind).labels if version.kind in SOURCES.names() else ()


def _note_unlooked(source: Source) -> Iterator[str]:
    """Yield that rows without a picture are not counted, of tables too large to look through."""
    images = (item for split in source.splits() for item in source.items(split, Modality.IMAGE))
    if any(
        isinstance(item, StoredItem) and not item.pictures.are_looked_through for item in images
    ):
        yield "rows without a picture are not counted: the table is too large to look through"


def _counts(source: Source, split: str, unreadable: list[str]) -> SplitCounts:
    pairs = source.pairs(split)
    in_files = [name for name in source.modalities(split) if reader_of(name).has_files]
    bad = 0
    for item in chain.from_iterable(source.items(split, modality) for modality in in_files):
        reason = item.missing()
        bad += reason is not None
        if reason is not None and len(unreadable) < _EXAMPLES:
            unreadable.append(f"{split}: {item.id}: {reason}")
    return SplitCounts(
        split=split,
        images=len(source.items(split, Modality.IMAGE)),
        texts=len(source.items(split, Modality.TEXT)),
        links=(
            sum(map(len, pairs.pairs.values())) if pairs.grades is None else len(pairs.grades.links)
        ),
        classes=0 if pairs.classes is None else len(pairs.classes.names),
        unreadable=bad,
        others={
            reader_of(modality).plural: len(source.items(split, modality))
            for modality in source.modalities(split)
            if modality not in IMAGE_TEXT
        },
    )


def _rows(source: Source, split: str) -> list[dict[str, Any]]:
    pairs = source.pairs(split)
    if pairs.grades is not None:
        texts = {item.id: item.text for item in source.items(split, Modality.TEXT)}
        return [
            {"first": texts[first], "second": texts[second], "grade": grade}
            for first, second, grade in pairs.grades.links[:PREVIEWED]
        ]
    if isinstance(source, QuestionSource) or pairs.answers is not None:
        return _question_rows(source, split)
    modality = _shown_first(source, split)
    images = list(source.items(split, modality)[:PREVIEWED])
    texts_of: dict[str, list[str]] = {item.id: [] for item in images}
    # only texts of these images are read: a dataset may have millions
    linked = [
        (image, text)
        for image, text in pairs.id_pairs((modality, Modality.TEXT))
        if image in texts_of
    ]
    linked_texts = {text for _, text in linked}
    by_id = {
        item.id: item.text for item in source.items(split, Modality.TEXT) if item.id in linked_texts
    }
    for image, text in linked:
        texts_of[image].append(str(by_id[text]))
    rows = [_row(item, modality, texts_of[item.id], pairs.classes) for item in images]
    if pairs.regions is not None and modality is Modality.IMAGE:
        rows = [{**row, "boxes": _boxes_of(pairs.regions, place)} for place, row in enumerate(rows)]
    return rows


def _boxes_of(regions: Regions, place: int) -> str:
    """Return the boxes of an image, each with its class before it, such as `dog 10 20 50 70`."""
    rows = range(len(regions.boxes))[regions.of_image(place)]
    cells = []
    for row in rows:
        label = int(regions.class_of[row])
        name = [] if label == NOWHERE else [regions.class_names[label]]
        cells.append(" ".join([*name, *(f"{at:g}" for at in regions.boxes[row].tolist())]))
    return " | ".join(cells)


def _question_rows(source: Source, split: str) -> list[dict[str, Any]]:
    pairs = source.pairs(split)
    questions = source.items(split, Modality.TEXT)[:PREVIEWED]
    image_of = pairs.places(IMAGE_TEXT)[:PREVIEWED, 0].tolist()
    rows = []
    for place, (question, image_place) in enumerate(zip(questions, image_of, strict=True)):
        image = source.items(split, Modality.IMAGE)[image_place]
        row = {"image": image.id, "question": question.text or ""}
        if pairs.answers is not None:
            row["answers"] = " | ".join(pairs.answers.of_question(place))
        rows.append({**row, "file": _file_of(image)})
    return rows


def _shown_first(source: Source, split: str) -> Modality:
    """Return the modality whose items are shown with their texts: images, else what is no text."""
    modalities = source.modalities(split)
    if Modality.IMAGE in modalities:
        return Modality.IMAGE
    return next((name for name in modalities if name is not Modality.TEXT), Modality.IMAGE)


def _row(item: Item, modality: Modality, texts: Sequence[str], classes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {modality.value: item.id}
    if classes is not None and modality is Modality.IMAGE:
        row["class"] = classes.names[classes.of_image[item.id]]
    if texts:
        row["texts"] = " | ".join(texts)
    row["file"] = _file_of(item)
    return row


def _file_of(item: Item) -> str:
    return "drawn, or in the table" if item.path is None else str(item.path)
