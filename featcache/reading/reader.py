"""Read rows of a complete store by number or id: from memory maps, from memory or on a device."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8

from ..errors import StoreCorruptError
from ..hardware import free_memory
from ..item_ids import decode_ids
from ..store.checked_shards import not_finite, open_shards
from ..store.feature_store import FeatureStore
from ..store.stored_types import first_not_finite
from ..store.trust import is_trusting
from ..string_array import Strings
from ..tokens import Tokens, pad, pad_groups, split_by_length
from ..types import Features
from .gather import SHORT_ROW, RowLayout
from .residency import SHARE, DeviceFeatures, HostFeatures, choose_residency
from .shard_cache import StoredArrays

_BUFFER_BYTES = 2**28  # of decompressed shards kept at once: four of the default size


class FeatureReader:
    """Gather rows of a store in any order.

    Where the features are in the meantime is the residency; `auto` chooses by the rule at the top
    of `residency.py`.

        disk     Raw shards are memory maps: only the asked rows are read, and the system keeps
                 what fits. Of compressed shards the last used stay decompressed.
        host     Each shard is read whole at its first use, decompressed and widened, and stays.
                 One that needs neither stays a memory map that the system is asked to read ahead;
                 short rows of one length are copied into one array.
        device   All values lie on the device as floats, and `padded` gathers them there; `gather`
                 reads from disk.

    A row number that is negative or not below the number of rows is an `IndexError` everywhere.

    Args:
        folder: Folder of a complete store.
        residency: `auto`, `device`, `host` or `disk`.
        device: Where the features will be used, or None for the CPU.
        buffer_bytes: Bytes of decompressed shards kept on `disk`, at least one shard and one more
            while it is copied from; None for 256 MiB, or an eighth of the free memory if that is
            less.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreIncompleteError: Its extraction has not finished.
        StoreCorruptError: Its files contradict its manifest, of which the checksums are compared
            at the first use; `trust.trusting` leaves that out.
        FeatureRangeError: A stored feature is not finite; while trusting, the methods that read
            values raise it instead.
        UnknownNameError: There is no such residency.
        DeviceError: The residency is `device` and no device is given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        residency: str = "auto",
        device: torch.device | None = None,
        buffer_bytes: int | None = None,
    ) -> None:
        self.store = FeatureStore.open(folder)
        self.description = self.store.description
        # while trusting, rows are examined as they are read
        self._unexamined = is_trusting()
        shards = open_shards(self.store)
        try:
            self._layout = RowLayout.read(
                shards, list(self.store.receipts()), self.description.tokens_per_item
            )
        except StoreCorruptError as error:
            raise StoreCorruptError(f"{folder}: {error}") from error
        self._ids = [arrays["ids"] for arrays in shards]
        # float16 stays at half the bytes; of every other type float32 holds what is stored
        self.dtype = np.dtype("float16" if self.description.dtype == "float16" else "float32")
        row_bytes = self.description.width * self.dtype.itemsize
        self.residency = choose_residency(
            residency, num_bytes=self._layout.num_tokens * row_bytes, device=device
        )
        self._arrays = StoredArrays(
            shards,
            self.description,
            in_memory=self.residency.name == "host",
            buffer_bytes=(
                min(_BUFFER_BYTES, free_memory() // 8) if buffer_bytes is None else buffer_bytes
            ),
        )
        self._on_host: HostFeatures | None = None
        tokens = self.description.tokens_per_item
        is_short = tokens is not None and tokens * row_bytes < SHORT_ROW
        # whoever asks for `host` with more than that gets maps, which take no memory of the process
        fits = self.residency.num_bytes <= SHARE * self.residency.free_bytes
        if self.residency.name == "host" and tokens is not None and is_short and fits:
            self._on_host = HostFeatures(
                self._arrays.load_values,
                self._layout.first_rows,
                shape=(tokens, self.description.width),
                dtype=self.dtype,
            )
        self._on_device: DeviceFeatures | None = None
        if self.residency.name == "device":
            assert device is not None, "choose_residency refuses this"
            self._on_device = DeviceFeatures(
                (self._examined_shard(index) for index in range(len(shards))),
                shape=(self._layout.num_tokens, self.description.width),
                dtype=torch.float16 if self.dtype == np.float16 else torch.float32,
                device=device,
            )

    def __len__(self) -> int:
        return self._layout.num_rows

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Return the item ids of all rows, in order."""
        return tuple(self.row_of)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Return the row number of each item id."""
        stored = self._read_ids()
        try:
            every_id = [item for ids in stored for item in decode_ids(ids)]
        except StoreCorruptError as error:
            raise StoreCorruptError(f"{self.store.folder}: {error}") from error
        row_of = {item: row for row, item in enumerate(every_id)}
        if len(row_of) != len(every_id):
            (repeated, _), *_ = Counter(every_id).most_common(1)
            raise StoreCorruptError(f"{self.store.folder}: the item id {repeated!r} is there twice")
        return row_of

    def stored_ids(self) -> Strings:
        """Return the item ids of all rows in order, in UTF-8 as they are stored."""
        padded = self._read_ids()
        # zeros pad them, and no id holds one
        lengths = np.concatenate([np.count_nonzero(array, axis=1) for array in padded])
        content = np.concatenate([array[array != 0] for array in padded])
        return Strings(content, np.cumsum(lengths))

    def rows_of(self, ids: Strings) -> Int64[np.ndarray, " n"]:
        """Return the row number of each of some item ids, or -1 of one that has no row."""
        # stores mostly hold all items in their order: compared as bytes, no id is decoded
        if self.stored_ids() == ids:
            return np.arange(len(ids))
        return np.fromiter((self.row_of.get(item, -1) for item in ids), np.int64, len(ids))

    def _read_ids(self) -> list[UInt8[np.ndarray, "rows longest"]]:
        """Return the item ids of each shard, as `encode_ids` makes them."""
        try:
            return [np.asarray(ids.read()) for ids in self._ids]
        except StoreCorruptError as error:
            raise StoreCorruptError(f"{self.store.folder}: {error}") from error

    @property
    def lengths(self) -> Int64[np.ndarray, " n"]:
        """Return the number of tokens of each row."""
        return self._layout.lengths

    @property
    def streams(self) -> tuple["FeatureReader", ...]:
        """Return the readers of all stores that are read here, in order."""
        return (self,)

    def largest_row(self, rows: Int64[np.ndarray, " n"]) -> int:
        """Return the features of all tokens of the longest of these rows, 0 of none."""
        return int(self.lengths[rows].max(initial=0)) * self.description.width

    @property
    def first_rows(self) -> Int64[np.ndarray, " shards_plus_1"]:
        """Return the first row of each shard, and the number of rows last."""
        return self._layout.first_rows

    @property
    def buffer_shards(self) -> int | None:
        """Return how many shards stay decompressed, or None where that does not bind.

        Where it is a number, rows are best asked for in the order of `shuffle.block_shuffle`.
        """
        return self._arrays.buffer_shards if self._on_device is None else None

    @property
    def num_loads(self) -> int:
        """Return how many times the values of a shard were read so far; a buffered one is not."""
        on_host = 0 if self._on_host is None else self._on_host.num_loads
        return self._arrays.num_loads + on_host

    def gather(
        self,
        rows: Sequence[int] | Int64[np.ndarray, " n"],
        *,
        companions: bool = True,
        ids: bool = True,
    ) -> Features:
        """Return the given rows, in the given order, repeats included, as floats.

        `float16` comes as it is stored, every other type as float32; the scales of `int8` are used
        up by that. Without `ids` all ids are empty, which saves decoding those of the whole store.
        """
        numbers = self._layout.check(rows)
        offsets = self._layout.offsets_of(numbers)
        values = np.empty((int(offsets[-1]), self.description.width), self.dtype)
        self._copy(numbers, values)
        names = self.description.companions if companions else ()
        beside = {name: self.companion(name, numbers) for name in names}
        ids_of = map(self.ids.__getitem__, numbers.tolist()) if ids else [""] * len(numbers)
        return Features(values, offsets, tuple(ids_of), beside)

    def companion(
        self, name: str, rows: Sequence[int] | Int64[np.ndarray, " n"]
    ) -> Shaped[np.ndarray, "lines ..."]:
        """Return one of `description.companions`, stored beside the values, of the given rows."""
        numbers = self._layout.check(rows)
        return self._arrays.companion(
            name,
            num_tokens=int(self._layout.offsets_of(numbers)[-1]),
            tokens=self._layout.token_spans(numbers),
            rows=self._layout.row_spans(numbers),
        )

    def gather_into(
        self,
        rows: Sequence[int] | Int64[np.ndarray, " n"],
        out: Shaped[np.ndarray, "n tokens width"] | Shaped[torch.Tensor, "n tokens width"],
    ) -> None:
        """Write the values of the given rows into memory that is there already.

        That saves what the system needs for giving `gather` fresh pages, about half of the time.

        Args:
            rows: Row numbers of a store whose rows are of one length.
            out: Where to write, a C-ordered array or a tensor of the CPU, pinned or not; float16
                or float32.

        Raises:
            ValueError: The rows differ in length, or `out` has another shape than they.
        """
        numbers = self._layout.check(rows)
        tokens = self.description.tokens_per_item
        if tokens is None:
            raise ValueError("rows of this store differ in length: call gather")
        array = out.numpy() if isinstance(out, torch.Tensor) else out
        expected = (len(numbers), tokens, self.description.width)
        if array.shape != expected or not array.flags.c_contiguous:
            raise ValueError(f"out must be C-ordered of shape {expected}, not {array.shape}")
        self._copy(numbers, array.reshape(-1, self.description.width))

    def padded(self, rows: Int64[np.ndarray, " n"]) -> Tokens:
        """Return the given rows as a padded batch, on the device if they are there."""
        numbers = self._layout.check(rows)
        tokens = self.description.tokens_per_item
        if self._on_device is None and tokens is not None and len(numbers):
            values = np.empty((len(numbers), tokens, self.description.width), self.dtype)
            self.gather_into(numbers, values)
            mask = torch.ones(len(numbers), tokens, dtype=torch.bool)
            return Tokens(torch.from_numpy(values), mask)
        if self._on_device is None:
            return pad(self.gather(numbers, companions=False, ids=False))
        return self._on_device.pad(self._layout.tokens_before(numbers), self.lengths[numbers])

    def padded_groups(
        self, rows: Int64[np.ndarray, " n"], num_groups: int
    ) -> tuple[list[Tokens], Int64[np.ndarray, " n"]]:
        """Return `tokens.pad_groups` of the given rows, on the device if they are there."""
        if self.description.tokens_per_item is not None:
            return [self.padded(rows)], np.arange(len(rows))
        if self._on_device is None:
            return pad_groups(self.gather(rows, companions=False, ids=False), num_groups)
        groups = split_by_length(self.lengths[self._layout.check(rows)], num_groups)
        return [self.padded(rows[group]) for group in groups], np.concatenate(groups)

    def _examined_shard(self, index: int) -> Float[np.ndarray, "tokens width"]:
        values = self._arrays.widened_shard(index)
        first, end = self.first_rows[index : index + 2].tolist()
        self._examine(values, np.arange(first, end))
        return values

    def _copy(self, rows: Int64[np.ndarray, " n"], out: Float[np.ndarray, "total width"]) -> None:
        """Write the tokens of these rows, row after row."""
        if self._on_host is None:
            self._arrays.copy_values(self._layout.token_spans(rows), out)
        else:
            tokens = self.description.tokens_per_item
            assert tokens is not None, "rows of one length"
            self._on_host.take(rows, out.reshape(len(rows), tokens, self.description.width))
        self._examine(out, rows)

    def _examine(
        self, values: Float[np.ndarray, "total width"], rows: Int64[np.ndarray, " n"]
    ) -> None:
        """Pass if the values of these rows are finite; of what was verified that is known."""
        if not self._unexamined:
            return
        token = first_not_finite(values, None, values.dtype.name)
        if token is not None:
            place = np.searchsorted(self._layout.offsets_of(rows), token, side="right") - 1
            raise not_finite(self.store, self.ids[rows[place]])
