"""Serve graded pairs of texts, split by split, as a `Source`."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ...links import GRADES, Links
from ...string_array import Strings
from ...types import Grades, Item, Modality
from ..base import ReadReport, Source, Split, counted
from ..splits import hashed_splits


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
    held_out = [f"{len(by_split.get(split, ())):,} {split}" for split in ("test", "val")]
    chosen = f"{' and '.join(held_out)} pairs chosen by the SHA-256 of their texts"
    return by_split, f"no file gives the splits: {chosen}; {remedy}"


class _GradedSplit(Split):
    """Texts and grades of one split; a text that comes again is stored once."""

    modalities = (Modality.TEXT,)

    def __init__(self, name: str, rows: Sequence[GradedRow], scale: Scale) -> None:
        self._scale = scale
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._firsts, self._seconds, self.grades = array("q"), array("q"), array("d")
        self.num_empty = 0
        place_of: dict[str, int] = {}
        for row in rows:
            both = (row.first.strip(), row.second.strip())
            if not all(both):
                self.num_empty += 1
                continue
            for side, text in enumerate(both, start=1):
                if place_of.setdefault(text, len(self._texts)) == len(self._texts):
                    self._ids.append(f"{name}-{row.number}#{side}")
                    self._texts.append(text)
            self._firsts.append(place_of[both[0]])
            self._seconds.append(place_of[both[1]])
            self.grades.append(row.grade)

    def ids(self, modality: Modality) -> Sequence[str]:
        return self._ids

    def item(self, modality: Modality, position: int) -> Item:
        return Item(id=self._ids[position], text=self._texts[position])

    def pairs(self) -> Links:
        ids = self._ids
        triples = zip(self._firsts, self._seconds, self.grades, strict=True)
        grades = Grades(
            links=tuple((ids[first], ids[second], grade) for first, second, grade in triples),
            lowest=self._scale.lowest,
            highest=self._scale.highest,
            binary=self._scale.binary,
        )
        return Links({Modality.TEXT: Strings.of(ids)}, labels={GRADES: grades})


class GradedSource(Source):
    """Pairs of texts with grades; the subclasses say where they come from.

    There are no images, so nothing can be trained on them: they measure. The id of a text is that
    of the first pair which holds it, and its side there: `<split>-<number>#1` or `#2`. A pair with
    an empty text is left out.

    Args:
        root: Place of the dataset.
        rows: Pairs by split.
        scale: What the grades may be.
        report: How the files were read.
    """

    def __init__(
        self,
        root: Path,
        rows: Mapping[str, Sequence[GradedRow]],
        *,
        scale: Scale,
        report: ReadReport,
    ) -> None:
        splits = {name: _GradedSplit(name, of_split, scale) for name, of_split in rows.items()}
        num_empty = sum(split.num_empty for split in splits.values())
        if num_empty:
            note = f"{counted(num_empty, 'pair')} with an empty text left out"
            report = replace(report, notes=(*report.notes, note))
        super().__init__(
            root, {name: split for name, split in splits.items() if split.grades}, report
        )
