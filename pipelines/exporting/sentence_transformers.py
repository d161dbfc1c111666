"""Write a tower of a run as a folder that sentence-transformers opens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ...featcache.encoders.backends._transformers import quiet
from ...featcache.errors import ExportError
from ...featcache.types import Modality
from ...featcache.writing import by_library
from ..common.progress import Progress
from ..runs.embedder import Embedder
from .export_spec import ExportSpec
from .stock_modules import build_model, express, require_transformers
from .towers import (
    cosine_difference,
    embed_probe,
    encoder_table,
    open_reading,
    probe_contents,
    require_faithful,
)


def write_tower(
    spec: ExportSpec,
    folder: Path,
    place: Path,
    *,
    modality: Modality,
    remedy: str,
    progress: Progress,
) -> dict[str, Any]:
    """Write one tower of the run in `folder` into `place`, and return a table of it.

    Args:
        spec: Where the encoder's weights are, if they are not found otherwise.
        folder: Folder of the run.
        place: Folder to write into.
        modality: Which tower.
        remedy: What to do if its cosines are not those of the run, or nothing.
        progress: Receives notes.

    Raises:
        ExportError: The tower cannot be expressed in stock modules, or gives other cosines.
        LightalignError: The run or its encoder cannot be opened; see `Embedder`.
    """
    embedder = Embedder(folder, device="cpu", weights=spec.weights)
    reading = open_reading(embedder, modality)
    portable = reading.encoder.portable(reading.kind.layer_read(reading.layer))
    require_transformers(portable, reading.encoder.name)
    stock = express(embedder.adapter, modality, reading)
    progress.note(f"writing the {modality.value} tower for sentence-transformers")
    table = encoder_table(folder, modality)
    with quiet():
        model = build_model(stock, portable)
        with by_library(place):
            model.save(str(place), create_model_card=False)
        # as it will be opened elsewhere, not the model in memory
        embeddings = _encode_saved(place, probe_contents(modality))
    name = f"the {modality.value} tower"
    difference = cosine_difference(embeddings, embed_probe(embedder, modality))
    table["modules"] = [type(module).__name__ for module in model]
    table["largest_cosine_difference"] = require_faithful({name: difference}, remedy=remedy)
    return {modality.value: table}


def _encode_saved(place: Path, contents: Sequence[Any]) -> Float[np.ndarray, "n embed"]:
    from sentence_transformers import SentenceTransformer

    try:
        saved = SentenceTransformer(str(place), device="cpu", local_files_only=True)
        embeddings: np.ndarray = saved.encode(list(contents), show_progress_bar=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"sentence-transformers cannot open what it wrote: {reason}") from error
    return embeddings
