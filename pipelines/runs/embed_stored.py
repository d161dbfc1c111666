"""Turn stored features into embeddings through an adapter, row by row in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from ...adapters.adapter import Adapter
from ...featcache.errors import DivergedError
from ...featcache.reading.streams import open_streams
from ...featcache.store.catalog import StoreEntry
from ...featcache.types import Modality, Side
from ..common.progress import SILENT, Progress
from ..inputs.cached_steps import RowReader
from ..inputs.pairs import PairDataset
from ..ranking.embeddings import PairedEmbeddings

_BATCH_ELEMENTS = 2**24  # float32 features, or embeddings, held at once: 64 MiB


def embed_rows(
    adapter: Adapter,
    reader: RowReader,
    rows: Int64[np.ndarray, " n"],
    *,
    side: Side | None = None,
    device: torch.device,
    progress: Progress = SILENT,
    unit: bool = True,
) -> Float32[np.ndarray, "n embed"]:
    """Return the embedding of each row, in float32 and evaluation mode.

    The side is that of the store's modality if None; without `unit` lengths stay as they are. The
    training mode of the adapter is restored.

    Raises:
        DivergedError: An embedding is not finite.
    """
    side = side or Modality(reader.description.modality)
    # the longest row of the store bounds every batch, whichever rows are asked for
    row_elements = max(reader.largest_row(np.arange(len(reader.lengths))), adapter.out_width)
    size = max(1, _BATCH_ELEMENTS // row_elements)
    starts = range(0, len(rows), size)
    was_training = adapter.training
    adapter.eval()
    parts = []
    label = f"embed {side.label}s"
    embed = adapter.embed if unit else adapter.embed_unnormalised
    with torch.inference_mode():
        for start in progress.track(starts, label, len(starts), unit="batches"):
            tokens = reader.padded(rows[start : start + size]).to(device)
            parts.append(embed(tokens, side).cpu().numpy())
    # validation embeds in the middle of a training, whose dropout goes on afterwards
    adapter.train(was_training)
    embeddings = np.concatenate(parts)
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        item = reader.ids[int(rows[np.argmin(finite)])]
        raise DivergedError(f"the embedding of {item!r} is not finite: lower train.learning_rate")
    return embeddings


def embed_pairs(
    adapter: Adapter,
    stores: PairDataset,
    *,
    images: Int64[np.ndarray, " n"] | None = None,
    device: torch.device,
    progress: Progress = SILENT,
) -> PairedEmbeddings:
    """Return the embeddings of some images (all if none are named) and of all their texts.

    Between two encoders of texts: of all texts of these images, on both sides.

    Raises:
        DivergedError: An embedding is not finite.
        SpecError: Nothing has a right answer.
    """
    related = stores.relations(stores.images if images is None else np.sort(images))
    rows = (related.rows.first, related.rows.second)
    first, second = (
        embed_rows(adapter, reader, side_rows, side=side, device=device, progress=progress)
        for reader, side_rows, side in zip(stores.sources, rows, stores.pair.sides, strict=True)
    )
    return PairedEmbeddings(
        first=first,
        second=second,
        first_ids=tuple(stores.first.ids[row] for row in rows[0].tolist()),
        second_ids=tuple(stores.second.ids[row] for row in rows[1].tolist()),
        seconds_of_first=related.seconds_of_first,
        firsts_of_second=related.firsts_of_second,
        sides=stores.pair.sides,
        anchors=related.anchors,
    )


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a store, with their ids."""

    ids: tuple[str, ...]
    vectors: Float32[np.ndarray, "n embed"]


def embed_store(
    adapter: Adapter,
    entries: Sequence[StoreEntry],
    *,
    side: Side,
    sample: int | None = None,
    device: torch.device,
    progress: Progress = SILENT,
) -> Embeddings:
    """Return the unit-length embedding of each row of the stores of a side, or of some of them.

    `entries` are the stores of its streams; `sample` draws so many rows, at most.

    Raises:
        DivergedError: An embedding is not finite.
    """
    reader = open_streams([entry.folder for entry in entries])
    rows = np.arange(len(reader))
    if sample is not None:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:sample])
    vectors = embed_rows(adapter, reader, rows, side=side, device=device, progress=progress)
    return Embeddings(tuple(reader.ids[row] for row in rows.tolist()), vectors)
