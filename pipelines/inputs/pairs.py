"""The contract of two stores whose rows are joined image by image.

Axis names: `n` images or rows of the first side, `m` rows of the second.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.adapter import Adapter
from ...adapters.positives import Positives
from ...featcache.links import Links
from ...featcache.reading.reader import FeatureReader
from ...featcache.reading.shuffle import block_shuffle
from ...featcache.reading.streams import open_streams
from ...featcache.store import catalog
from ...featcache.store.remedies import extraction
from ...featcache.types import Modality, Side, ragged_arange
from ..metrics.ranks import Relevance
from .cached_steps import PooledRows, RowReader, pool_once
from .mixed_rows import MixupRows
from .pooled_shape import PooledShape
from .same_text import DROP, NEGATIVE, POSITIVE, same_rows, without_same_texts
from .store_selection import StorePair, refuse_graded


@dataclass(frozen=True)
class BatchRows:
    """Name the rows of both sides in one step, and what they are mixed with, if they are."""

    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " m"]
    mix: MixupRows | None = None


@dataclass(frozen=True)
class Relations:
    """Rows that an evaluation embeds, and which places in `rows` are relevant to which.

    Attributes:
        rows: What is embedded.
        seconds_of_first: Right places of the second side for each of the first.
        firsts_of_second: Right places of the first side for each of the second.
        anchors: Places of the first side that a loss is of, or None for all.
    """

    rows: BatchRows
    seconds_of_first: Relevance
    firsts_of_second: Relevance
    anchors: Int64[np.ndarray, " some"] | None = None


class PairDataset(ABC):
    """Readers of both sides, and the pairs of their rows that belong together.

    What belongs together does so by an item of the first side, or by an image whose texts both
    sides are.
    `residency` and `device` are those of `FeatureReader`; `same_text` is what becomes of texts that
    say the same, one of `same_text.SAME_TEXT`.

    Attributes:
        pairs: What belongs together, by id, as the stores' pairs say it.
        seconds_of: Rows of the second side that make a pair with each of the first, in order.
        belonging: Rows of the second side that are not wrong for each of the first, in order.
        num_links_lost: Links between an image and a text that lack a row.
        num_whole: Images that would have something if no text were dropped.

    Raises:
        SpecError: The dataset holds graded pairs of texts, which belong to no image.
        StoreCorruptError: Nothing with a row belongs together.
        UnknownNameError: There is no such residency.
    """

    seconds_of: Mapping[int, tuple[int, ...]]
    belonging: Mapping[int, tuple[int, ...]]
    num_links_lost: int

    def __init__(
        self,
        pair: StorePair,
        *,
        home: Path,
        residency: str = "auto",
        device: torch.device | None = None,
        same_text: str = NEGATIVE,
    ) -> None:
        self.pair = pair
        self.home = home
        first, second = ([entry.folder for entry in entries] for entries in pair.streams.values())
        self.first = open_streams(first, residency=residency, device=device)
        # one store may be both sides, as between two towers of one text encoder: it is read once
        self.second = self.first
        if second != first:
            self.second = open_streams(second, residency=residency, device=device)
        self.path = catalog.pairs_path(home, pair.dataset, pair.split, pair.source)
        self.sources: tuple[RowReader, RowReader] = (self.first, self.second)
        self.pairs = catalog.read_pairs(self.path)
        refuse_graded(self.pairs, pair.dataset, home=home)
        # where no side is of texts, none says the same
        has_texts = pair.sides[1].modality is Modality.TEXT
        self.same_text = same_text = same_text if has_texts else NEGATIVE
        self._join(self.pairs)
        # counted before same texts are dropped, so that the loss can be told
        self.num_whole = len(self.images)
        if same_text == DROP:
            self._join(without_same_texts(self.pairs))
        if same_text == POSITIVE:
            self._unite(same_rows(self.pairs, self._texts))

    @abstractmethod
    def _join(self, pairs: Links) -> None:
        """Find out who belongs to whom, and set the attributes that say so."""

    def pool_once(self, adapter: Adapter, *, device: torch.device, is_float32: bool) -> None:
        """Keep the output of an adapter's first steps for each row in `sources`, where it fits.

        See `cached_steps.pool_once`.
        """
        first, second = (
            pool_once(reader, adapter, side, device=device, is_float32=is_float32)
            for reader, side in zip((self.first, self.second), self.pair.sides, strict=True)
        )
        self.sources = (first, second)

    @property
    def pooled(self) -> dict[Side, PooledShape]:
        """Return what is kept of the rows of each side that is pooled once."""
        return {
            side: source.shape
            for side, source in zip(self.pair.sides, self.sources, strict=True)
            if isinstance(source, PooledRows)
        }

    @property
    @abstractmethod
    def _texts(self) -> FeatureReader:
        """Return the reader by whose rows `_unite` calls texts."""

    @abstractmethod
    def _unite(self, same: Mapping[int, tuple[int, ...]]) -> None:
        """Give each text the items of all texts that say the same.

        `same` has the rows that say the same as each row that is not alone with what it says.
        """

    @property
    def residency(self) -> dict[str, dict[str, Any]]:
        """Return where the features of both sides are, and why."""
        readers = (self.first, self.second)
        residencies = {
            side.value: reader.residency.report()
            for side, reader in zip(self.pair.sides, readers, strict=True)
        }
        for side, shape in self.pooled.items():
            residencies[side.value]["pooled_bytes"] = shape.num_bytes
        return residencies

    @property
    def extraction(self) -> str:
        """Return the command that extracts the texts as they were."""
        store = self._texts.store
        return extraction(store.description, store.manifest.get("settings"), home=self.home)

    @property
    def notes(self) -> list[str]:
        """Return what people should know of these pairs."""
        return self.warnings

    @property
    def warnings(self) -> list[str]:
        """Return what a training on these pairs reports, too."""
        if self.same_text == NEGATIVE:
            return []
        if self.pairs.text_marks is None:
            line = (
                f"same_text = {self.same_text!r} has no effect: an earlier version extracted these "
                f"texts and did not keep which say the same; `{self.extraction}` looks them up and "
                "encodes nothing that is there"
            )
            return [line]
        count = self.num_whole - len(self.images)
        line = (
            f"{count:,} of {self.num_whole:,} {self._owner}s have no caption of their own left and "
            f"take no part (same_text = {self.same_text!r}, split {self.pair.split!r})"
        )
        return [line] if count else []

    @property
    def _owner(self) -> str:
        """Return what one of `images` is in words, by which something belongs together."""
        first, second = self.pair.sides
        is_twin = first.modality is second.modality
        return self.pairs.joining(first.modality)[0].label if is_twin else first.label

    @property
    @abstractmethod
    def images(self) -> Int64[np.ndarray, " n"]:
        """Return the numbers of all images by which something belongs together, in order."""

    @abstractmethod
    def firsts(
        self, images: Int64[np.ndarray, " n"], random: np.random.Generator
    ) -> Int64[np.ndarray, " m"]:
        """Return the row of the first side that each of these images brings to a batch."""

    @abstractmethod
    def all_firsts(self, images: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Return all rows of the first side that these images have."""

    def links(
        self, images: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, "links 2"], Int64[np.ndarray, " links"]]:
        """Return each pair of a first and a second row that these images bring, image by image.

        Beside it stands the place among `images` of the image that brings each pair.
        """
        pairs: list[tuple[int, int]] = []
        places: list[int] = []
        for place in range(len(images)):
            image_pairs = [
                (first, second)
                for first in self.all_firsts(images[place : place + 1]).tolist()
                for second in self.seconds_of[first]
            ]
            pairs += image_pairs
            places += [place] * len(image_pairs)
        return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(places, dtype=np.int64)

    @abstractmethod
    def relations(self, images: Int64[np.ndarray, " n"]) -> Relations:
        """Return the rows that evaluate these images, and the relevant ones among them.

        Raises:
            SpecError: Nothing of it has a right answer.
        """

    def positives(
        self, first_rows: Int64[np.ndarray, " n"], second_rows: Int64[np.ndarray, " m"]
    ) -> Positives:
        """Return the positives among these rows, in which a row may be several times."""
        # `belonging` and not `seconds_of`: texts that say the same are no negatives
        return partner_links([self.belonging[row] for row in first_rows.tolist()], second_rows)

    @abstractmethod
    def block_order(
        self, images: Int64[np.ndarray, " n"], seed: Sequence[int]
    ) -> Int64[np.ndarray, " n"] | None:
        """Return the images in a random order that needs few shards at a time.

        None where the readers have all rows at hand, so that any order will do.
        """


def partner_links(
    partners: Sequence[Sequence[int]] | Sequence[Int64[np.ndarray, " _"]],
    rows: Int64[np.ndarray, " m"],
) -> Positives:
    """Return for each line those of `rows` that are its partners, wherever and however often."""
    counts = np.fromiter(map(len, partners), dtype=np.int64, count=len(partners))
    flat = np.fromiter(chain.from_iterable(partners), dtype=np.int64, count=int(counts.sum()))
    order = np.argsort(rows, kind="stable")
    first, end = (np.searchsorted(rows[order], flat, side=side) for side in ("left", "right"))
    lines = np.repeat(np.repeat(np.arange(len(partners)), counts), end - first)
    columns = order[ragged_arange(first, end - first)]
    return Positives(torch.from_numpy(lines), torch.from_numpy(columns), (len(partners), len(rows)))


def order_by_shard(
    images: Int64[np.ndarray, " n"],
    rows: Int64[np.ndarray, " n"],
    reader: FeatureReader,
    seed: Sequence[int],
) -> Int64[np.ndarray, " n"]:
    """Return the images in a random order by which `rows`, one of each, come shard by shard.

    The reader keeps some shards at a time.
    """
    assert reader.buffer_shards is not None
    # blocks are shuffled in the order of the shards, in which the images are not
    by_row = np.argsort(rows, kind="stable")
    first_rows = np.searchsorted(rows[by_row], reader.first_rows)
    order = block_shuffle(first_rows, seed=seed, buffer_shards=reader.buffer_shards)
    shuffled: np.ndarray = images[by_row[order]]
    return shuffled
