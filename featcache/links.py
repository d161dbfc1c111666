"""Links between items of a split, by their places in arrays: of a million captions 8 MB."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64, Integer

from .answers import Answers
from .regions import Regions
from .string_array import Strings
from .types import Classes, Grades, Modality, Side, Sides

CLASSES, GRADES, TEXT_MARKS, ANSWERS = "classes", "grades", "text_marks", "answers"
REGIONS = "regions"
Marks: TypeAlias = Int64[np.ndarray, " texts"]
Label: TypeAlias = Classes | Grades | Marks | Answers | Regions
_MOST_INT32 = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Links:
    """Items that belong together, many-to-many; stores are joined by id and never by position.

    Attributes:
        ids: Ids of all items of a modality, each once, in item order.
        pairs: Places in `ids` of the two items of every pair, by the sides that it joins.
        labels: What is known of items and pairs beside: `classes` of images, `grades` of pairs of
            texts, `answers` to texts that are questions, `regions` of images with the words that
            name them, and `text_marks`, the number that `text_mark` gives each text; these three
            are in item order.
    """

    ids: Mapping[Modality, Strings]
    pairs: Mapping[Sides, Integer[np.ndarray, "pairs 2"]] = field(default_factory=dict)
    labels: Mapping[str, Label] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ids: Mapping[Modality, Sequence[str]],
        pairs: Mapping[Sides, Iterable[Sequence[str]]] | None = None,
        labels: Mapping[str, Label] | None = None,
    ) -> "Links":
        """Make links of pairs of ids.

        Raises:
            ValueError: An id is there twice, or a pair is of an id that is not there.
        """
        place_of = {modality: places_of(names, modality) for modality, names in ids.items()}
        arrays = {}
        for sides, linked in (pairs or {}).items():
            first, second = (place_of[side.modality] for side in sides)
            places = []
            for first_id, second_id in linked:
                if first_id not in first or second_id not in second:
                    raise absent((first_id, second_id))
                places += [first[first_id], second[second_id]]
            arrays[sides] = compact(np.array(places, dtype=np.int64).reshape(-1, 2))
        strings = {modality: Strings.of(names) for modality, names in ids.items()}
        return cls(strings, arrays, labels or {})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Links):
            return NotImplemented
        return (
            self.ids == other.ids
            and self.pairs.keys() == other.pairs.keys()
            and all(np.array_equal(array, other.pairs[key]) for key, array in self.pairs.items())
            and (self.classes, self.grades) == (other.classes, other.grades)
            and (self.answers, self.regions) == (other.answers, other.regions)
            and _listed(self.text_marks) == _listed(other.text_marks)
        )

    __hash__ = None  # type: ignore[assignment]

    def ids_of(self, side: Side) -> Strings:
        """Return the ids of what a side consists of; none where the split has no such items."""
        return self.ids.get(side.modality, Strings.of(()))

    def places(self, sides: Sides) -> Integer[np.ndarray, "pairs 2"]:
        """Return the places of every pair of two sides, however these are ordered in `pairs`.

        There are none where nothing joins the sides.
        """
        if sides in self.pairs or sides[::-1] not in self.pairs:
            return self.pairs.get(sides, np.empty((0, 2), np.int32))
        return self.pairs[sides[::-1]][:, ::-1]

    def joining(self, modality: Modality) -> Sides:
        """Return another modality by which items of `modality` belong together, and `modality`.

        It is that of images where these are linked with them, as texts are by the image that they
        describe, else the first that is linked.
        """
        others = [
            other
            for sides in self.pairs
            for side, other in (sides, sides[::-1])
            if side is modality and other is not modality
        ]
        usual = [other for other in others if other is Modality.IMAGE]
        return next(iter((*usual, *others)), Modality.IMAGE), modality

    def id_pairs(self, sides: Sides) -> Iterator[tuple[str, str]]:
        """Yield the ids of every pair of two sides, in the order of the dataset."""
        columns = self.places(sides).T
        first, second = (
            map(list(self.ids_of(side)).__getitem__, column.tolist())
            for side, column in zip(sides, columns, strict=True)
        )
        return zip(first, second, strict=True)

    @property
    def classes(self) -> Classes | None:
        """Return the class of every image, of a dataset that has classes."""
        classes = self.labels.get(CLASSES)
        assert classes is None or isinstance(classes, Classes)
        return classes

    @property
    def grades(self) -> Grades | None:
        """Return the grades of pairs of texts, of a dataset that has them."""
        grades = self.labels.get(GRADES)
        assert grades is None or isinstance(grades, Grades)
        return grades

    @property
    def answers(self) -> Answers | None:
        """Return the answers to every text, of a dataset whose texts are questions."""
        answers = self.labels.get(ANSWERS)
        assert answers is None or isinstance(answers, Answers)
        return answers

    @property
    def regions(self) -> Regions | None:
        """Return the boxes of every image and the words that name them, where these are known."""
        regions = self.labels.get(REGIONS)
        assert regions is None or isinstance(regions, Regions)
        return regions

    @property
    def text_marks(self) -> Marks | None:
        """Return the mark of each text, or None where they are not known."""
        marks = self.labels.get(TEXT_MARKS)
        assert marks is None or isinstance(marks, np.ndarray)
        return marks


def _listed(marks: Marks | None) -> list[int] | None:
    return None if marks is None else marks.tolist()


def places_of(ids: Sequence[str], modality: Modality) -> dict[str, int]:
    """Return the place of each id.

    Raises:
        ValueError: One is there twice.
    """
    place_of = {name: place for place, name in enumerate(ids)}
    if len(place_of) != len(ids):
        raise ValueError(f"an id is that of more than one {modality.value}")
    return place_of


def absent(pair: tuple[str, str]) -> ValueError:
    """Build the error for a pair of an id that no item has."""
    return ValueError(f"the pair {pair!r:.160} is of an id that is not there")


def compact(numbers: Integer[np.ndarray, "..."]) -> Integer[np.ndarray, "..."]:
    """Return numbers that are not negative as int32, or as int64 where one is too large."""
    fits = not numbers.size or int(numbers.max()) <= _MOST_INT32
    return numbers.astype(np.int32 if fits else np.int64)
