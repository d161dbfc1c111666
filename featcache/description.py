"""What a store holds, and the key that follows from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SpecError
from .spec import fingerprint

FORMAT_VERSION = 1  # of keys and layout; a change makes older stores unreachable, not wrong


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Name an item that could not be encoded, and why."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """Say what a store holds; the part that changes numbers makes its key.

    Attributes:
        dataset: Name of the dataset; it and `split` name folders.
        split: Name of the split.
        source: `Source.fingerprint` of the split.
        encoder: Name of the encoder card.
        identity: `Encoder.identity()`.
        modality: What was encoded.
        kind: What was kept of it; `tokens` is everything.
        dtype: Stored floating-point type.
        container: Name of the format.
        width: Features of one token.
        tokens_per_item: Tokens of every item, or None where rows are ragged.
        num_items: Items of the split, readable or not.
        rows_per_shard: Items that one shard covers.
    """

    dataset: str
    split: str
    source: str
    encoder: str
    identity: Mapping[str, Any]
    modality: str
    width: int
    tokens_per_item: int | None
    num_items: int
    rows_per_shard: int
    kind: str = "tokens"
    dtype: str = "float16"
    container: str = "zarr"

    def __post_init__(self) -> None:
        for name in (self.dataset, self.split):
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise SpecError(
                    f"{name!r} cannot name a folder: datasets and splits may hold letters, "
                    "digits, '.', '_' and '-' only"
                )

    def keyed(self) -> dict[str, Any]:
        """Return everything that changes a number or a byte of the shards."""
        return {
            "format_version": FORMAT_VERSION,
            "identity": dict(self.identity),
            "source": self.source,
            "split": self.split,
            "modality": self.modality,
            "kind": self.kind,
            "dtype": self.dtype,
            "container": self.container,
        }

    @property
    def key(self) -> str:
        """Return the hash of `keyed()`, in hexadecimal."""
        return fingerprint(self.keyed())

    def folder(self, home: Path) -> Path:
        """Return where this store lies below `home`."""
        name = f"{self.encoder}--{self.key[:12]}"
        return home / "features" / self.dataset / self.split / name
