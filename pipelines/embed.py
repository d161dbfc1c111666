"""Turn stored features into embeddings through an adapter, row by row in bounded memory."""

import numpy as np
import torch
from jaxtyping import Float32, Int64

from ..adapters.adapter import Adapter
from ..featcache.errors import DivergedError
from ..featcache.reader import FeatureReader
from ..featcache.types import Modality
from .metrics import Relevance
from .pairs import PairedStores
from .progress import SILENT, Progress
from .task import PairedEmbeddings

_BATCH_ELEMENTS = 2**24  # float32 features, or embeddings, held at once: 64 MiB


def embed_rows(
    adapter: Adapter,
    reader: FeatureReader,
    rows: Int64[np.ndarray, " n"],
    *,
    device: torch.device,
    progress: Progress = SILENT,
) -> Float32[np.ndarray, "n embed"]:
    """Return the unit-length embedding of each row, in float32 and evaluation mode.

    Args:
        adapter: The adapter; its training mode is restored afterwards.
        reader: Store of one modality.
        rows: Row numbers.
        device: Where the adapter is.
        progress: Receives the progress.

    Raises:
        DivergedError: An embedding is not finite.
    """
    modality = Modality(reader.description.modality)
    longest = int(reader.lengths.max())
    row_elements = max(longest * reader.description.width, adapter.out_width)
    size = max(1, _BATCH_ELEMENTS // row_elements)
    starts = range(0, len(rows), size)
    was_training = adapter.training
    adapter.eval()
    parts = []
    label = f"embed {modality.value}s"
    with torch.inference_mode():
        for start in progress.track(starts, label, len(starts), unit="batches"):
            tokens = reader.padded(rows[start : start + size]).to(device)
            parts.append(adapter.embed(tokens, modality).cpu().numpy())
    adapter.train(was_training)
    embeddings = np.concatenate(parts)
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        item = reader.ids[int(rows[np.argmin(finite)])]
        raise DivergedError(f"the embedding of {item!r} is not finite: lower train.learning_rate")
    return embeddings


def embed_pairs(
    adapter: Adapter,
    stores: PairedStores,
    *,
    image_rows: Int64[np.ndarray, " n"] | None = None,
    device: torch.device,
    progress: Progress = SILENT,
) -> PairedEmbeddings:
    """Return the embeddings of some images (all if none are named) and of all their texts."""
    images = stores.image_rows if image_rows is None else np.sort(image_rows)
    texts = stores.texts_of_images(images)
    place = {text: position for position, text in enumerate(texts.tolist())}
    texts_of = [[place[text] for text in stores.texts_of[image]] for image in images.tolist()]
    images_of: list[list[int]] = [[] for _ in range(len(texts))]
    for position, belonging in enumerate(texts_of):
        for text in belonging:
            images_of[text].append(position)
    return PairedEmbeddings(
        images=embed_rows(adapter, stores.image, images, device=device, progress=progress),
        texts=embed_rows(adapter, stores.text, texts, device=device, progress=progress),
        image_ids=tuple(stores.image.ids[row] for row in images.tolist()),
        text_ids=tuple(stores.text.ids[row] for row in texts.tolist()),
        texts_of_image=Relevance.of(texts_of),
        images_of_text=Relevance.of(images_of),
    )
