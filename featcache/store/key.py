"""Description of a store, and the key that follows from it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import fingerprint
from ..errors import SpecError
from ..registry import unknown_name

FORMAT_VERSION = 2  # of keys and layout; a change makes older stores unreachable, not wrong


DTYPES = ("float16", "bfloat16", "float32", "int8")
COMPRESSIONS = ("none", "zstd", "blosc-lz4")
_MOST_SHARDS = 1_000_000  # each is a file and an entry of the manifest; all of both are listed


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Item that has no row.

    Attributes:
        id: Id of the item.
        reason: What is wrong with it.
        stage: `read` where fetching or decoding failed, `prepare` where an encoder's preprocessing.
    """

    id: str
    reason: str
    stage: str = "read"


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """Description of a store; the part of it that changes numbers makes the key.

    Attributes:
        dataset: Name of the dataset; it and `split` name folders.
        split: Name of the split.
        source: `Source.fingerprint` of the split.
        encoder: Name of the encoder card.
        identity: `Encoder.identity_at()`.
        modality: What was encoded.
        layer: Which of the encoder's layers, counted from its end; -1 is after the final norm.
        kind: What was kept of it: `tokens` (everything), `cls`, `mean`, `last`, `pooled` or
            `grid:HxW`.
        dtype: Stored type, one of `DTYPES`; `int8` has one scale a token beside it.
        container: Name of the format.
        compression: One of `COMPRESSIONS`.
        companions: Names of the arrays that are stored beside the values, such as `token_ids`.
        width: Features of one token.
        tokens_per_item: Tokens of every item, or None where rows are ragged.
        num_items: Items of the split, readable or not.
        rows_per_shard: Items that one shard covers.
        view: What is encoded of each item in place of the item itself, as `name` and `options` of
            one of `featcache/views`; None of a plain store. Items are the rows of the view then.
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
    layer: int = -1
    kind: str = "tokens"
    dtype: str = "float16"
    container: str = "zarr"
    compression: str = "none"
    companions: Sequence[str] = ()
    view: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_view()
        for name, choices in (("dtype", DTYPES), ("compression", COMPRESSIONS)):
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), choices)
        if "/" in self.source or "\0" in self.source:
            raise SpecError(f"source {self.source!r:.80} cannot be a part of a file name")
        for name in (self.dataset, self.split, self.encoder):
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise SpecError(
                    f"{name!r} cannot name a folder: datasets, splits and encoders may hold "
                    "letters, digits, '.', '_' and '-' only"
                )

    def _check_numbers(self) -> None:
        for name, least in (("width", 1), ("num_items", 0), ("rows_per_shard", 1)):
            if getattr(self, name) < least:
                raise SpecError(f"{name} is at least {least}, found {getattr(self, name)}")
        if self.tokens_per_item is not None and self.tokens_per_item < 1:
            raise SpecError(f"tokens_per_item is at least 1, found {self.tokens_per_item}")
        if self.num_shards > _MOST_SHARDS:
            raise SpecError(
                f"{self.num_items} items at rows_per_shard = {self.rows_per_shard} are "
                f"{self.num_shards} shards, more than {_MOST_SHARDS}"
            )

    def _check_view(self) -> None:
        view = self.view
        if view is None:
            return
        is_whole = set(view) == {"name", "options"} and isinstance(view["options"], Mapping)
        if not is_whole or not isinstance(view["name"], str):
            raise SpecError(f"a view has a name and options, found {dict(view)!r:.200}")

    @property
    def view_name(self) -> str | None:
        """Return the name of the view, or None of a plain store."""
        return None if self.view is None else str(self.view["name"])

    @property
    def what(self) -> str:
        """Return what is kept of the encoder, in words such as `tokens@-1 float16`."""
        view = "" if self.view is None else f" {self.view_name}"
        return f"{self.kind}@{self.layer} {self.dtype}{view}"

    def table(self) -> dict[str, Any]:
        """Return all fields by name, as a manifest holds them."""
        table = asdict(self)
        # stores of before there were views keep their bytes
        if self.view is None:
            del table["view"]
        return table

    @property
    def num_shards(self) -> int:
        """Return how many shards cover all items."""
        return -(-self.num_items // self.rows_per_shard)

    def shard_items(self, index: int) -> range:
        """Return the positions of the items that shard `index` covers."""
        first = index * self.rows_per_shard
        return range(first, min(first + self.rows_per_shard, self.num_items))

    def keyed(self) -> dict[str, Any]:
        """Return everything that changes a number or a byte of the shards."""
        # the names of dataset and encoder make folders alone, width and numbers of tokens and items
        # follow from identity and source, and the rows of a shard only cut the same rows otherwise
        return {
            "format_version": FORMAT_VERSION,
            "identity": dict(self.identity),
            "source": self.source,
            "split": self.split,
            "modality": self.modality,
            "layer": self.layer,
            "kind": self.kind,
            "dtype": self.dtype,
            "container": self.container,
            "compression": self.compression,
            "companions": list(self.companions),
            # stores of before there were views keep their keys
            **({} if self.view is None else {"view": dict(self.view)}),
        }

    @property
    def encoder_key(self) -> str:
        """Return `encoder_key` of this store."""
        return encoder_key(self.identity, layer=self.layer, kind=self.kind, dtype=self.dtype)

    @property
    def key(self) -> str:
        """Return the hash of `keyed()`, in hexadecimal."""
        return fingerprint(self.keyed())

    def folder(self, home: Path) -> Path:
        """Return where this store lies below `home`."""
        name = f"{self.encoder}--{self.key[:12]}"
        return home / "features" / self.dataset / self.split / name


def encoder_key(identity: Mapping[str, Any], *, layer: int, kind: str, dtype: str) -> str:
    """Return the hash of what decides a feature but for the item: equal keys, equal features."""
    return fingerprint([dict(identity), layer, kind, dtype])
