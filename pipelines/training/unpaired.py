"""Batches of items without a partner, drawn beside those of the pairs."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.objective import TeacherFeatures
from ...adapters.positives import Positives
from ...featcache.errors import SpecError
from ...featcache.reading.reader import FeatureReader
from ...featcache.reading.shuffle import block_shuffle
from ...featcache.types import Side
from ..inputs.pairs import BatchRows, PairDataset
from ..inputs.unpaired_stores import UnpairedStores
from .batches import Batch, load_share
from .distributed import ALONE, ProcessGroup
from .linear_teacher import LinearTeacher
from .options import TrainPlan
from .unpaired_options import unpaired_options


def open_unpaired(
    plan: TrainPlan,
    stores: PairDataset,
    held_out: Int64[np.ndarray, " n"],
    *,
    seed: int,
    device: torch.device,
    processes: ProcessGroup = ALONE,
) -> "UnpairedBatches | None":
    """Return the batches of unpaired items of a plan, or None where it has none.

    Items of the images `held_out`, which validate, are not among them.

    Raises:
        SpecError: A side has fewer than two rows, or a teacher like that cannot be.
        UnknownNameError: There is no such solver or residency.
    """
    if plan.unpaired is None:
        return None
    options = unpaired_options(plan.table)
    widths = {side: entry.description.width for side, entry in plan.stores.entries.items()}
    firsts = stores.all_firsts(held_out)
    seconds = {second for first in firsts.tolist() for second in stores.seconds_of[first]}
    rows = (firsts.tolist(), sorted(seconds))
    held_ids = {
        side: frozenset(reader.ids[row] for row in side_rows)
        for side, reader, side_rows in zip(
            plan.stores.sides, (stores.first, stores.second), rows, strict=True
        )
        # ids of another split may be the same numbers and stand for other items
        if plan.unpaired.entries[side].description.source == plan.stores.source
    }
    return UnpairedBatches(
        plan.unpaired,
        size=options.batch_size,
        teacher=LinearTeacher(options, widths=widths, device=device),
        seed=seed,
        residency=plan.options.residency,
        device=device,
        chunk_size=plan.options.chunk_size,
        processes=processes,
        left_out=held_ids,
    )


class UnpairedBatches:
    """Draw and load the unpaired rows of each step.

    The rows of a side come in an order of its own, pass after pass over its store, and a batch has
    the next ones of either; what is left over after the whole batches of a pass waits for another.
    Which rows a batch has depends on the seed and its number alone. All tokens of a row are read
    for it, also where a tower begins with a pool.

    Args:
        stores: Where the features are.
        size: Rows of a side in a batch, at most as many as there are.
        teacher: What says which of them are near to one another.
        seed: Seed of the orders.
        residency: As in `FeatureReader`; so is `device`.
        chunk_size: Rows that are loaded at a time, or 0 for all.
        processes: Who shares the rows of each batch.
        left_out: Ids of each side that are not to be learnt from, such as what validates.

    Attributes:
        sizes: Rows of each side in a batch.

    Raises:
        SpecError: A side has fewer than two rows.
        UnknownNameError: There is no such residency.
    """

    def __init__(
        self,
        stores: UnpairedStores,
        *,
        size: int,
        teacher: LinearTeacher,
        seed: int,
        residency: str = "auto",
        device: torch.device | None = None,
        chunk_size: int = 0,
        processes: ProcessGroup = ALONE,
        left_out: Mapping[Side, frozenset[str]] | None = None,
    ) -> None:
        self.teacher = teacher
        self.readers = {
            side: FeatureReader(entry.folder, residency=residency, device=device)
            for side, entry in stores.entries.items()
        }
        self._seed = seed
        self._chunk_size = chunk_size
        self._processes = processes
        self._rows = {
            side: _rows_but(reader, (left_out or {}).get(side, frozenset()))
            for side, reader in self.readers.items()
        }
        for side, rows in self._rows.items():
            if len(rows) < 2:
                raise SpecError(
                    f"{len(rows)} unpaired {side.label}s are left to learn from, and one item "
                    "takes all there is: name another store"
                )
        self.sizes = {side: min(size, len(rows)) for side, rows in self._rows.items()}
        # others may have less memory and would keep fewer shards
        self._buffers = processes.broadcast_from_rank0(
            lambda: [reader.buffer_shards for reader in self.readers.values()]
        )
        self._passes: dict[Side, tuple[int, Int64[np.ndarray, " n"]]] = {}

    @property
    def num_by_side(self) -> dict[str, int]:
        """Return how many rows of each side are learnt from, by its name."""
        return {side.value: len(rows) for side, rows in self._rows.items()}

    def rows(self, number: int) -> BatchRows:
        """Return the rows of a batch; they are counted from 0 over all epochs."""
        first, second = (self._next(stream, side, number) for stream, side in enumerate(self._rows))
        return BatchRows(first, second)

    def load(self, number: int) -> Batch:
        """Return a batch with the teacher's vectors, or this process's share of it."""
        rows = self.rows(number)
        loaded = [
            load_share(reader, side_rows, chunk_size=self._chunk_size, processes=self._processes)
            for reader, side_rows in zip(
                self.readers.values(), (rows.first, rows.second), strict=True
            )
        ]
        (first, first_order), (second, second_order) = loaded
        # a process without rows still gives vectors of the right width to be gathered
        vectors = [
            self.teacher.vectors(loads or [partial(reader.padded, np.zeros(0, np.int64))], side)
            for (side, reader), (loads, _) in zip(self.readers.items(), loaded, strict=True)
        ]
        none = torch.zeros(0, dtype=torch.int64)
        return Batch(
            BatchRows(rows.first[first_order], rows.second[second_order]),
            first,
            second,
            Positives(none, none, (len(first_order), len(second_order))),
            TeacherFeatures(*vectors),
        )

    def _next(self, stream: int, side: Side, number: int) -> Int64[np.ndarray, " size"]:
        """Return the rows of one side in a batch."""
        size = self.sizes[side]
        turn, place = divmod(number, len(self._rows[side]) // size)
        # read once: the thread of an epoch that was left early may still load another batch
        kept_turn, order = self._passes.get(side, (-1, None))
        if order is None or kept_turn != turn:
            order = self._order(stream, side, turn)
            self._passes[side] = turn, order
        return order[place * size : (place + 1) * size]

    def _order(self, stream: int, side: Side, turn: int) -> Int64[np.ndarray, " n"]:
        """Return the rows of one side in the order of a pass."""
        # a spawn key, as the orders of pairs take the seed with an epoch and a turn behind it
        sequence = np.random.SeedSequence(self._seed, spawn_key=(stream, turn))
        rows = self._rows[side]
        buffer_shards = self._buffers[stream]
        if buffer_shards is None:
            return np.random.default_rng(sequence).permutation(rows)
        order = block_shuffle(
            self.readers[side].first_rows,
            seed=sequence.generate_state(4).tolist(),
            buffer_shards=buffer_shards,
        )
        return order[np.isin(order, rows)]


def _rows_but(reader: FeatureReader, left_out: frozenset[str]) -> Int64[np.ndarray, " n"]:
    """Return the rows of a store without those of some ids."""
    if not left_out:
        return np.arange(len(reader))
    places = [reader.row_of[item] for item in left_out if item in reader.row_of]
    return np.setdiff1d(np.arange(len(reader)), np.array(places, dtype=np.int64))
