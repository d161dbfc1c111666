"""Which rows make a batch, in what order, and how their features come into memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64

from ..adapters.gradcache import Load
from ..featcache.reader import FeatureReader
from ..featcache.shuffle import block_shuffle
from ..featcache.tokens import Tokens
from .ahead import map_ahead
from .pairs import PairedStores

GROUPS = 8  # groups of similar length in a batch; more saves little padding and costs calls


@dataclass(frozen=True)
class Rows:
    """Name the rows of one step."""

    image: Int64[np.ndarray, " n"]
    text: Int64[np.ndarray, " m"]


@dataclass(frozen=True)
class Batch:
    """Hold the features of one batch, images and texts in groups of similar length.

    What gives a group has it already, or, with `chunk_size`, loads it then.
    """

    rows: Rows
    images: list[Load]
    texts: list[Load]
    positives: torch.Tensor


class Batches:
    """Draw and load the batches of a training.

    Args:
        stores: Where the features are.
        image_rows: Images to train on.
        num_batches: Batches of an epoch.
        captions: `all` texts of each image, or `one` drawn at random.
        chunk_size: Rows that are loaded at once, when they are used; or 0 to load all before.
        seed: Seed of the order.
    """

    def __init__(
        self,
        stores: PairedStores,
        image_rows: Int64[np.ndarray, " n"],
        *,
        num_batches: int,
        captions: str,
        chunk_size: int,
        seed: int,
    ) -> None:
        self.stores = stores
        self.image_rows = image_rows
        self.num_batches = num_batches
        self.captions = captions
        self.chunk_size = chunk_size
        self.seed = seed

    def order(self, epoch: int) -> Iterator[Rows]:
        """Yield the rows of each step; the order depends on seed, epoch and residency alone."""
        random = np.random.default_rng([self.seed, epoch])
        rows = self._shuffled(random, epoch)
        for images in np.array_split(rows, self.num_batches):
            if self.captions == "all":
                yield Rows(images, self.stores.texts_of_images(images))
            else:
                yield Rows(images, self.stores.draw_texts(images, random))

    def _shuffled(self, random: np.random.Generator, epoch: int) -> Int64[np.ndarray, " n"]:
        """Return the images to train on, a few shards at a time where not all are at hand."""
        images, texts = self.stores.image, self.stores.text
        seed = [self.seed, epoch]
        if images.buffer_shards is not None:
            order = block_shuffle(images.first_rows, seed=seed, buffer_shards=images.buffer_shards)
            return order[np.isin(order, self.image_rows)]
        if texts.buffer_shards is not None:
            # shards of texts, and of each image that in which its first text is
            first_texts = self.stores.first_text_of(self.image_rows)
            by_text = np.argsort(first_texts, kind="stable")
            first_rows = np.searchsorted(first_texts[by_text], texts.first_rows)
            order = block_shuffle(first_rows, seed=seed, buffer_shards=texts.buffer_shards)
            rows: np.ndarray = self.image_rows[by_text[order]]
            return rows
        return random.permutation(self.image_rows)

    def load(self, rows: Rows) -> Batch:
        """Return the batch of these rows."""
        load = self._chunks if self.chunk_size else _load_groups
        images, image_order = load(self.stores.image, rows.image)
        texts, text_order = load(self.stores.text, rows.text)
        positives = self.stores.positives(rows.image, rows.text)
        return Batch(
            rows=rows,
            images=images,
            texts=texts,
            positives=positives[image_order][:, text_order],
        )

    def _chunks(
        self, reader: FeatureReader, rows: Int64[np.ndarray, " n"]
    ) -> tuple[list[Load], Int64[np.ndarray, " n"]]:
        """Return what loads chunks of rows of similar length, and which row each of theirs is."""
        order = np.argsort(reader.lengths[rows], kind="stable")
        starts = range(0, len(rows), self.chunk_size)
        chunks = [rows[order[start : start + self.chunk_size]] for start in starts]
        return [partial(reader.padded, chunk) for chunk in chunks], order


def _load_groups(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> tuple[list[Load], Int64[np.ndarray, " n"]]:
    groups, order = reader.padded_groups(rows, GROUPS)
    return [partial(_itself, group) for group in groups], order


def _itself(tokens: Tokens) -> Tokens:
    return tokens


def load_ahead(loads: Sequence[Load]) -> Iterator[Tokens]:
    """Load the next chunk while one is used."""
    return map_ahead(lambda load: load(), loads, ahead=1)
