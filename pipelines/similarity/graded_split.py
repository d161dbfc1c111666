"""Cosines of graded pairs of texts, by what makes a vector of a text.

Axis names: `n` pairs, `some` rows of a store, `embed` features of a vector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...featcache.errors import SpecError, StoreCorruptError
from ...featcache.reading.reader import FeatureReader
from ...featcache.store import catalog
from ...featcache.store.catalog import StoreEntry
from ...featcache.types import Grades
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import SideQuery
from ..metrics.vectors import unit

_BLOCK_PAIRS = 2**13  # pairs whose vectors are held at once: 64 MiB each side with 1,024 features

Embed: TypeAlias = Callable[
    [FeatureReader, Int64[np.ndarray, " some"]], Float32[np.ndarray, "some embed"]
]


@dataclass(frozen=True)
class TextEmbedder:
    """Embedding of texts by one tower or by one encoder's own vectors.

    Attributes:
        query: Which store holds its features.
        embed: Makes vectors of some rows of it, of any length.
    """

    query: SideQuery
    embed: Embed


@dataclass(frozen=True)
class Scorer:
    """Comparison of two texts by the cosine of their vectors.

    Attributes:
        second: Reads the second; the same leg compares both in one space of one tower.
    """

    label: str
    first: TextEmbedder
    second: TextEmbedder


class GradedSplit:
    """Graded pairs of one split, and the stores that hold both their texts.

    A pair with a text that has no row in one of the stores, because it could not be read, takes no
    part.
    All stores are of one dataset, split and source.

    Attributes:
        described: One of the stores; dataset, split and source are the same for all.
        scale: What the grades may be.
        num_lost: Pairs that take no part.

    Raises:
        SpecError: The dataset has no graded pairs.
        StoreCorruptError: No pair has both its rows.
    """

    def __init__(self, home: Path, stores: Mapping[SideQuery, StoreEntry]) -> None:
        self.described = next(iter(stores.values())).description
        path = catalog.pairs_path(
            home, self.described.dataset, self.described.split, self.described.source
        )
        grades = catalog.read_pairs(path).grades
        if grades is None:
            raise SpecError(
                f"dataset {self.described.dataset!r} has no graded pairs of texts: similarity is "
                "for qqp, mrpc, stsb, sick and text-pair-table"
            )
        self.scale: Grades = grades
        self.stores = stores
        folders = {entry.folder for entry in stores.values()}
        readers = {folder: FeatureReader(folder) for folder in sorted(folders)}
        self._readers = {query: readers[entry.folder] for query, entry in stores.items()}
        stored_ids = set.intersection(*(set(reader.row_of) for reader in readers.values()))
        links = [link for link in grades.links if link[0] in stored_ids and link[1] in stored_ids]
        if not links:
            raise StoreCorruptError(f"no pair of {path} has the rows of both its texts")
        self.ids = [(first, second) for first, second, _ in links]
        self.grades: Float64[np.ndarray, " n"] = np.array([grade for *_, grade in links])
        self.num_lost = len(grades.links) - len(links)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unit_grades(self) -> Float64[np.ndarray, " n"]:
        """Return the grades from 0, for what means nothing alike, to 1."""
        span = self.scale.highest - self.scale.lowest
        grades: np.ndarray = (self.grades - self.scale.lowest) / span
        return grades

    @cached_property
    def groups(self) -> Int64[np.ndarray, " n"]:
        """Return the group of each pair: pairs with a text in common, also through other pairs."""
        # pairs that share a text are not independent, so that a bootstrap draws whole groups
        names = dict.fromkeys(name for pair in self.ids for name in pair)
        place = {name: number for number, name in enumerate(names)}
        ends = np.array([[place[first], place[second]] for first, second in self.ids])
        edges = coo_array((np.ones(len(ends)), ends.T), shape=(len(place), len(place)))
        _, group_of = connected_components(edges, directed=False)
        groups: np.ndarray = np.unique(group_of[ends[:, 0]], return_inverse=True)[1]
        return groups.astype(np.int64)

    @property
    def warnings(self) -> list[str]:
        """Return the warning that counts the pairs that take no part, if any."""
        line = f"{self.num_lost} pairs are left out: a text of theirs could not be read"
        return [line] if self.num_lost else []

    def reader(self, query: SideQuery) -> FeatureReader:
        """Return the store of a query."""
        return self._readers[query]

    def cosines(self, scorer: Scorer, progress: Progress = SILENT) -> Float64[np.ndarray, " n"]:
        """Return the cosine of each pair, in blocks of bounded memory."""
        starts = range(0, len(self), _BLOCK_PAIRS)
        parts = []
        for start in progress.track(starts, scorer.label, len(starts), unit="blocks"):
            pairs = self.ids[start : start + _BLOCK_PAIRS]
            firsts, seconds = ([pair[side] for pair in pairs] for side in (0, 1))
            if scorer.first == scorer.second:
                both = self._vectors(scorer.first, firsts + seconds)
                first, second = both[: len(pairs)], both[len(pairs) :]
            else:
                first = self._vectors(scorer.first, firsts)
                second = self._vectors(scorer.second, seconds)
            # summed in float64: cosines of near duplicates differ in the last digits of float32
            parts.append(np.einsum("nd,nd->n", first, second, dtype=np.float64))
        return np.concatenate(parts)

    def _vectors(self, leg: TextEmbedder, ids: Sequence[str]) -> Float32[np.ndarray, "some embed"]:
        """Return the unit vector of each text; one that comes again is made once."""
        reader = self._readers[leg.query]
        rows = np.array([reader.row_of[name] for name in ids], dtype=np.int64)
        # a text stands in many pairs, and to embed it costs more than to copy its vector
        once, places = np.unique(rows, return_inverse=True)
        vectors: np.ndarray = unit(leg.embed(reader, once))[places]
        return vectors
