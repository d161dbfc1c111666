"""Find the training items that qb-norm is normalised by."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.errors import SpecError, StoreNotFoundError
from ...featcache.reading.reader import FeatureReader
from ...featcache.reading.streams import open_streams
from ...featcache.store.catalog import read_catalog
from ...featcache.types import Side
from ..common.progress import Progress
from ..inputs.pairs import BatchRows, PairDataset
from ..inputs.store_selection import extract_again, recorded_streams
from ..runs.embed_stored import embed_rows
from ..runs.trained_run import TrainedRun


@dataclass(frozen=True)
class BankRows:
    """Rows of a training store that are the query bank of one side."""

    reader: FeatureReader
    rows: Int64[np.ndarray, " b"]


def find_bank(
    evaluated: TrainedRun, paired: PairDataset, tested: BatchRows, *, home: Path, most: int
) -> dict[Side, BankRows]:
    """Return training items of each side; none of an evaluated id.

    Of more than `most` items of a side some are drawn.

    Raises:
        StoreNotFoundError: The stores that were trained on are not there.
        SpecError: Every training item is evaluated, too.
    """
    stored = read_catalog(home)
    recorded = evaluated.stores["train"]
    readers = ((paired.first, tested.first), (paired.second, tested.second))
    bank = {}
    for side, (reader, rows) in zip(evaluated.sides, readers, strict=True):
        folders = []
        of_side = recorded[side.value], evaluated.encoders.get(side.value)
        for store, encoder in recorded_streams(*of_side):
            entry = stored.get(store["key"])
            if entry is None:
                raise StoreNotFoundError(
                    f"qb-norm needs the {side.label}s that {evaluated.folder.name} was trained on, "
                    f"and their store {stored.why_missing(store['key'])}: extract it again by "
                    f"`{extract_again(home, recorded, store, encoder)}`"
                )
            folders.append(entry.folder)
        # a bank that holds the query itself would normalise by its own answer
        left_out = {reader.ids[row] for row in rows.tolist()}
        trained = open_streams(folders, residency="disk")
        untested = np.array([row for row, item in enumerate(trained.ids) if item not in left_out])
        if not len(untested):
            raise SpecError("qb-norm has no bank: every training item is evaluated, too")
        # a fixed seed: a report should not change from call to call
        chosen = np.random.default_rng(0).permutation(untested)[:most]
        bank[side] = BankRows(trained, np.sort(chosen))
    return bank


def embed_bank(
    evaluated: TrainedRun, bank: Mapping[Side, BankRows], progress: Progress
) -> dict[str, Float32[np.ndarray, "_ embed"]]:
    """Return the embeddings of the bank of each side, by its name."""
    return {
        side.value: embed_rows(
            evaluated.plain_adapter,
            bank_rows.reader,
            bank_rows.rows,
            side=side,
            device=evaluated.device,
            progress=progress,
        )
        for side, bank_rows in bank.items()
    }
