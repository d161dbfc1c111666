"""Request and reports of an extraction; nothing here imports torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...featcache.bounds import MOST_THREADS
from ...featcache.config import check_counts
from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from ...featcache.sources.base import SkippedRow
from ...featcache.store.feature_store import FORMATS
from ...featcache.store.key import COMPRESSIONS, DTYPES, Skipped
from ...featcache.store.remedies import ExtractOptions

_ON_ERROR = re.compile(r"skip|fail|max=(\d{1,18})")


@dataclass(frozen=True, kw_only=True)
class ExtractSpec(ExtractOptions):
    """Settings of one extraction.

    Attributes:
        encoders: Encoder cards by name, file, `timm:MODEL` or `hf:MODEL`; those of one modality
            share each decoded item.
        data: `NAME` or `NAME=PATH` of a dataset.
        home: Folder of everything lightalign keeps.
        split: One split, or None for all.
        weights: File or local hub folder to take instead of the card's own places.
        source: Options of the dataset, by name.
        features: What to keep: `tokens`, `cls`, `mean`, `last`, `pooled`, `grid:HxW`; one store
            each.
        layers: Which layers, counted from the end; one store each. -1 is after the final norm.
        format: Container of the shards, `zarr` or `hdf5`.
        dtype: Stored type: `float16`, `bfloat16`, `float32` or `int8`.
        compression: `none`, `zstd` or `blosc-lz4`; compressed shards are read whole.
        precision: Matrix products in `float32`, `bfloat16`, or `auto`: see `choose_precision`.
        compile: Whether to compile the encoders with torch.compile.
        batch_size: Items per forward pass, or None for as many as are fast and fit the memory.
        workers: Threads that decode and tokenise; 0 does both between forward passes.
        rows_per_shard: Items per shard, or None for about 64 MiB.
        max_bad: Share of a split's items that may be unreadable, in [0, 1].
        on_error: Instead of `max_bad`: `skip` any number, `fail` at the first, or `max=N`.
        device: `auto`, `cpu` or `cuda`.
        derive: Whether features other than tokens are made of a complete store of the same tokens,
            where there is one that is at least as exact, instead of encoding again.
    """

    encoders: tuple[str, ...]
    data: str
    home: Path
    source: Mapping[str, Any] = field(default_factory=dict)
    rows_per_shard: int | None = None
    derive: bool = True

    def __post_init__(self) -> None:
        known_names = (
            ("format", FORMATS.names()),
            ("dtype", DTYPES),
            ("compression", COMPRESSIONS),
        )
        for name, choices in known_names:
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), choices)
        self._check_numbers()
        for name in ("encoders", "features", "layers"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SpecError(f"{name} must name at least one, each once; found {list(values)}")
        if any(layer >= 0 for layer in self.layers):
            raise SpecError(f"layers count from the end, -1 is the last; found {list(self.layers)}")
        if self.weights is not None and len(self.encoders) > 1:
            raise SpecError("weights can be given for one encoder at a time")

    def _check_numbers(self) -> None:
        check_counts(self, {"batch_size": 1, "rows_per_shard": 1})
        check_counts(self, {"workers": 0}, most=MOST_THREADS)
        if not 0 <= self.max_bad <= 1:
            raise SpecError(f"max_bad is a share in [0, 1], found {self.max_bad}")
        if self.on_error is not None and not _ON_ERROR.fullmatch(self.on_error):
            raise SpecError(f"on_error is skip, fail or max=N, found {self.on_error!r:.200}")

    def allowed_bad(self, num_items: int) -> int:
        """Return how many of a split's items may be unreadable."""
        matched = _ON_ERROR.fullmatch(self.on_error or "")
        if matched is None:
            return int(self.max_bad * num_items)
        if matched[1] is not None:
            return int(matched[1])
        return num_items if self.on_error == "skip" else 0


@dataclass(frozen=True, kw_only=True)
class StoreReport:
    """Report of one store of an extraction.

    Attributes:
        encoder: Name of the encoder card.
        modality: What was encoded.
        layer: Which of the encoder's layers.
        kind: What was kept of its tokens.
        split: Name of the split.
        folder: The store.
        key: Its full key.
        rows: Rows in the store.
        tokens: Tokens in the store.
        bytes: Size of the store's shards.
        encoded: Items that this call encoded for it; 0 when the cache had them all.
        derived: Items that this call made of stored tokens instead.
        derived_from: Name of the store of these tokens below the home, or None.
        skipped: Items without a row, and why.
        seconds: Wall-clock time of the pass that filled it and others of its split and modality.
        shares: Seconds of it in which the encoding thread waited for items (`decode`), ran
            encoders (`encode`), or waited for the writer (`write`); of derived features, read
            tokens, reduced them, or waited for the writer.
    """

    encoder: str
    modality: str
    layer: int
    kind: str
    split: str
    folder: Path
    key: str
    rows: int
    tokens: int
    bytes: int
    encoded: int
    skipped: tuple[Skipped, ...]
    seconds: float
    shares: Mapping[str, float]
    derived: int = 0
    derived_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """Report of one extraction.

    Attributes:
        dataset: Name of the dataset.
        weights: Where the weights of each encoder came from.
        stores: One report a store.
        skipped_rows: Rows of the dataset's table that cannot be read, and so are no items.
        stood_for: What the name stood for before, in words, where that was something else.
    """

    dataset: str
    weights: Mapping[str, str]
    stores: tuple[StoreReport, ...]
    skipped_rows: tuple[SkippedRow, ...] = ()
    stood_for: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoreEstimate:
    """Estimated size of one store, and the part of it that is missing.

    Attributes:
        encoder: Name of the encoder card.
        split: Name of the split.
        layer: Which of the encoder's layers.
        kind: What is kept of its tokens.
        key: The store's key.
        rows: Items of the split, each a row if it can be read.
        missing: Items that are still to be encoded or derived; 0 for a complete store.
        bytes: Size of the whole store's shards.
        missing_bytes: Size of the shards that are still to be written.
        derived_from: Name of the store of tokens that it would be made of, or None.
    """

    encoder: str
    split: str
    layer: int
    kind: str
    key: str
    rows: int
    missing: int
    bytes: int
    missing_bytes: int
    derived_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated cost of one extraction.

    Attributes:
        stores: Every store that it would fill.
        missing_bytes: What it would write.
        free_bytes: What the disk of the home folder has left.
        peak_memory_bytes: Largest resident memory, with the encoders.
        minutes: Time for what is missing, from a timed probe; the encoders' loading is not in it.
    """

    stores: tuple[StoreEstimate, ...]
    missing_bytes: int
    free_bytes: int
    peak_memory_bytes: int
    minutes: float
