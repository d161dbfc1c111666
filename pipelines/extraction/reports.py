"""Reports of an extraction, and of what one would cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.sources.base import SkippedRow
from ...featcache.store.key import Skipped


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
class ViewReport(StoreReport):
    """Report of the store of a view, whose rows count as items.

    Attributes:
        view: Name and options of the view.
    """

    view: Mapping[str, Any]


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
class ViewEstimate(StoreEstimate):
    """Estimated size of the store of a view, whose rows count as items.

    Attributes:
        view: Name and options of the view.
    """

    view: Mapping[str, Any]


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
