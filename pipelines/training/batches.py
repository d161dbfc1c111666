"""Batches: which rows make one, in what order, and how their features come into memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from ...adapters.gradcache import LazyTokens
from ...adapters.masking import without_padding
from ...adapters.objective import TeacherFeatures
from ...adapters.positives import PairMask, Positives
from ...featcache.errors import SpecError
from ...featcache.reading.reader import FeatureReader
from ...featcache.tokens import StreamTokens, Tokens
from ..common.prefetch import prefetch
from ..inputs.cached_steps import RowReader
from ..inputs.mixed_rows import MixupRows
from ..inputs.pairs import BatchRows, PairDataset
from .course import Course
from .distributed import ALONE, ProcessGroup
from .mixup import draw_mix
from .options import TrainOptions

GROUPS = 8  # groups of similar length in a batch; more saves little padding and costs calls
_ROWS = 1024  # that are averaged at a time


def teacher_of(first: Sequence[LazyTokens], second: Sequence[LazyTokens]) -> TeacherFeatures:
    """Return the averaged tokens of all that is loaded, in order; chunks one after the other."""
    sides = (torch.cat([unit_means(load()) for load in side]) for side in (first, second))
    return TeacherFeatures(*sides)


def teacher_of_rows(
    stores: PairDataset, first: Int64[np.ndarray, " n"], second: Int64[np.ndarray, " m"]
) -> TeacherFeatures:
    """Return the averaged tokens of these rows, on the CPU."""
    teacher = teacher_of(_loads(stores.first, first), _loads(stores.second, second))
    return teacher.to(torch.device("cpu"))


def unit_means(tokens: Tokens) -> Float[Tensor, "rows width"]:
    """Return the mean of the real tokens of each row, of length 1, in float32.

    Those of several streams stand side by side, each as long as the others.
    """
    means = []
    for stream in tokens.streams:
        sums = without_padding(stream).float().sum(dim=1)
        means.append(functional.normalize(sums / stream.mask.sum(dim=1, keepdim=True), dim=1))
    return torch.cat(means, dim=1) / math.sqrt(len(means))


def _loads(reader: FeatureReader, rows: Int64[np.ndarray, " n"]) -> list[LazyTokens]:
    starts = range(0, len(rows), _ROWS)
    return [partial(reader.padded, rows[start : start + _ROWS]) for start in starts]


@dataclass(frozen=True)
class Batch:
    """Features of one batch, each side in groups of similar length.

    What gives a group has it already, or, with `chunk_size`, loads it then. The rows are in the
    order of the groups. Of several processes each has the groups and the teacher of its share;
    `rows` and `positives` are of all groups, process after process.
    """

    rows: BatchRows
    first: list[LazyTokens]
    second: list[LazyTokens]
    positives: PairMask
    teacher: TeacherFeatures | None = None


class Batches:
    """Draw and load the batches of a training.

    With captions = 'each' a batch is of pairs: its n-th image belongs to its n-th text, and an
    image, or a text of two images, may be in it several times.

    Args:
        stores: Where the features are.
        images: Numbers of the images to train on.
        options: Which texts come with an image, how large batches and chunks are, and whether and
            how to mix.
        seed: Seed of the order and of what is mixed with what.
        teacher: Whether a batch has the averaged tokens of its items; chunks are loaded once more.
        most_logits: Of the objective, which says whether it takes positives as pairs.
        processes: Who shares the rows of each batch.

    Raises:
        SpecError: Items that are to be mixed have several tokens, or are too few.
    """

    def __init__(
        self,
        stores: PairDataset,
        images: Int64[np.ndarray, " n"],
        *,
        options: TrainOptions,
        seed: int,
        teacher: bool = False,
        most_logits: int | None = None,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self.stores = stores
        self.images = images
        self.options = options
        self.chunk_size = options.chunk_size
        self.seed = seed
        self.mixup = options.mixup
        self.teacher = teacher
        self.most_logits = most_logits
        self.processes = processes
        self.by_captions = options.captions == "each"
        num_rows = len(images)
        if self.by_captions:
            self._links, self._image_of_link = stores.links(images)
            num_rows = len(self._links)
        self.course = Course.of(options, num_rows)
        if self.mixup.alpha:
            for reader in (stores.first, stores.second):
                _check_one_token(reader)
            rows, num_batches = self.course.rows, self.course.batches
            if self.mixup.mixtures(rows // num_batches) < 2:
                raise SpecError(
                    f"{rows} {self.course.counted} in {num_batches} batches leave a batch with "
                    "fewer than two mixtures, and one has no negatives: raise train.batch_size"
                )

    def order(self, epoch: int) -> Iterator[BatchRows]:
        """Yield the rows of each step; the order depends on seed, epoch and residency alone.

        It is the same in all processes: the residency is that of the first.
        """
        if self.by_captions:
            yield from self._order_of_captions(epoch)
            return
        random = np.random.default_rng([self.seed, epoch])
        order = self._block_order([self.seed, epoch])
        shuffled = random.permutation(self.images) if order is None else order

        def seconds_of(first: int) -> Sequence[int]:
            seconds = self.stores.seconds_of[first]
            return seconds if self.options.captions == "all" else (int(random.choice(seconds)),)

        # of even sizes: a last batch of a few rows would have hardly any negatives
        for images in np.array_split(shuffled[: self.course.rows], self.course.batches):
            firsts = self.stores.firsts(images, random)
            if self.mixup.alpha:
                yield BatchRows(*draw_mix(firsts, seconds_of, options=self.mixup, random=random))
            else:
                seconds = [second for first in firsts.tolist() for second in seconds_of(first)]
                yield BatchRows(firsts, np.unique(np.array(seconds, dtype=np.int64)))

    def _order_of_captions(self, epoch: int) -> Iterator[BatchRows]:
        """Yield the pairs of each step, each of an image with one of its texts."""
        random = np.random.default_rng([self.seed, epoch])
        shuffled = self._shuffled_links(random, epoch)[: self.course.rows]
        for numbers in np.array_split(shuffled, self.course.batches):
            pairs = self._links[numbers]
            if not self.mixup.alpha:
                yield BatchRows(pairs[:, 0], pairs[:, 1])
                continue
            places = np.arange(len(pairs))
            firsts, seconds, mix = draw_mix(
                places, lambda place: (place,), options=self.mixup, random=random
            )
            partners = replace(mix, first=pairs[mix.first, 0], second=pairs[mix.second, 1])
            yield BatchRows(pairs[firsts, 0], pairs[seconds, 1], partners)

    def _shuffled_links(
        self, random: np.random.Generator, epoch: int
    ) -> Int64[np.ndarray, " links"]:
        """Return the numbers of all pairs in random order.

        Where few shards are at hand at a time, it is pass after pass over the images, each with
        one of its pairs, shard by shard: pairs of an image side by side would fill a batch.
        """
        shuffled = random.permutation(len(self._links))
        if self._block_order([self.seed, epoch, 0]) is None:
            return shuffled
        images = self._image_of_link[shuffled]
        by_image = np.argsort(images, kind="stable")
        first_of_image = np.searchsorted(images[by_image], images[by_image])
        turns = np.empty(len(shuffled), dtype=np.int64)
        turns[by_image] = np.arange(len(shuffled)) - first_of_image
        place_of = {image: place for place, image in enumerate(self.images.tolist())}
        passes = []
        for turn in range(int(turns.max()) + 1):
            order = self._block_order([self.seed, epoch, turn])
            assert order is not None, "the same stores were read shard by shard a moment ago"
            position = np.empty(len(self.images), dtype=np.int64)
            position[[place_of[image] for image in order.tolist()]] = np.arange(len(order))
            of_turn = shuffled[turns == turn]
            passes.append(
                of_turn[np.argsort(position[self._image_of_link[of_turn]], kind="stable")]
            )
        return np.concatenate(passes)

    def _block_order(self, seed: Sequence[int]) -> Int64[np.ndarray, " n"] | None:
        def draw() -> list[int] | None:
            order = self.stores.block_order(self.images, seed)
            return None if order is None else order.tolist()

        # others may have less memory and would keep fewer shards
        order = self.processes.broadcast_from_rank0(draw)
        return None if order is None else np.array(order, dtype=np.int64)

    def load(self, rows: BatchRows) -> Batch:
        """Return the batch of these rows, or this process's share of it."""
        batch = self._load_plain(rows) if rows.mix is None else self._load_mixed(rows, rows.mix)
        if not self.teacher:
            return batch
        stores = self.stores
        # a process without rows still gives features of the right width to be gathered
        first = batch.first or [partial(stores.first.padded, rows.first[:0])]
        second = batch.second or [partial(stores.second.padded, rows.second[:0])]
        return replace(batch, teacher=teacher_of(first, second))

    def _load_plain(self, rows: BatchRows) -> Batch:
        first_source, second_source = self.stores.sources
        first, first_order = self._load_share(first_source, rows.first)
        second, second_order = self._load_share(second_source, rows.second)
        ordered = BatchRows(rows.first[first_order], rows.second[second_order])
        if self.by_captions and self.options.same_image == "negative":
            diagonal = np.argsort(first_order), np.argsort(second_order)
            lines, columns = (torch.from_numpy(numbers) for numbers in diagonal)
            positives = Positives(lines, columns, (len(first_order), len(second_order)))
        else:
            positives = self.stores.positives(ordered.first, ordered.second)
        return Batch(ordered, first, second, positives.as_mask(self.most_logits))

    def _load_share(
        self, reader: RowReader, rows: Int64[np.ndarray, " n"]
    ) -> tuple[list[LazyTokens], Int64[np.ndarray, " n"]]:
        """Return the loaders of this process's groups, and the row at each place of all groups."""
        shares = self.processes.shares(len(rows))
        # stable, so that every process knows the order of the groups that others load
        orders = [share[np.argsort(reader.lengths[rows[share]], kind="stable")] for share in shares]
        rank = self.processes.rank
        loads: list[LazyTokens] = []
        if self.chunk_size:
            in_order, size = rows[orders[rank]], self.chunk_size
            starts = range(0, len(in_order), size)
            loads = [partial(reader.padded, in_order[start : start + size]) for start in starts]
        elif len(shares[rank]):
            groups, _ = reader.padded_groups(rows[shares[rank]], GROUPS)
            loads = [partial(_itself, group) for group in groups]
        return loads, np.concatenate(orders)

    def _load_mixed(self, rows: BatchRows, mix: MixupRows) -> Batch:
        """Return the batch of mixtures; chunks of them are mixed again whenever they are loaded."""
        owners = torch.from_numpy(mix.owner)
        shape = len(rows.first), len(rows.second)
        positives = Positives(owners, torch.arange(len(owners)), shape)
        return Batch(
            rows=rows,
            first=self._mixed_chunks(self.stores.first, rows.first, mix.first, mix.share),
            second=self._mixed_chunks(self.stores.second, rows.second, mix.second, mix.share),
            positives=positives.as_mask(self.most_logits),
        )

    def _mixed_chunks(
        self,
        reader: FeatureReader,
        rows: Int64[np.ndarray, " n"],
        partners: Int64[np.ndarray, " n"],
        share: float,
    ) -> list[LazyTokens]:
        own_share = self.processes.shares(len(rows))[self.processes.rank]
        rows, partners = rows[own_share], partners[own_share]
        size = self.chunk_size or max(1, len(rows))
        cuts = [slice(start, start + size) for start in range(0, len(rows), size)]
        loads: list[LazyTokens] = [
            partial(_mixture, reader, rows[cut], partners[cut], share) for cut in cuts
        ]
        # without chunks the batch is read here, ahead of its step
        return loads if self.chunk_size else [partial(_itself, load()) for load in loads]


def _mixture(
    reader: FeatureReader,
    rows: Int64[np.ndarray, " n"],
    partners: Int64[np.ndarray, " n"],
    share: float,
) -> Tokens:
    """Return share x + (1 - share) y of rows x and their partners y, in float32."""
    both = zip(reader.padded(rows).streams, reader.padded(partners).streams, strict=True)
    return StreamTokens.of(
        [
            first.with_values(share * first.values.float() + (1 - share) * second.values.float())
            for first, second in both
        ]
    )


def _check_one_token(reader: FeatureReader) -> None:
    for stream in reader.streams:
        longest = int(stream.lengths.max())
        if longest == 1:
            continue
        what = stream.description
        raise SpecError(
            f"[train.mixup] mixes items of one token each, found {what.modality}s of up to "
            f"{longest} tokens ({what.kind} of {what.encoder}): extract them with --features mean "
            f"or cls, and train with --{what.modality}-features mean or cls"
        )


def _itself(tokens: Tokens) -> Tokens:
    return tokens


def load_ahead(loads: Sequence[LazyTokens]) -> Iterator[Tokens]:
    """Load the next chunk while one is used."""
    return prefetch(lambda load: load(), loads, ahead=1)
