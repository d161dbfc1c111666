"""Rank stored layers of two sides by how many nearest neighbours they share, before any training.

Axis names: `n` items, `k` neighbours.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.errors import SpecError, StoreCorruptError
from ...featcache.reading.reader import FeatureReader
from ...featcache.store.catalog import StoreEntry, pairs_path, read_pairs
from ...featcache.types import Side, Sides
from ..common.progress import SILENT, Progress
from ..metrics.bootstrap import mean_interval
from ..metrics.number import Number, split_hash
from ..metrics.representation import neighbours, shared_neighbours
from .pooled_features import flat_vectors, mean_vectors

FEWEST = 16  # items: of these six are neighbours, and of 15 others 40 % are shared by chance
ITEMS = 2000  # usual most
SEED = 0  # usual one of the draw

_READ = {"tokens": mean_vectors}  # of all others, their tokens one after the other


@dataclass(frozen=True, kw_only=True)
class LayerPair:
    """Store of each side, with what they share.

    Attributes:
        first: Store of one layer and kind of features of the first side.
        second: That of the second side.
        shared: Percent of an item's neighbours by one that are its neighbours by the other, too.
    """

    first: StoreEntry
    second: StoreEntry
    shared: Number

    @property
    def name(self) -> str:
        """Return what the pair is called in reports."""
        return f"{label_of(self.first)} | {label_of(self.second)}"


@dataclass(frozen=True, kw_only=True)
class LayerRanking:
    """All pairs of stores of two sides, ranked.

    Attributes:
        pairs: The pair that shares most first; of equal ones that of the later layers.
        ids: Of the drawn items, on both sides.
        num_items: How many were drawn.
        num_neighbours: Of each item.
        seed: Of the draw.
    """

    pairs: Sequence[LayerPair]
    ids: Sequence[str]
    num_items: int
    num_neighbours: int
    seed: int

    def table(self) -> dict[str, int | float | str]:
        """Return how the first pair was chosen, as a run records it."""
        best = self.pairs[0].shared
        assert best.chance is not None, "a share has a chance"
        return {
            "measure": "mutual_knn",
            "value": best.value,
            "chance": best.chance,
            "pairs": len(self.pairs),
            "items": self.num_items,
            "neighbours": self.num_neighbours,
            "seed": self.seed,
            "split_hash": split_hash(self.ids),
        }


def label_of(entry: StoreEntry) -> str:
    """Return the encoder, layer and kind of a store: `dinov2 layer -4 mean`."""
    store = entry.description
    return f"{store.encoder} layer {store.layer} {store.kind}"


def newest_of_each(entries: Iterable[StoreEntry]) -> dict[str, StoreEntry]:
    """Return the first of `entries` of each encoder, layer and kind, by its label, sorted."""
    stores: dict[str, StoreEntry] = {}
    for entry in entries:
        stores.setdefault(label_of(entry), entry)
    return dict(sorted(stores.items()))


def rice_neighbours(num_items: int) -> int:
    """Return how many neighbours an item has by Rice's rule, 2 n^(1/3) rounded up.

    >>> rice_neighbours(1000)
    20
    >>> rice_neighbours(2000)
    26

    Source: the choice of layers of STRUCTURE (Gröger et al., arXiv 2506.16895).
    """
    # a root that is whole must not be rounded up for its last digit
    return math.ceil(round(2 * float(np.cbrt(num_items)), 9))


def first_texts(
    links: Iterable[tuple[str, str]], images: set[str], texts: set[str]
) -> list[tuple[str, str]]:
    """Return each of `images` with the first of its texts that is one of `texts`."""
    first: dict[str, str] = {}
    for image, text in links:
        if image in images and text in texts:
            first.setdefault(image, text)
    return list(first.items())


def in_all_of(readers: Iterable[FeatureReader]) -> set[str]:
    """Return the ids of the items that have a row in every store."""
    return set.intersection(*(set(reader.row_of) for reader in readers))


def item_vectors(
    label: str, reader: FeatureReader, ids: Sequence[str], *, must_vary: int | None = None
) -> Float32[np.ndarray, "n width"]:
    """Return one vector of each item: the mean of all tokens, else what the store holds.

    Args:
        label: Name of the store in messages.
        reader: The store.
        ids: The items.
        must_vary: How many of the first may not all be the same; None for all.

    Raises:
        StoreCorruptError: They are, and their neighbours would be anyone's.
    """
    rows = np.array([reader.row_of[name] for name in ids], dtype=np.int64)
    vectors = _READ.get(reader.description.kind, flat_vectors)(reader, rows)
    if not np.ptp(vectors[:must_vary], axis=0).any():
        raise StoreCorruptError(f"all items have the same features in store {label!r}")
    return vectors


def rank_layers(
    home: Path,
    stores: Mapping[Side, Sequence[StoreEntry]],
    *,
    num_items: int = ITEMS,
    num_neighbours: int | None = None,
    seed: int = SEED,
    progress: Progress = SILENT,
) -> LayerRanking:
    """Rank every store of one side with every store of the other by mutual nearest neighbours.

    Of an item of the first side and its first partner, as an image and its first text, or of the
    first text of an image by two text encoders, the `k` nearest others by cosine are compared; see
    `shared_neighbours`. Each store is read once.

    Source: the choice of layers of STRUCTURE (Gröger et al., arXiv 2506.16895). We differ: 2,000
    items in place of 5,000, and every stored kind of features takes part.

    Args:
        home: Folder of everything lightalign keeps.
        stores: Stores of two sides, all of the same items.
        num_items: Most items that are drawn.
        num_neighbours: None for `rice_neighbours`.
        seed: Of the draw.
        progress: Receives the progress.

    Raises:
        SpecError: Too few items have a row in all stores.
        StoreCorruptError: The features of a store do not vary.
    """
    (first, second), by_side = stores, list(stores.values())
    described = by_side[0][0].description
    # read from disk: all stores of a split together rarely fit the memory
    readers = {
        entry.key: FeatureReader(entry.folder, residency="disk")
        for entry in itertools.chain(*by_side)
    }
    pairs = read_pairs(pairs_path(home, described.dataset, described.split, described.source))
    readable = [in_all_of(readers[entry.key] for entry in entries) for entries in by_side]
    joined: Sides = (first, second)
    if second.modality is first.modality:
        # both sides have the texts, say, and the images only tell which of them belong together
        joined = pairs.joining(first.modality)
        readable = [set(pairs.ids_of(joined[0])), set.intersection(*readable)]
    links = first_texts(pairs.id_pairs(joined), *readable)
    order = np.random.default_rng(seed).permutation(len(links))[:num_items].tolist()
    k = rice_neighbours(len(order)) if num_neighbours is None else num_neighbours
    _require_enough(len(order), described.split, k)
    images, texts = zip(*(links[place] for place in order), strict=True)
    ids_of = {
        entry.key: images if side.modality is joined[0].modality else texts
        for side, entries in stores.items()
        for entry in entries
    }
    nearest: dict[str, Int64[np.ndarray, "n k"]] = {}
    unique = {entry.key: entry for entry in itertools.chain(*by_side)}
    for key, entry in progress.track(unique.items(), "neighbours", len(unique), unit="stores"):
        vectors = item_vectors(label_of(entry), readers[key], ids_of[key])
        nearest[key] = neighbours(vectors, k)
    ranked = []
    for left, right in itertools.product(*by_side):
        shared = shared_neighbours(nearest[left.key], nearest[right.key])
        number = Number(
            value=float(shared.mean()),
            num=len(order),
            interval=mean_interval(shared),
            chance=100.0 * k / (len(order) - 1),
        )
        ranked.append(LayerPair(first=left, second=right, shared=number))
    return LayerRanking(
        pairs=sorted(ranked, key=_best_first),
        ids=tuple(dict.fromkeys((*images, *texts)))
        if first.modality is not second.modality
        else texts,
        num_items=len(order),
        num_neighbours=k,
        seed=seed,
    )


def _require_enough(num_items: int, split: str, num_neighbours: int) -> None:
    """Pass if enough items were drawn.

    Raises:
        SpecError: They are too few, and most others would be neighbours.
    """
    fewest = max(FEWEST, num_neighbours + 2)
    if num_items < fewest:
        raise SpecError(
            f"{num_items} items of split {split!r} have rows in all stores, and at least {fewest} "
            "are needed: of fewer, two layers share most neighbours by chance; take a larger split"
        )


def _best_first(pair: LayerPair) -> tuple[float, int, int, str]:
    layers = pair.first.description.layer, pair.second.description.layer
    return -pair.shared.value, -layers[0], -layers[1], pair.name
