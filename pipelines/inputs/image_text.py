"""Join the stores of two modalities by id, such as images and texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from ...featcache.errors import StoreCorruptError
from ...featcache.links import Links
from ...featcache.reading.reader import FeatureReader
from ...featcache.reading.shuffle import block_shuffle
from ..metrics.ranks import Relevance
from .pairs import BatchRows, PairDataset, Relations, order_by_shard
from .row_groups import RowGroups
from .same_text import NEGATIVE
from .store_selection import StorePair
from .text_text import PairedTexts


class PairedStores(PairDataset):
    """Join items of two modalities, images and texts say; the number of an image is its row.

    Items of the first side are called images here, those of the second texts. One whose partner has
    no row, because it could not be read, takes no part.

    Raises:
        StoreCorruptError: No two items with a row belong together.
        UnknownNameError: There is no such residency.
    """

    def _join(self, pairs: Links) -> None:
        sides = self.pair.sides
        images, texts = (
            reader.rows_of(pairs.ids_of(side))[places]
            for reader, side, places in zip(
                (self.first, self.second), sides, pairs.places(sides).T, strict=True
            )
        )
        are_stored = (images >= 0) & (texts >= 0)
        if not are_stored.any():
            raise StoreCorruptError(f"no pair of {self.path} has both its rows in the stores")
        self.num_links = int(are_stored.sum())
        self.num_links_lost = len(are_stored) - self.num_links
        self.texts_of = RowGroups(images[are_stored], texts[are_stored])
        self.belonging: Mapping[int, tuple[int, ...]]
        self.seconds_of = self.belonging = self.texts_of

    @property
    def _texts(self) -> FeatureReader:
        return self.second

    def _unite(self, same: Mapping[int, tuple[int, ...]]) -> None:
        images, texts = self.texts_of.columns
        # of a million captions few say the same as another: these alone are looked at one by one
        repeated = np.isin(texts, np.fromiter(same, np.int64, len(same)))
        groups = [same[text] for text in texts[repeated].tolist()]
        sizes = np.array([len(group) for group in groups], dtype=np.int64)
        others = np.array([row for group in groups for row in group], dtype=np.int64)
        owners = np.append(images, np.repeat(images[repeated], sizes))
        # owner and text in one number, and sorted: `unique` takes ten times as long
        size = len(self.second)
        pairs = np.sort(owners * size + np.append(texts, others))
        pairs = pairs[np.diff(pairs, prepend=-1) != 0]
        self.belonging = RowGroups(pairs // size, pairs % size)

    @property
    def images(self) -> Int64[np.ndarray, " n"]:
        """Return the rows of all images that have a text, in order."""
        return self.texts_of.keys_in_order

    def firsts(
        self, images: Int64[np.ndarray, " n"], random: np.random.Generator
    ) -> Int64[np.ndarray, " n"]:
        """Return these images."""
        return images

    def all_firsts(self, images: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return these images."""
        return images

    def relations(self, images: Int64[np.ndarray, " n"]) -> Relations:
        """Return these images and all their texts; right is what belongs together."""
        texts = [text for image in images.tolist() for text in self.texts_of[image]]
        rows = BatchRows(images, np.unique(np.array(texts, dtype=np.int64)))
        place = {text: position for position, text in enumerate(rows.second.tolist())}
        texts_of = [
            [place[text] for text in self.belonging[image] if text in place]
            for image in images.tolist()
        ]
        images_of: list[list[int]] = [[] for _ in range(len(place))]
        for position, belonging in enumerate(texts_of):
            for text in belonging:
                images_of[text].append(position)
        return Relations(rows, Relevance.of(texts_of), Relevance.of(images_of))

    def block_order(
        self, images: Int64[np.ndarray, " n"], seed: Sequence[int]
    ) -> Int64[np.ndarray, " n"] | None:
        """Return the images shard by shard, of images or else of the first text of each."""
        # image features are far larger than those of texts, so the images decide where both are
        # packed
        buffer_shards = self.first.buffer_shards
        if buffer_shards is not None:
            order = block_shuffle(self.first.first_rows, seed=seed, buffer_shards=buffer_shards)
            return order[np.isin(order, images)]
        if self.second.buffer_shards is None:
            return None
        first_texts = np.array([self.texts_of[image][0] for image in images.tolist()])
        return order_by_shard(images, first_texts, self.second, seed)


def join_stores(
    pair: StorePair,
    *,
    home: Path,
    residency: str = "auto",
    device: torch.device | None = None,
    same_text: str = NEGATIVE,
) -> PairDataset:
    """Join items of two modalities, or of one by two encoders; see `PairDataset`.

    Raises:
        StoreCorruptError: Nothing with a row belongs together.
        UnknownNameError: There is no such residency.
    """
    first, second = pair.sides
    kind = PairedTexts if first.modality is second.modality else PairedStores
    return kind(pair, home=home, residency=residency, device=device, same_text=same_text)
