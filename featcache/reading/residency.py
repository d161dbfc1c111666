"""Placement of a store's features while they are read, and the memory there is for them.

The rule of `auto`, by the bytes of all values as they are read (float16, or float32 for every other
stored type):

    device   a CUDA device is given and they fit in a quarter of its free memory
    host     else, they fit in a quarter of the free memory of this process
    disk     else

A quarter, as training holds two stores, or four with a validation split, and wants memory itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from ..errors import DeviceError
from ..hardware import free_memory
from ..registry import unknown_name
from ..tokens import Tokens

RESIDENCIES = ("auto", "device", "host", "disk")
SHARE = 0.25  # of the free memory that one store may take


@dataclass(frozen=True, kw_only=True)
class Residency:
    """Placement of a store's features, and the byte counts by which it was chosen.

    Attributes:
        name: `device`, `host` or `disk`.
        num_bytes: Bytes of all values as they are read.
        free_bytes: Bytes that were free where they would have gone, on the device if one is given.
        asked: `auto` or one of the names.
    """

    name: str
    num_bytes: int
    free_bytes: int
    asked: str

    def report(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def choose_residency(
    asked: str, *, num_bytes: int, device: torch.device | None = None
) -> Residency:
    """Return where `num_bytes` of features, to be used on `device`, shall be.

    Of `RESIDENCIES` all but `auto` are taken as they are.

    Raises:
        UnknownNameError: No residency is called `asked`.
        DeviceError: `device` is asked for and none is given.
    """
    if asked not in RESIDENCIES:
        raise unknown_name("residency", asked, RESIDENCIES)
    if asked == "device" and device is None:
        raise DeviceError("residency 'device' was asked for and no device was given: name one")
    # `auto` takes a CPU for the host
    if device is not None and device.type == "cuda":
        free_there, _ = torch.cuda.mem_get_info(device)
        if asked == "device" or (asked == "auto" and num_bytes <= SHARE * free_there):
            return Residency(name="device", num_bytes=num_bytes, free_bytes=free_there, asked=asked)
    free, name = free_memory(), asked
    if asked == "auto":
        name = "host" if num_bytes <= SHARE * free else "disk"
    return Residency(name=name, num_bytes=num_bytes, free_bytes=free, asked=asked)


class HostFeatures:
    """Values of all rows of a store in one array, of which a shard is filled at its first use.

    Short rows are then one call of `take`; one call for each of their shards took most of the time
    of reading them.

    Args:
        load: Returns all values of a shard, one line a row.
        first_rows: First row of each shard, and the number of rows last.
        shape: Of the values of one row.
        dtype: Of the values.

    Attributes:
        num_loads: How many shards were loaded so far.
    """

    def __init__(
        self,
        load: Callable[[int], Float[np.ndarray, "rows tokens width"]],
        first_rows: Int64[np.ndarray, " shards_plus_1"],
        *,
        shape: tuple[int, int],
        dtype: np.dtype,
    ) -> None:
        self._load = load
        self._first_rows = first_rows
        # the system gives pages when they are written to, so an unread shard takes no memory
        self._values = np.empty((int(first_rows[-1]), *shape), dtype)
        self._missing = set(range(len(first_rows) - 1))
        self._lock = Lock()
        self.num_loads = 0

    def take(self, rows: Int64[np.ndarray, " n"], out: Float[np.ndarray, "n tokens width"]) -> None:
        """Write these rows into `out`."""
        if self._missing:
            self._fill(rows)
        if out.dtype == self._values.dtype:
            # `clip` alone writes without a buffer between; every row is in range
            np.take(self._values, rows, axis=0, out=out, mode="clip")
        else:
            out[...] = self._values[rows]

    def _fill(self, rows: Int64[np.ndarray, " n"]) -> None:
        shards = set((np.searchsorted(self._first_rows, rows, side="right") - 1).tolist())
        # batches are loaded ahead in another thread, which asks for rows while the training does
        with self._lock:
            for index in sorted(shards & self._missing):
                first, end = self._first_rows[index : index + 2].tolist()
                self._values[first:end] = self._load(index)
                self.num_loads += 1
                self._missing.remove(index)


class DeviceFeatures:
    """Values of all rows of a store on a device; the parts are those of its shards, in order."""

    def __init__(
        self,
        parts: Iterator[Float[np.ndarray, "tokens width"]],
        *,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.values = torch.empty(shape, dtype=dtype, device=device)
        place = 0
        for part in parts:
            # a copy, as torch takes no arrays that cannot be written to, which memory maps are
            self.values[place : place + len(part)].copy_(torch.from_numpy(np.array(part)))
            place += len(part)

    def pad(self, starts: Int64[np.ndarray, " n"], lengths: Int64[np.ndarray, " n"]) -> Tokens:
        """Return the same as `tokens.pad` of these rows, on the device.

        The first token of each row is counted through the whole store.
        """
        device = self.values.device
        longest = int(lengths.max()) if len(lengths) else 0
        within = torch.arange(longest, device=device)
        first = torch.from_numpy(starts).to(device, non_blocking=True)
        mask = within < torch.from_numpy(lengths).to(device, non_blocking=True)[:, None]
        # padding of the last rows reaches beyond the values
        places = (first[:, None] + within).clamp(max=max(0, len(self.values) - 1))
        return Tokens(self.values[places].masked_fill(~mask[..., None], 0), mask)
