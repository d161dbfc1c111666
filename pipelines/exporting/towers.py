"""Towers as modules of tensors alone, for exports: the adapter's half, and all from the input on.

Axis names: `batch` rows, `tokens` positions after padding, `width` features of one token, `embed`
features of an embedding, `n` embeddings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...adapters.adapter import Adapter
from ...featcache.encoders.exportable import ATTENTION_MASK, ExportableEncoder
from ...featcache.errors import ExportError, WeightsNotFoundError
from ...featcache.modalities import reader_of
from ...featcache.store.stored_form import as_stored
from ...featcache.tokens import Tokens
from ...featcache.types import Modality
from ..runs import run_folder
from ..runs.embedder import Embedder
from ..runs.run_encoders import EncoderView

TOLERANCE = 1e-4  # largest difference of a cosine that an export may make
_DIRECTIONS = 512  # drawn beside the rows themselves: enough to see any turn of the space


class AdapterTower(nn.Module):
    """Embed the features of one modality.

    Args:
        adapter: Trained adapter; the steps of this modality are taken, the same objects.
        modality: Which of its towers.
    """

    def __init__(self, adapter: Adapter, modality: Modality) -> None:
        super().__init__()
        path = adapter.paths[modality]
        self.width = adapter.widths[modality]
        self.modality = modality
        self.adapter = Adapter(
            {name: adapter.get_submodule(f"steps.{name}") for name in path},  # type: ignore[misc]
            paths={modality: path},
            widths={modality: self.width},
        )
        self.eval()

    def forward(
        self, values: Float[Tensor, "batch tokens width"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch embed"]:
        """Return the embedding of each row, of length 1."""
        return self.adapter.embed(Tokens(values, mask), self.modality)


class WholeTower(nn.Module):
    """Embed what an encoder's preprocessing gives: the encoder, what a store keeps, the adapter.

    Args:
        portable: The encoder up to the layer that was trained on.
        reading: What the training kept of its tokens.
        tower: The adapter's half.
    """

    def __init__(
        self, portable: ExportableEncoder, reading: EncoderView, tower: AdapterTower
    ) -> None:
        super().__init__()
        names = list(portable.axes)
        self.encoder = portable.model
        self.tower = tower
        self._mask = names.index(ATTENTION_MASK) if ATTENTION_MASK in names else None
        self._reading = reading
        self.eval()

    def forward(self, *inputs: Tensor) -> Float[Tensor, "batch embed"]:
        """Return the embedding of each row, of length 1."""
        values = self.encoder(*inputs)
        mask = torch.ones_like(values[:, :, 0], dtype=torch.bool)
        # a pooled output is one token, whatever the tokens of its item were
        if self._mask is not None and self._reading.kind.name != "pooled":
            mask = inputs[self._mask] > 0
        reduced = self._reading.kind.reduce(Tokens(values, mask), self._reading.layout)
        stored = as_stored(reduced.values, self._reading.dtype)
        embedding: Tensor = self.tower(stored.floats().to(torch.float32), reduced.mask)
        return embedding


@torch.inference_mode()
def padding_takes_part(tower: AdapterTower) -> bool:
    """Return whether a row's embedding depends on its padding, as in published presets."""
    values = torch.randn(1, 5, tower.width, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5)[None] < 3
    alone = tower(values[:, :3], mask[:, :3])
    return bool((tower(values, mask) - alone).norm() > TOLERANCE)


def cosine_difference(
    embeddings: Float[np.ndarray, "n embed"], expected: Float[np.ndarray, "n embed"]
) -> float:
    """Return the largest difference that embeddings instead of `expected` ones make to a cosine.

    The cosines are those to all expected embeddings and to some fixed random directions, so that an
    export whose space is turned as a whole is seen as well. NaN counts as infinite.
    """
    directions = np.random.default_rng(0).standard_normal((_DIRECTIONS, expected.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    all_others = np.concatenate([expected, directions])
    # in float64, so that the comparison adds no rounding of its own
    worst = float(np.abs((embeddings.astype(np.float64) - expected) @ all_others.T).max())
    return worst if np.isfinite(worst) else float("inf")


def require_faithful(differences: Mapping[str, float], *, remedy: str = "") -> float:
    """Return the largest of some cosine differences, each under what was compared.

    Args:
        differences: By what was compared, how far cosines are from the run's.
        remedy: What to do about a difference, if anything is known to help.

    Raises:
        ExportError: It is larger than `TOLERANCE`.
    """
    name = max(differences, key=lambda name: differences[name])
    worst = differences[name]
    if worst > TOLERANCE:
        raise ExportError(
            f"{name}: the export gives other cosines than the run: they differ by up to "
            f"{worst:.1e}, more than {TOLERANCE:.0e}; nothing was written{remedy and f': {remedy}'}"
        )
    return worst


def encoder_table(folder: Path, modality: Modality) -> dict[str, Any]:
    """Return what finds the encoder of a tower again, as far as the run recorded it."""
    table = run_folder.read_spec(folder)
    stored = table["stores"]["train"].get(modality.value, {})  # earlier versions wrote less
    features = {key: stored[key] for key in ("layer", "kind", "dtype", "width") if key in stored}
    return {"encoder": table.get("encoders", {}).get(modality.value), "features": features}


def open_reading(embedder: Embedder, modality: Modality) -> EncoderView:
    """Open the encoder of a tower.

    Raises:
        LightalignError: See `Embedder`.
    """
    try:
        return embedder.reading(modality)
    except WeightsNotFoundError as error:
        reason = str(error).partition("; of a run that is")[0]
        name = embedder.encoders[modality.value]
        raise WeightsNotFoundError(
            f"{reason}; here that is --weights {name}=PATH, and --to onnx --adapter-only needs none"
        ) from error


def embed_probe(embedder: Embedder, modality: Modality) -> Float[np.ndarray, "n embed"]:
    """Return what the run makes of the fixed probe."""
    contents = probe_contents(modality)
    if modality is Modality.IMAGE:
        return embedder.embed_images(contents)
    return embedder.embed_texts(contents)


def probe_contents(modality: Modality) -> list[Any]:
    """Return the fixed probe: drawn scenes, or their captions."""
    reader = reader_of(modality)
    return [reader.read(item) for item in reader.probe_items()]
