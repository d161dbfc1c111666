"""Choose the stores of texts that a comparison of two texts reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...featcache.store.catalog import StoreEntry
from ...featcache.types import Modality
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import (
    DatasetQuery,
    SideQuery,
    StoreQuery,
    matching_stores,
    refuse,
)

_KINDS = ("tokens", "mean", "cls", "last", "pooled")


@dataclass(frozen=True)
class RawEncoder:
    """Name the stores that give the vectors of one layer of an encoder as they are.

    Attributes:
        label: Name of the encoder, and its layer if that is not the last.
        by_kind: Query by what the store keeps: `tokens`, `mean`, `cls`, `last` or `pooled`.
    """

    label: str
    by_kind: Mapping[str, SideQuery]


class TextStores:
    """Complete stores of the texts of one split, newest first.

    Where the dataset has changed between extractions, those of its newest version.
    """

    def __init__(
        self, home: Path, data: DatasetQuery, split: str, progress: Progress = SILENT
    ) -> None:
        self.home = home
        self._query = StoreQuery.of(data, split, {Modality.TEXT: SideQuery()})
        stores = matching_stores(home, self._query, progress)
        self.entries = [] if stores is None else stores[Modality.TEXT]

    def find(self, query: SideQuery) -> StoreEntry | None:
        """Return the newest store that matches, or None."""
        return next((entry for entry in self.entries if query.matches(entry)), None)

    def require(self, query: SideQuery) -> StoreEntry:
        """Return the newest store that matches.

        Raises:
            StoreNotFoundError: There is none.
            DatasetNotFoundError: There is none, and the dataset is not where it is remembered.
        """
        return self.find(query) or refuse(
            self.home, replace(self._query, by_side={Modality.TEXT: query})
        )

    def raw_encoder(self, entry: StoreEntry) -> RawEncoder:
        """Return which stores give the own vectors of the encoder and layer of `entry`.

        `entry` itself gives what it can; of other kinds it is the newest store.
        """
        described = entry.description
        by_kind: dict[str, SideQuery] = {}
        for other in (entry, *self.entries):
            store = other.description
            is_same = (store.identity, store.layer) == (described.identity, described.layer)
            if store.kind in _KINDS and is_same:
                by_kind.setdefault(store.kind, SideQuery.like(other))
        at_layer = "" if described.layer == -1 else f" layer {described.layer}"
        return RawEncoder(f"{described.encoder}{at_layer}", by_kind)

    def layers_of(self, entry: StoreEntry) -> list[StoreEntry]:
        """Return the newest store of each layer of the encoder of `entry`, the last layer first."""
        by_layer: dict[int, StoreEntry] = {}
        for other in (entry, *self.entries):
            if other.description.identity == entry.description.identity:
                by_layer.setdefault(other.description.layer, other)
        return [by_layer[layer] for layer in sorted(by_layer, reverse=True)]


def queries_of(raws: Sequence[RawEncoder]) -> list[SideQuery]:
    """Return the queries of all stores that these encoders need, each once."""
    return list(dict.fromkeys(query for raw in raws for query in raw.by_kind.values()))
