"""The contract of a dataset: its splits, their items, and which of these belong together."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, overload

from ..answers import Answers
from ..config import canonical_json, fingerprint
from ..errors import DatasetFormatError, DatasetNotFoundError, UnknownColumnError
from ..links import Links
from ..modalities import reader_of
from ..regions import ARRAYS, Regions
from ..registry import unknown_name
from ..types import IMAGE_TEXT, Item, Modality
from .splits import in_order

Made = TypeVar("Made")

_LONGEST_PROBLEM = 400  # letters of a message; it is one line


@dataclass(frozen=True)
class SkippedRow:
    """Row of a table that cannot be read.

    Attributes:
        place: Where it stands, such as `line 7`.
        reason: Why it cannot be read.
    """

    place: str
    reason: str


@dataclass(frozen=True)
class Doubt:
    """Reason why a column, or a dataset, may hold something else than was read.

    Attributes:
        column: The column, or None where it is not one.
        reason: What the texts in it look like.
        stands: Whether what was read is the likelier; if not, another family should read the table.
        is_open: Whether only people can tell, who are to be asked then.
    """

    column: str | None
    reason: str
    stands: bool
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """Account of how the files of a dataset were read.

    Attributes:
        notes: What a user should know, one line each.
        skipped_rows: Rows of its table that cannot be read, in file order.
        tables: Tables that were read, or left out with a note.
        doubt: Why another family might or should read this if nobody names one.
        read_before: Function from the place to the same files as they once were read, where that
            was otherwise.
    """

    notes: tuple[str, ...] = ()
    skipped_rows: tuple[SkippedRow, ...] = ()
    tables: tuple[Path, ...] = ()
    doubt: Doubt | None = None
    read_before: "Callable[[Path], Source] | None" = None


class ImageReader:
    """Reader of images that are files; a place is the path of one.

    Subclasses read images that stand in a table or an archive. Places of files are texts: of a
    million images they take half the memory of paths.
    """

    def item(self, image_id: str, place: Any) -> Item:
        """Return an image."""
        return Item(id=image_id, path=Path(place))

    def digest(self, places: Sequence[Any]) -> str | None:
        """Return a hash of the content of images, or None where file sizes stand for it."""
        return None


class Split(ABC):
    """Items of one split, and which of them belong together.

    Attributes:
        modalities: What its items may be, in the order of the fingerprint.
    """

    modalities: ClassVar[tuple[Modality, ...]]

    @abstractmethod
    def ids(self, modality: Modality) -> Sequence[str]:
        """Return the ids of the items of one of its modalities, in a stable order."""

    def count(self, modality: Modality) -> int:
        """Return the number of items of one of its modalities."""
        return len(self.ids(modality))

    @abstractmethod
    def item(self, modality: Modality, position: int) -> Item:
        """Return the item at a position in `ids`."""

    @abstractmethod
    def pairs(self) -> Links:
        """Return which items belong together, such as images and texts, and their labels."""

    def content(self) -> str | None:
        """Return a hash of the images, or None where their file sizes stand for them."""
        return None


@dataclass(frozen=True)
class NoOptions:
    """Options of a family that has none."""


class Source:
    """Dataset of one family, opened at its place.

    A family is a subclass whose constructor takes the place and then its `Options`, a frozen
    dataclass; it checks that its files are there and raises `DatasetNotFoundError` with what it
    looked for.

    Args:
        root: Place of the dataset.
        splits: Its splits by name.
        report: How it was read.

    Attributes:
        title: One line for `lightalign list datasets`.
        needs_files: False for a family that draws its items itself and ignores its place.
        labels: Those of `Links.labels` that its splits may have and that a preview counts.
        Options: Dataclass of its options; without any, the place is all that it takes.
    """

    title: ClassVar[str]
    needs_files: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type] = NoOptions

    def __init__(
        self, root: Path, splits: Mapping[str, Split], report: ReadReport | None = None
    ) -> None:
        self.root = root
        self._splits = splits
        self._report = report or ReadReport()

    @classmethod
    def installed_at(cls) -> Path | None:
        """Return where an installed package has the files of the family, or None."""
        return None

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits: train, val, test, then others."""
        return in_order(self._splits)

    def modalities(self, split: str) -> tuple[Modality, ...]:
        """Return what the items of one split may be.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        return self._split(split).modalities

    def items(self, split: str, modality: Modality) -> Sequence[Item]:
        """Return the items of one split in a stable order; each is made when it is asked for.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        items = self._split(split)
        count = items.count(modality) if modality in items.modalities else 0
        return LazySequence(count, partial(items.item, modality))

    def ids(self, split: str, modality: Modality) -> Sequence[str]:
        """Return the ids of `items`, without what it may cost to make these."""
        items = self._split(split)
        return items.ids(modality) if modality in items.modalities else ()

    def pairs(self, split: str) -> Links:
        """Return which items of one split belong together, such as images and texts.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        return self._split(split).pairs()

    def fingerprint(self, split: str) -> str:
        """Return a hash of all that decides the items and pairs of one split.

        Two folders with the same ids, texts, pairs and image file sizes have the same fingerprint
        wherever they stand. Of images that are no files, it is of their content.
        """
        # hashed apart: stores made before images could stand in tables keep their keys
        items, content = fingerprint_items(self, split), self._split(split).content()
        return items if content is None else fingerprint({"items": items, "content": content})

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about how this copy was read, one line each."""
        return self._report.notes

    def doubt(self) -> Doubt | None:
        """Return why another family might or should read this if nobody names one, or None."""
        return self._report.doubt

    @property
    def was_read_otherwise(self) -> bool:
        """Return whether `as_read_before` may return anything, without what it costs."""
        return self._report.read_before is not None

    def as_read_before(self) -> "Source | None":
        """Return the same files as they were read once, or None where that was not otherwise.

        What a home remembers so goes on being read so.
        """
        if self._report.read_before is None:
            return None
        try:
            return self._report.read_before(self.root)
        except (DatasetFormatError, DatasetNotFoundError):  # nobody can remember it so
            return None

    def table_files(self) -> tuple[Path, ...]:
        """Return the tables that were read, or left out with a note, where it knows them."""
        return self._report.tables

    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Return the rows of its table that cannot be read and hold no item, in file order."""
        return self._report.skipped_rows

    def _split(self, split: str) -> Split:
        if split not in self._splits:
            raise unknown_name("split", split, self.splits())
        return self._splits[split]


class LazySequence(Sequence[Made], Generic[Made]):
    """Values, such as items, that are made anew each time they are asked for.

    A list of a million captions would take half a gigabyte, and pictures far more.

    Args:
        count: Number of values.
        make: Makes the value at a position, from 0.
    """

    def __init__(self, count: int, make: Callable[[int], Made]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Made: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Made]: ...

    def __getitem__(self, index: int | slice) -> Made | Sequence[Made]:
        if isinstance(index, slice):
            return [self._make(position) for position in range(self._count)[index]]
        # a range raises IndexError, and counts negatives from the end
        return self._make(range(self._count)[index])


def fingerprint_items(source: Source, split: str) -> str:
    """Hash what stands for each item, and the pairs of one split with its labels."""
    digest = hashlib.sha256()
    for modality in source.modalities(split):
        reader = reader_of(modality)
        for item in source.items(split, modality):
            digest.update(json.dumps(reader.fingerprinted(item)).encode())
    # piece by piece: the whole of a large split would be many times its captions
    digest.update(b"[")
    pairs = source.pairs(split)
    for number, link in enumerate(_linked(pairs)):
        digest.update(f"{', ' if number else ''}{json.dumps(link)}".encode())
    digest.update(b"]")
    for labels in (pairs.classes, pairs.grades):
        if labels is not None:
            digest.update(canonical_json(vars(labels)).encode())
    for piece in () if pairs.answers is None else _bytes_of(pairs.answers):
        digest.update(piece)
    for piece in () if pairs.regions is None else _bytes_of_regions(pairs.regions):
        digest.update(piece)
    return digest.hexdigest()


def _bytes_of(answers: Answers) -> Iterator[bytes]:
    """Yield all answers as bytes that are the same on every machine; as JSON they are too large."""
    yield answers.ends.astype("<i8").tobytes()
    for name, strings in answers.strings():
        yield name.encode()
        yield strings.ends.astype("<i8").tobytes()
        yield strings.content.tobytes()


def _bytes_of_regions(regions: Regions) -> Iterator[bytes]:
    """Yield all boxes, classes and mentions as bytes that are the same on every machine."""
    for name in ARRAYS:
        array = getattr(regions, name)
        yield name.encode()
        yield array.astype("<f4" if name == "boxes" else "<i8").tobytes()
    yield regions.class_names.ends.astype("<i8").tobytes()
    yield regions.class_names.content.tobytes()


def _linked(pairs: Links) -> Iterator[tuple[str, str]]:
    """Yield the ids of all pairs, after the names of sides other than images and texts."""
    for sides in pairs.pairs:
        if sides != IMAGE_TEXT:
            yield sides
        yield from pairs.id_pairs(sides)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun in the right number."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def require_place(place: Path) -> None:
    """Pass if anything lies at a place that is named.

    Raises:
        DatasetNotFoundError: Nothing does.
    """
    if not place.exists():
        raise DatasetNotFoundError(f"there is neither a folder nor a file at {place}")


def missing_dataset(
    name: str, root: Path, looked_for: Sequence[str], get_it: str
) -> DatasetNotFoundError:
    """Build the error for a dataset that is not at `root`.

    Args:
        name: Name of the dataset.
        root: Folder that was searched.
        looked_for: File layouts that would have been understood.
        get_it: Where a user can get the files.
    """
    lacking = f"looked for {' or '.join(looked_for)}"
    return DatasetNotFoundError(
        f"dataset {name!r} not found in {root}: {lacking}",
        f"{get_it} Put it there or name its place: --data {name}=PATH",
        lacking=lacking,
    )


def format_error(path: Path, place: str, problem: str) -> DatasetFormatError:
    """Build the error for `problem` at one place of a file; `place` may be empty.

    A problem that quotes a long cell is shortened in the middle.
    """
    where = f"{path}, {place}" if place else f"{path}"
    return DatasetFormatError(f"{where}: {shortened(problem)}")


def unknown_column(path: Path, problem: str) -> UnknownColumnError:
    """Build the error for a table in which no column of a usual name tells what it holds."""
    return UnknownColumnError(str(format_error(path, "", problem)))


def shortened(problem: str) -> str:
    """Return a problem without the middle of it, where it quotes a long cell."""
    if len(problem) <= _LONGEST_PROBLEM:
        return problem
    half = _LONGEST_PROBLEM // 2
    return f"{problem[:half]} ... {problem[-half:]}"
