"""The contract of a dataset: where items come from and which of them belong together."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..config import canonical_json
from ..errors import DatasetNotFoundError
from ..regular_files import size_of
from ..types import Item, Modality, Pairs


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


class Source(ABC):
    """Read one dataset family from its official layout on disk.

    A subclass takes its place first and its own options keyword-only; it checks in its constructor
    that its files are there and raises `DatasetNotFoundError` with what it looked for.

    Attributes:
        title: One line for `lightalign list datasets`.
        needs_files: False for a source that draws its items itself and ignores `root`.
    """

    title: ClassVar[str]
    needs_files: ClassVar[bool] = True

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits, `train` first where there is one."""

    @abstractmethod
    def items(self, split: str, modality: Modality) -> Sequence[Item]:
        """Return the items of one split in a stable order, without decoding any.

        Raises:
            UnknownNameError: The dataset has no such split.
        """

    @abstractmethod
    def pairs(self, split: str) -> Pairs:
        """Return which images and texts of one split belong together.

        Raises:
            UnknownNameError: The dataset has no such split.
        """

    def ids(self, split: str, modality: Modality) -> Sequence[str]:
        """Return the ids of `items`, without what it may cost to make these."""
        return [item.id for item in self.items(split, modality)]

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about how this copy was read, one line each."""
        return ()

    def doubt(self) -> Doubt | None:
        """Return why another family might or should read this if nobody names one, or None."""
        return None

    @property
    def was_read_otherwise(self) -> bool:
        """Return whether `as_read_before` may return anything, without what it costs."""
        return False

    def as_read_before(self) -> "Source | None":
        """Return the same files as they were read once, or None where that was not otherwise.

        What a home remembers so goes on being read so.
        """
        return None

    def table_files(self) -> tuple[Path, ...]:
        """Return the tables that were read, or left out with a note, where it knows them."""
        return ()

    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Return the rows of its table that cannot be read and hold no item, in file order."""
        return ()

    @abstractmethod
    def fingerprint(self, split: str) -> str:
        """Return a hash of all that decides the items and pairs of one split.

        Two folders with the same ids, texts, pairs and image file sizes have the same fingerprint
        wherever they stand; `fingerprint_items` computes it for sources that read files.
        """


def fingerprint_items(source: Source, split: str) -> str:
    """Hash ids, texts, image sizes in bytes, and pairs of one split with classes and grades.

    The size stands for the content of an image file: reading every file would cost as much as
    decoding it.
    """
    digest = hashlib.sha256()
    for item in source.items(split, Modality.IMAGE):
        digest.update(json.dumps([item.id, readable_size(item)]).encode())
    for item in source.items(split, Modality.TEXT):
        digest.update(json.dumps([item.id, item.text]).encode())
    # piece by piece: the whole of a large split would be many times its captions
    digest.update(b"[")
    pairs = source.pairs(split)
    for number, link in enumerate(pairs.links):
        digest.update(f"{', ' if number else ''}{json.dumps(link)}".encode())
    digest.update(b"]")
    for labels in (pairs.classes, pairs.grades):
        if labels is not None:
            digest.update(canonical_json(vars(labels)).encode())
    return digest.hexdigest()


def readable_size(item: Item) -> int:
    """Return the bytes of the file of `item`, or -1 if it is missing, not readable, or none."""
    if item.path is None:
        return -1
    size = size_of(item.path)
    return size if size >= 0 and os.access(item.path, os.R_OK) else -1


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
    layouts = " or ".join(looked_for)
    return DatasetNotFoundError(
        f"dataset {name!r} not found in {root}: looked for {layouts}. {get_it} "
        f"Put it there or name its place: --data {name}=PATH"
    )
