"""The nouns that all floors share. NumPy only: nothing here imports torch.

Axis names: `n` rows (items), `total` tokens of all rows together, `width` features of one token.
"""

import errno
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Int64, Shaped

from .errors import MissingFileError, SpecError, UnreadableItemError
from .item_ids import storable_id
from .regular_files import MAX_PICTURE_BYTES, NOT_THERE, read_regular, size_of

# what opening says where a path leads to no file that we may read
_NO_FILE = {*NOT_THERE, errno.EISDIR, errno.EACCES, errno.EPERM}
_NO_PICTURE = {errno.EFBIG, errno.EAGAIN}  # too large, or never at its end

FIRST, SECOND = "first_", "second_"  # before a modality, of both sides of one modality
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Side(str):
    """One of the two sides that an adapter aligns, by its name; equal ones are one object.

    A side that is alone with its modality is called after it. Two sides of one modality, such as
    two text encoders, are called `first_text` and `second_text`; see `twins`.

    Attributes:
        modality: What the items of the side are.
    """

    modality: "Modality"
    _made: ClassVar[dict[tuple[type, str], Any]] = {}

    def __new__(cls, name: str, modality: "Modality") -> "Side":
        """Return the side called `name`, of items of a modality."""
        side: Side = cls._intern(name, modality)
        return side

    @classmethod
    def _intern(cls, name: str, modality: "Modality | None") -> Any:
        # also what is copied or unpickled is that object, as sides are compared by `is`
        key = (cls, str(name))
        if key not in cls._made:
            side = super().__new__(cls, name)
            side.modality = side if modality is None else modality  # type: ignore[assignment]
            cls._made[key] = side
        return cls._made[key]

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.modality

    @property
    def value(self) -> str:
        """Return the name as files and reports hold it."""
        return str(self)

    @property
    def label(self) -> str:
        """Return the name in words."""
        return self.value.replace("_", " ")


class Modality(Side):
    """Name of what an item is and what an encoder reads: one of `featcache/modalities`.

    It is the side that is alone with it, too.
    """

    IMAGE: ClassVar["Modality"]
    TEXT: ClassVar["Modality"]

    def __new__(cls, name: str) -> "Modality":
        """Return the modality called `name`."""
        modality: Modality = cls._intern(name, None)
        return modality

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (str(self),)


Modality.IMAGE, Modality.TEXT = Modality("image"), Modality("text")

Sides: TypeAlias = tuple[Side, Side]


def side_called(name: str) -> Side:
    """Return the side of this name: of the modality that it names, alone or beside a twin."""
    for place in (FIRST, SECOND):
        if name.startswith(place) and name != place:
            return Side(name, Modality(name.removeprefix(place)))
    return Modality(name)


def twins(modality: Modality) -> Sides:
    """Return both sides of two encoders of one modality, such as `first_text`, `second_text`."""
    return side_called(f"{FIRST}{modality}"), side_called(f"{SECOND}{modality}")


def sides_of(names: Collection[str]) -> Sides:
    """Return the two sides called by `names`, in whatever order, in the order that counts.

    It decides which weights equal seeds give: texts come after all else, and what is no text goes
    by its name, so that images come before texts and audio before images.

    Raises:
        SpecError: They are not the names of two sides.
    """
    if all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        called = {side_called(name) for name in names}
        sides = tuple(sorted(called, key=lambda side: (side.modality is Modality.TEXT, side)))
        if len(sides) == 2 and all(_NAME.fullmatch(side.modality) for side in sides):
            are_alone = all(isinstance(side, Modality) for side in sides)
            if are_alone or sides == twins(sides[0].modality):
                return sides
    raise SpecError(
        "an adapter aligns two sides, such as image and text or first_text and second_text, "
        f"found {sorted(map(str, names))}"
    )


def in_words(sides: Sides) -> str:
    """Return what an adapter between two sides aligns: `two text encoders`, `images and texts`."""
    first, second = sides
    if first.modality is second.modality:
        return f"two {first.modality} encoders"
    return f"{first.label}s and {second.label}s"


IMAGE_TEXT: tuple[Modality, Modality] = (Modality.IMAGE, Modality.TEXT)
TEXT_TEXT: Sides = twins(Modality.TEXT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Describe one thing to encode; exactly one of `path`, `data` and `text` is set.

    Attributes:
        id: Stable name, unique within its source, split and modality.
        path: File with an encoded item, such as an image.
        data: The same as bytes, for sources that keep no files.
        text: The text itself.
    """

    id: str
    path: Path | None = None
    data: bytes | None = None
    text: str | None = None

    def read_bytes(self) -> bytes:
        """Return the encoded image.

        Raises:
            MissingFileError: The file is missing, not readable, or no regular file.
            UnreadableItemError: The item holds no image, or more than `MAX_PICTURE_BYTES`.
        """
        if self.data is not None:
            return self.data
        if self.path is None:
            raise UnreadableItemError(f"{self.id}: holds no image")
        try:
            return read_regular(self.path, limit=MAX_PICTURE_BYTES)
        except OSError as error:
            # other errors of the system, such as too many open files, say nothing of this item
            if error.errno not in _NO_FILE | _NO_PICTURE:
                raise
            # no folder in the message: manifests are the same wherever the dataset stands
            name, reason = storable_id(self.path.name), error.strerror or type(error).__name__
            problem = f"{self.id}: cannot read {name:.80}: {reason}"
            if error.errno in _NO_PICTURE:
                raise UnreadableItemError(problem) from error
            raise MissingFileError(problem) from error

    def missing(self) -> str | None:
        """Return why there is nothing to read, or None; the content is not looked at."""
        if self.path is None or (size_of(self.path) >= 0 and os.access(self.path, os.R_OK)):
            return None
        return f"no file that can be read at {self.path}"


@dataclass(frozen=True)
class Classes:
    """Class of each image of a split.

    Attributes:
        names: Name of each class, as the dataset writes it.
        of_image: Class of each image, an index into `names`, by image id.
    """

    names: tuple[str, ...]
    of_image: Mapping[str, int]


@dataclass(frozen=True)
class Grades:
    """Human judgements of how alike pairs of texts are.

    Attributes:
        links: (first text id, second text id, grade) of every pair.
        lowest: Grade of two texts that mean nothing alike.
        highest: Grade of two texts that mean the same.
        binary: Whether there is no grade but those two.
    """

    links: tuple[tuple[str, str, float], ...]
    lowest: float
    highest: float
    binary: bool


# What may be stored beside the features: one line a token, or one a row.
PER_TOKEN = ("scales", "token_ids", "special_tokens", "character_spans", "masked_ids")
PER_ROW = ("geometry", "item", "variant", "box")

Values: TypeAlias = Shaped[np.ndarray, "total width"]
Offsets: TypeAlias = Int64[np.ndarray, " n_plus_1"]


@dataclass(frozen=True)
class Features:
    """Features of n rows: pooled vectors, patch grids and ragged text alike.

    Row i is `values[offsets[i]:offsets[i + 1]]`, one line a token; a pooled vector is one token.

    Attributes:
        values: Features of all tokens, in the dtype of the store.
        offsets: First token of each row, and the total last.
        ids: Item id of each row.
        companions: Arrays that belong to the features, by name; those of `PER_TOKEN` have one line
            a token, those of `PER_ROW` one a row.
    """

    values: Values
    offsets: Offsets
    ids: tuple[str, ...]
    companions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.offsets) == len(self.ids) + 1
        assert int(self.offsets[0]) == 0
        assert int(self.offsets[-1]) == len(self.values)
        for name, array in self.companions.items():
            assert len(array) == (len(self.values) if name in PER_TOKEN else len(self.ids)), name

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """Return the number of features of one token."""
        return int(self.values.shape[1])

    @property
    def lengths(self) -> Int64[np.ndarray, " n"]:
        """Return the number of tokens of each row."""
        return np.diff(self.offsets)

    def take(self, rows: Int64[np.ndarray, " m"]) -> "Features":
        """Return some of the rows, in the given order, as a copy."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = ragged_arange(self.offsets[rows], lengths)
        companions = {
            name: array[tokens if name in PER_TOKEN else rows]
            for name, array in self.companions.items()
        }
        ids = tuple(self.ids[row] for row in rows)
        return Features(self.values[tokens], offsets, ids, companions)

    def row(self, index: int) -> Shaped[np.ndarray, "tokens width"]:
        """Return the tokens of one row, without a copy."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]


def ragged_arange(
    starts: Int64[np.ndarray, " n"], lengths: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " total"]:
    """Return starts[0], starts[0] + 1, ... for lengths[0] numbers, then the same of the next."""
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    positions: np.ndarray = np.repeat(starts, lengths) + within
    return positions
