"""Write the towers of a run as ONNX files; `export.py` says which, and what they take."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...adapters.checkpoint import load_adapter
from ...featcache import atomic_files
from ...featcache.encoders.probe import probe_items
from ...featcache.errors import SpecError
from ...featcache.types import Modality
from ...featcache.writing import write_bytes
from ..common.progress import Progress
from ..extraction.exact import inexact_sides, why_inexact
from ..runs import run_folder
from ..runs.embedder import Embedder
from .export_spec import ExportSpec
from .onnx_files import OnnxTower, write_onnx
from .towers import (
    AdapterTower,
    WholeTower,
    cosine_difference,
    embed_probe,
    encoder_table,
    open_reading,
    padding_takes_part,
    require_faithful,
)

_ROWS = ((3, 5), (1, 1), (2, 9))  # of the made-up features that a written tower is tried on


def write_towers(spec: ExportSpec, folder: Path, place: Path, progress: Progress) -> dict[str, Any]:
    """Write ONNX files of the run in `folder` into `place`, and return a table of each tower.

    Raises:
        ExportError: A tower cannot be written, or gives other cosines.
        LightalignError: The run or its encoders cannot be opened; see `Embedder`.
    """
    embedder = Embedder(folder, device="cpu", weights=spec.weights) if spec.whole else None
    adapter = embedder.adapter if embedder is not None else load_adapter(folder)[0]
    described = {}
    for modality in map(Modality, spec.towers or [side.value for side in adapter.paths]):
        tower = AdapterTower(adapter, modality)
        entry = encoder_table(folder, modality)
        entry["padding_takes_part"] = padding_takes_part(tower)
        entry["adapter"] = _write_adapter(tower, place, progress)
        if embedder is not None:
            entry["whole"] = _write_whole(embedder, tower, place, progress)
        described[modality.value] = entry
    return described


def _write_adapter(tower: AdapterTower, place: Path, progress: Progress) -> dict[str, Any]:
    name = f"{tower.modality.value}-adapter"
    progress.note(f"writing {name}.onnx")
    generator = torch.Generator().manual_seed(0)
    cases = []
    for rows, tokens in _ROWS:
        lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
        mask = torch.arange(tokens) < lengths
        cases.append((torch.randn(rows, tokens, tower.width, generator=generator), mask))
    axes = {name: {0: "batch", 1: "tokens"} for name in ("values", "mask")}
    write_onnx(place / f"{name}.onnx", tower, cases[0], axes)
    written = OnnxTower(place / f"{name}.onnx")
    with torch.inference_mode():
        differences = {
            f"{name} on {tuple(case[0].shape)} features": cosine_difference(
                written(*case), tower(*case).numpy()
            )
            for case in cases
        }
    return _describe_file(place, name, written, require_faithful(differences))


def _write_whole(
    embedder: Embedder, tower: AdapterTower, place: Path, progress: Progress
) -> dict[str, Any]:
    """Write encoder and adapter in one file, or return why the encoder cannot be written."""
    inexact = inexact_sides(run_folder.read_spec(embedder.folder), [tower.modality.value])
    if inexact:
        return {"left_out": why_inexact(inexact[tower.modality.value])}
    reading = open_reading(embedder, tower.modality)
    try:
        portable = reading.encoder.portable(reading.kind.layer_read(reading.layer))
    except SpecError as error:
        return {"left_out": str(error)}
    name = tower.modality.value
    progress.note(f"writing {name}.onnx")
    prepared = [reading.encoder.prepare(item) for item in probe_items(tower.modality)]
    whole = WholeTower(portable, reading, tower)
    write_onnx(place / f"{name}.onnx", whole, portable.collate(prepared[:3]), portable.axes)
    written = OnnxTower(place / f"{name}.onnx")
    # one by one, so that no row is padded; a batch of all shows what padding changes
    alone = np.concatenate([written(*portable.collate([example])) for example in prepared])
    differences = {f"{name}.onnx": cosine_difference(alone, embed_probe(embedder, tower.modality))}
    with torch.inference_mode():
        # of texts of several lengths some are padded, which a graph must be traced with
        batch = portable.collate(prepared)
        differences[f"{name}.onnx on a batch"] = cosine_difference(
            written(*batch), whole(*batch).numpy()
        )
    for file, text in portable.files.items():
        write_bytes(place / file, text.encode())
    described = _describe_file(place, name, written, require_faithful(differences))
    return {**described, "needs": sorted(portable.files)}


def _describe_file(place: Path, name: str, written: OnnxTower, worst: float) -> dict[str, Any]:
    file = place / f"{name}.onnx"
    # weights beyond 2 GB, the most that one ONNX file holds, lie beside it
    files = [file, *place.glob(f"{name}.onnx.*")]
    return {
        "file": file.name,
        "sha256": atomic_files.sha256_file(file),
        "bytes": sum(part.stat().st_size for part in files),
        **written.describe(),
        "largest_cosine_difference": worst,
    }
