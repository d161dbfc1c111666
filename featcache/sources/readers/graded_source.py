"""Serve graded pairs of texts, split by split, as a `Source`."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...registry import unknown_name
from ...types import Grades, Item, Modality, Pairs
from ..base import SkippedRow, Source, fingerprint_items
from .caption_source import counted, hashed_splits, in_order
from .lazy_items import LazyItems


class GradedRow(NamedTuple):
    """Pair of texts and people's judgement of how alike they are.

    Attributes:
        first: One text, as written.
        second: The other.
        grade: The judgement.
        number: Number of the pair in its file, from 1.
        split: The split that the file gives, if it gives one.
    """

    first: str
    second: str
    grade: float
    number: int
    split: str | None = None


@dataclass(frozen=True)
class Scale:
    """Range of the grades of a dataset, or its only two grades.

    Attributes:
        lowest: Grade of two texts that mean nothing alike.
        highest: Grade of two texts that mean the same.
        binary: Whether there is no grade but those two.
    """

    lowest: float
    highest: float
    binary: bool

    def holds(self, grade: float) -> bool:
        """Return whether `grade` is on the scale; what is not a number never is."""
        if self.binary:
            return grade in {self.lowest, self.highest}
        return self.lowest <= grade <= self.highest

    def describe(self) -> str:
        """Return the scale in words."""
        joint = "or" if self.binary else "to"
        return f"{self.lowest:g} {joint} {self.highest:g}"


def split_by_hash(
    rows: Sequence[GradedRow], *, remedy: str
) -> tuple[dict[str, list[GradedRow]], str]:
    """Return the rows by a split that depends on nothing but their texts, and a note that says so.

    Args:
        rows: Pairs whose files give no splits; `hashed_splits` chooses by both texts.
        remedy: What would give the published splits, for the note.
    """
    names = [f"{row.first}\t{row.second}" for row in rows]
    split_of, _ = hashed_splits(names)
    by_split: dict[str, list[GradedRow]] = {}
    for name, row in zip(names, rows, strict=True):
        by_split.setdefault(split_of[name], []).append(row)
    held_out = " and ".join(
        f"{len(by_split.get(split, ())):,} {split}" for split in ("test", "val")
    )
    note = (
        f"no file gives the splits: {held_out} pairs chosen by the SHA-256 of their texts; {remedy}"
    )
    return by_split, note


class _Split:
    """Texts and grades of one split; a text that comes again is stored once."""

    def __init__(self, name: str, rows: Sequence[GradedRow]) -> None:
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.firsts, self.seconds, self.grades = array("q"), array("q"), array("d")
        self.num_empty = 0
        place_of: dict[str, int] = {}
        for row in rows:
            both = (row.first.strip(), row.second.strip())
            if not all(both):
                self.num_empty += 1
                continue
            for side, text in enumerate(both, start=1):
                if place_of.setdefault(text, len(self.texts)) == len(self.texts):
                    self.ids.append(f"{name}-{row.number}#{side}")
                    self.texts.append(text)
            self.firsts.append(place_of[both[0]])
            self.seconds.append(place_of[both[1]])
            self.grades.append(row.grade)

    def item(self, position: int) -> Item:
        """Return one text."""
        return Item(id=self.ids[position], text=self.texts[position])

    def links(self) -> tuple[tuple[str, str, float], ...]:
        """Return both ids and the grade of every pair."""
        triples = zip(self.firsts, self.seconds, self.grades, strict=True)
        return tuple((self.ids[first], self.ids[other], grade) for first, other, grade in triples)


class GradedSource(Source):
    """Serve pairs of texts with grades; the subclasses say where they come from.

    There are no images, so nothing can be trained on them: they measure. The id of a text is that
    of the first pair which holds it, and its side there: `<split>-<number>#1` or `#2`. A pair with
    an empty text is left out.

    Args:
        root: Place of the dataset.
        rows: Pairs by split.
        scale: What the grades may be.
        notes: What a user should know about how the files were read.
        skipped: Rows of the table that cannot be read.
    """

    def __init__(
        self,
        root: Path,
        rows: Mapping[str, Sequence[GradedRow]],
        *,
        scale: Scale,
        notes: Sequence[str] = (),
        skipped: Sequence[SkippedRow] = (),
    ) -> None:
        super().__init__(root)
        self._skipped = tuple(skipped)
        self._scale = scale
        self._splits = {name: _Split(name, split_rows) for name, split_rows in rows.items()}
        num_empty = sum(split.num_empty for split in self._splits.values())
        left_out = f"{counted(num_empty, 'pair')} with an empty text left out"
        self._notes = (*notes, left_out) if num_empty else tuple(notes)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits that hold pairs: train, val, test, then others."""
        return in_order([name for name, split in self._splits.items() if split.grades])

    def items(self, split: str, modality: Modality) -> Sequence[Item]:
        """Return the texts of one split in file order, each once; there are no images.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        split_items = self._split(split)
        if modality is Modality.IMAGE:
            return ()
        return LazyItems(len(split_items.texts), split_items.item)

    def ids(self, split: str, modality: Modality) -> Sequence[str]:
        """Return the ids of `items`."""
        split_items = self._split(split)
        return () if modality is Modality.IMAGE else split_items.ids

    def pairs(self, split: str) -> Pairs:
        """Return the grades of one split; no image and no text belong together.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        split_items = self._split(split)
        grades = Grades(
            links=split_items.links(),
            lowest=self._scale.lowest,
            highest=self._scale.highest,
            binary=self._scale.binary,
        )
        return Pairs((), tuple(split_items.ids), (), grades=grades)

    def notes(self) -> tuple[str, ...]:
        """Return what was dropped, left out or chosen, one line each."""
        return self._notes

    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Return the rows of the table that cannot be read, in file order."""
        return self._skipped

    def fingerprint(self, split: str) -> str:
        """Return a hash of ids, texts and grades of one split."""
        return fingerprint_items(self, split)

    def _split(self, split: str) -> _Split:
        if split not in self.splits():
            raise unknown_name("split", split, self.splits())
        return self._splits[split]
