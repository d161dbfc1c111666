"""Evaluate a run by retrieval across its two sides from stored features."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..featcache import files
from ..featcache.backends import resolve_device
from ..featcache.errors import SpecError, StoreCorruptError
from ..featcache.types import IMAGE_TEXT, TEXT_TEXT, TextSide
from . import runs
from .environment import library_versions
from .progress import SILENT, Progress
from .stores import SideQuery, StorePair, StoreQuery, WantedData, require_pair


@dataclass(frozen=True, kw_only=True)
class RetrieveSpec:
    """Say what to evaluate.

    Attributes:
        home: Folder of everything lightalign keeps.
        run: Name or folder of a run, or None for the newest.
        data: `NAME` of a dataset, or None for the run's own, for the newest stores;
            `NAME=PATH` for those of the dataset as it is there now.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        split: Split to evaluate on.
        k: Largest rank of the recall curve.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    run: str | None = None
    data: str | None = None
    source: Mapping[str, Any] | None = None
    split: str = "test"
    k: int = 100
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise SpecError(f"k must be at least 1, found {self.k}")


@dataclass(frozen=True, kw_only=True)
class RetrieveReport:
    """Say what was measured.

    Attributes:
        folder: The run folder.
        path: The report file.
        report: Its content.
    """

    folder: Path
    path: Path
    report: Mapping[str, Any]


def run(spec: RetrieveSpec, progress: Progress = SILENT) -> RetrieveReport:
    """Embed both sides of a split through the run's adapter and measure retrieval.

    Raises:
        RunNotFoundError: There is no such finished run.
        StoreNotFoundError: The split has not been extracted with the run's encoders.
        StoreCorruptError: The run's or the store's files contradict one another.
    """
    folder = runs.find_run(spec.home, spec.run)
    trained = runs.read_report(folder)
    stores = require_pair(spec.home, _query(folder, trained, spec), progress)
    progress.note(f"run {folder.name}, split {spec.split!r} of {stores.dataset}")
    from ..adapters.checkpoint import load_adapter  # imports torch, as all below do
    from .embed import embed_pairs
    from .pairs import join_stores
    from .tasks.retrieval import Retrieval

    began = time.perf_counter()
    device = resolve_device(spec.device)
    adapter, _, _ = load_adapter(folder)
    adapter.to(device)
    paired = join_stores(stores, home=spec.home)
    warnings = _warnings(trained, stores, num_links_lost=paired.num_links_lost)
    for warning in warnings:
        progress.note(warning)
    embeddings = embed_pairs(adapter, paired, device=device, progress=progress)
    measured = Retrieval(k=spec.k).run(embeddings)
    report = {
        "kind": "retrieval",
        "run": folder.name,
        "dataset": stores.dataset,
        "split": spec.split,
        "source": stores.source,
        "stores": {side.value: entry.key for side, entry in stores.entries.items()},
        "encoders": {
            side.value: entry.description.encoder for side, entry in stores.entries.items()
        },
        "adapter_sha256": files.sha256_file(folder / runs.WEIGHTS),
        "num_links_lost": paired.num_links_lost,
        "warnings": warnings,
        "metrics": measured,
        "definitions": Retrieval.definitions,
        "seconds": time.perf_counter() - began,
        "versions": library_versions(),
        "training": trained["spec"],
    }
    path = folder / f"retrieve-{stores.dataset}-{spec.split}.json"
    files.write_json(path, report)
    return RetrieveReport(folder=folder, path=path, report=report)


def _query(folder: Path, trained: Mapping[str, Any], spec: RetrieveSpec) -> StoreQuery:
    try:
        stores = trained["spec"]["stores"]["train"]
        sides = TEXT_TEXT if TextSide.FIRST.value in stores else IMAGE_TEXT
        wanted = WantedData.of(spec.data or stores["dataset"], home=spec.home, options=spec.source)
        return StoreQuery(
            split=spec.split,
            dataset=wanted.name,
            source=wanted.fingerprint(spec.split),
            by_side={
                side: SideQuery(
                    encoder=stores[side.value]["encoder"], key=stores[side.value]["encoder_key"]
                )
                for side in sides
            },
        )
    except (KeyError, TypeError) as error:
        raise StoreCorruptError(f"{folder / runs.REPORT} lacks {error}") from error


def _warnings(trained: Mapping[str, Any], stores: StorePair, *, num_links_lost: int) -> list[str]:
    """Say in which way this split has been seen before, and what of it is missing."""
    warnings = []
    described = trained["spec"]["stores"]
    validation = described.get("validation")
    if described["train"]["source"] == stores.source:
        warnings.append(
            "the adapter was trained on this very split: these numbers say nothing of new data"
        )
    elif validation is not None and validation["source"] == stores.source:
        warnings.append("this split chose the epoch: its numbers are optimistic")
    if num_links_lost:
        warnings.append(
            f"{num_links_lost} image-caption pairs are left out: an item of theirs could not be "
            "read (`lightalign cache info` lists them)"
        )
    return warnings
