"""Which rows make a batch, in what order, and how their features come into memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Int64

from ..adapters.gradcache import Load
from ..adapters.objective import Teacher
from ..featcache.errors import SpecError
from ..featcache.reader import FeatureReader
from ..featcache.shuffle import block_shuffle
from ..featcache.tokens import Tokens
from .ahead import map_ahead
from .mixup import Mix, MixupOptions, draw_mix
from .pairs import PairedStores
from .teacher import teacher_of

GROUPS = 8  # groups of similar length in a batch; more saves little padding and costs calls


@dataclass(frozen=True)
class Rows:
    """Name the rows of one step, and what they are mixed with, if they are."""

    image: Int64[np.ndarray, " n"]
    text: Int64[np.ndarray, " m"]
    mix: Mix | None = None


@dataclass(frozen=True)
class Batch:
    """Hold the features of one batch, images and texts in groups of similar length.

    What gives a group has it already, or, with `chunk_size`, loads it then. The rows are in the
    order of the groups.
    """

    rows: Rows
    images: list[Load]
    texts: list[Load]
    positives: torch.Tensor
    teacher: Teacher | None = None


class Batches:
    """Draw and load the batches of a training.

    Args:
        stores: Where the features are.
        image_rows: Images to train on.
        num_batches: Batches of an epoch.
        captions: `all` texts of each image, or `one` drawn at random.
        chunk_size: Rows that are loaded at once, when they are used; or 0 to load all before.
        seed: Seed of the order and of what is mixed with what.
        mixup: Whether and how to mix.
        teacher: Whether a batch has the averaged tokens of its items; chunks are loaded once more.

    Raises:
        SpecError: Items that are to be mixed have several tokens, or are too few.
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
        mixup: MixupOptions = MixupOptions(),  # noqa: B008 (frozen)
        teacher: bool = False,
    ) -> None:
        self.stores = stores
        self.image_rows = image_rows
        self.num_batches = num_batches
        self.captions = captions
        self.chunk_size = chunk_size
        self.seed = seed
        self.mixup = mixup
        self.teacher = teacher
        if mixup.alpha:
            for reader in (stores.image, stores.text):
                _check_one_token(reader)
            if mixup.mixtures(len(image_rows) // num_batches) < 2:
                raise SpecError(
                    f"{len(image_rows)} images in {num_batches} batches leave a batch with fewer "
                    "than two mixtures, and one has no negatives: raise train.batch_size"
                )

    def order(self, epoch: int) -> Iterator[Rows]:
        """Yield the rows of each step; the order depends on seed, epoch and residency alone."""
        random = np.random.default_rng([self.seed, epoch])
        rows = self._shuffled(random, epoch)
        for images in np.array_split(rows, self.num_batches):
            if self.mixup.alpha:
                yield self._mixed(images, random)
            elif self.captions == "all":
                yield Rows(images, self.stores.texts_of_images(images))
            else:
                yield Rows(images, self.stores.draw_texts(images, random))

    def _mixed(self, images: Int64[np.ndarray, " n"], random: np.random.Generator) -> Rows:
        def texts_of(image: int) -> Sequence[int]:
            texts = self.stores.texts_of[image]
            return texts if self.captions == "all" else (int(random.choice(texts)),)

        return Rows(*draw_mix(images, texts_of, options=self.mixup, random=random))

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
        batch = self._load_plain(rows) if rows.mix is None else self._load_mixed(rows, rows.mix)
        if not self.teacher:
            return batch
        return replace(batch, teacher=teacher_of(batch.images, batch.texts))

    def _load_plain(self, rows: Rows) -> Batch:
        load = self._chunks if self.chunk_size else _load_groups
        images, image_order = load(self.stores.image, rows.image)
        texts, text_order = load(self.stores.text, rows.text)
        positives = self.stores.positives(rows.image, rows.text)
        return Batch(
            rows=Rows(rows.image[image_order], rows.text[text_order]),
            images=images,
            texts=texts,
            positives=positives[image_order][:, text_order],
        )

    def _load_mixed(self, rows: Rows, mix: Mix) -> Batch:
        """Return the batch of mixtures; chunks of them are mixed again whenever they are loaded."""
        owners = torch.from_numpy(mix.owner)
        places = torch.arange(len(rows.image))
        positives: Bool[torch.Tensor, "n m"] = owners[None, :] == places[:, None]
        return Batch(
            rows=rows,
            images=self._mixed_chunks(self.stores.image, rows.image, mix.image, mix.share),
            texts=self._mixed_chunks(self.stores.text, rows.text, mix.text, mix.share),
            positives=positives,
        )

    def _mixed_chunks(
        self,
        reader: FeatureReader,
        rows: Int64[np.ndarray, " n"],
        partners: Int64[np.ndarray, " n"],
        share: float,
    ) -> list[Load]:
        if not self.chunk_size:
            return [partial(_itself, _mixture(reader, rows, partners, share))]
        cuts = [
            slice(start, start + self.chunk_size) for start in range(0, len(rows), self.chunk_size)
        ]
        return [partial(_mixture, reader, rows[cut], partners[cut], share) for cut in cuts]

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


def _mixture(
    reader: FeatureReader,
    rows: Int64[np.ndarray, " n"],
    partners: Int64[np.ndarray, " n"],
    share: float,
) -> Tokens:
    """Return share x + (1 - share) y of rows x and their partners y, in float32."""
    first, second = reader.padded(rows), reader.padded(partners)
    return first.with_values(share * first.values.float() + (1 - share) * second.values.float())


def _check_one_token(reader: FeatureReader) -> None:
    longest = int(reader.lengths.max())
    if longest > 1:
        what = reader.description
        raise SpecError(
            f"[train.mixup] mixes items of one token each, found {what.modality}s of up to "
            f"{longest} tokens ({what.kind} of {what.encoder}): extract them with --features mean "
            f"or cls, and train with --{what.modality}-features mean or cls"
        )


def _itself(tokens: Tokens) -> Tokens:
    return tokens


def load_ahead(loads: Sequence[Load]) -> Iterator[Tokens]:
    """Load the next chunk while one is used."""
    return map_ahead(lambda load: load(), loads, ahead=1)
