"""Run one frozen encoder once over a dataset and keep its features."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..featcache.backends import load_encoder
from ..featcache.card import read_card
from ..featcache.datasets import open_source, parse_data
from ..featcache.description import Skipped
from ..featcache.errors import SpecError
from ..featcache.registry import unknown_name
from ..featcache.source import Source
from ..featcache.weights import find_weights
from .progress import SILENT, Progress

DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class ExtractSpec:
    """Say what to extract.

    Attributes:
        encoder: Name of an encoder card.
        data: `NAME` or `NAME=PATH` of a dataset.
        home: Folder of everything lightalign keeps.
        split: One split, or None for all.
        weights: File or local hub folder to take instead of the card's own places.
        source: Options of the dataset, by name.
        format: Container of the shards, `zarr` or `hdf5`.
        dtype: Stored type, `float16` or `float32`.
        batch_size: Items per forward pass.
        workers: Threads that decode and tokenise.
        rows_per_shard: Items per shard, or None for about 64 MiB.
        max_bad: Share of a split's items that may be unreadable, in [0, 1].
        device: `auto`, `cpu` or `cuda`.
    """

    encoder: str
    data: str
    home: Path
    split: str | None = None
    weights: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    format: str = "zarr"
    dtype: str = "float16"
    batch_size: int = 32
    workers: int = 2
    rows_per_shard: int | None = None
    max_bad: float = 0.01
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        for name in ("batch_size", "workers", "rows_per_shard"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SpecError(f"{name} must be at least 1, found {value}")
        if not 0 <= self.max_bad <= 1:
            raise SpecError(f"max_bad is a share in [0, 1], found {self.max_bad}")


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Say what was done for one split.

    Attributes:
        split: Name of the split.
        folder: The store.
        key: Its full key.
        rows: Rows in the store.
        tokens: Tokens in the store.
        bytes: Size of the store's shards.
        encoded: Items that this call encoded; 0 when the cache had them all.
        skipped: Items without a row, and why.
        seconds: Wall-clock time of this call.
    """

    split: str
    folder: Path
    key: str
    rows: int
    tokens: int
    bytes: int
    encoded: int
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """Say what one call of `extract` did.

    Attributes:
        encoder: Name of the encoder card.
        weights: Where its weights came from.
        dataset: Name of the dataset.
        modality: What was encoded.
        splits: One report a split.
    """

    encoder: str
    weights: str
    dataset: str
    modality: str
    splits: tuple[SplitReport, ...]


def run(spec: ExtractSpec, progress: Progress = SILENT) -> ExtractReport:
    """Extract every split that `spec` asks for, going on where an earlier call stopped.

    Raises:
        LightalignError: The dataset, the weights or too many items are not usable.
    """
    dataset, _ = parse_data(spec.data)
    source = open_source(spec.data, home=spec.home, options=spec.source)
    splits = _chosen_splits(source, spec.split)
    card = read_card(spec.encoder)
    # weights are looked for before anything is said or torch is imported
    found = find_weights(card, override=spec.weights, progress=progress.shows_downloads)
    for note in source.notes():
        progress.note(f"{dataset}: {note}")
    progress.note(f"loading encoder {spec.encoder}, weights: {found.origin}")
    encoder = load_encoder(card, found, device=spec.device)
    from .encode import extract_split  # imports torch; what is missing is reported without it

    modality = encoder.modality
    empty = [split for split in splits if not source.items(split, modality)]
    if len(empty) == len(splits):
        raise SpecError(f"no split of {list(splits)} of {dataset} holds {modality.value} items")
    for split in empty:
        progress.note(f"{dataset}: split {split!r} holds no {modality.value} items, passed over")
    reports = tuple(
        extract_split(spec, source, encoder, dataset, split, progress)
        for split in splits
        if split not in empty
    )
    return ExtractReport(
        encoder=spec.encoder,
        weights=found.origin,
        dataset=dataset,
        modality=modality.value,
        splits=reports,
    )


def _chosen_splits(source: Source, split: str | None) -> tuple[str, ...]:
    splits = source.splits()
    if split is None:
        return splits
    if split not in splits:
        raise unknown_name("split", split, splits)
    return (split,)
