"""Similarity of the items of a training by a run that aligns both sides."""

from pathlib import Path

import numpy as np
import torch

from ....featcache import atomic_files
from ....featcache.errors import SpecError, StoreIncompleteError
from ....featcache.home import command_line
from ....featcache.reading.reader import FeatureReader
from ....featcache.types import in_words
from ...inputs.pairs import PairDataset
from ...inputs.store_selection import DatasetQuery, StorePair, StoreQuery, require_stores
from ...runs import run_folder
from ...runs.embed_stored import Embeddings, embed_store
from ...runs.provenance import describe_pair
from ...runs.trained_run import TrainedRun
from .negatives import DualSimilarity


def dual_similarity(
    home: Path,
    run: str,
    stores: PairDataset,
    *,
    adapter_sha256: str = "",
    scale: float,
    device: torch.device,
) -> DualSimilarity:
    """Embed all items of two stores by a dual run, from its own stores of the same split.

    Args:
        home: Folder of everything lightalign keeps.
        run: Name or folder of the run.
        stores: Items to embed.
        adapter_sha256: Checksum that its adapter must have, or empty for any.
        scale: Factor on cosines.
        device: Where they are embedded.

    Raises:
        RunNotFoundError: There is no such finished run.
        StoreNotFoundError: The split has not been extracted with the run's encoders.
        StoreIncompleteError: An item is not in the run's stores.
        SpecError: The run aligns other sides, or is another than it was.
    """
    dual = TrainedRun(home, run, device=str(device))
    require_adapter(dual.folder, adapter_sha256)
    sides = stores.pair.sides
    if dual.sides != sides:
        raise SpecError(
            f"wrong pairs of {in_words(sides)} are drawn by a run that aligns these, and "
            f"{dual.folder.name} aligns {in_words(dual.sides)}"
        )
    data = DatasetQuery.of_trained(None, describe_pair(stores.pair), home=home, options=None)
    query = StoreQuery.of(data, stores.pair.split, dual.queries)
    pair = StorePair.of(require_stores(home, query))
    first, second = (
        _in_order(
            # offsets of hubs are for ranking a whole gallery, not for what is alike
            embed_store(dual.plain_adapter, pair.streams[side], side=side, device=dual.device),
            reader,
            run=dual.folder.name,
            home=home,
        )
        for side, reader in zip(sides, (stores.first, stores.second), strict=True)
    )
    return DualSimilarity(first, second, scale)


def require_adapter(folder: Path, sha256: str) -> None:
    """Pass if the adapter of a run has a checksum, or none is asked for.

    Raises:
        SpecError: It has another.
    """
    if sha256 and atomic_files.sha256_file(folder / run_folder.WEIGHTS) != sha256:
        raise SpecError(
            f"run {folder.name} is another now than the one whose similarity the training began "
            "with: train anew"
        )


def _in_order(embedded: Embeddings, reader: FeatureReader, *, run: str, home: Path) -> np.ndarray:
    """Return the embeddings in the order of the rows of a store."""
    place_of = {name: place for place, name in enumerate(embedded.ids)}
    ids = [reader.ids[row] for row in range(len(reader))]
    missing = [name for name in ids if name not in place_of]
    if missing:
        raise StoreIncompleteError(
            f"{len(missing):,} items, such as {missing[0]!r}, are not in the stores of run {run}: "
            f"see `{command_line('cache', 'ls', home=home)}`"
        )
    ordered: np.ndarray = embedded.vectors[[place_of[name] for name in ids]]
    return ordered
