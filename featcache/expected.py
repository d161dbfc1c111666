"""Types and shapes of the arrays of a shard, as they follow from what the store holds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .description import StoreDescription
from .dtypes import SCALES, companion_type, storage
from .format import STORED_TYPES, ArrayLocation
from .types import PER_TOKEN

_ID_BYTES = 2**20  # of the longest id: far more than any that a source gives


@dataclass(frozen=True, kw_only=True)
class ExpectedArray:
    """Type and shape of one array.

    Attributes:
        types: Names of the types that it may have.
        shape: Its shape; where None stands, any length from 1 on will do, and further axes, too,
            where `open_ended`.
        open_ended: Whether it may have more axes than `shape` says.
    """

    types: tuple[str, ...]
    shape: tuple[int | None, ...]
    open_ended: bool = False

    def __str__(self) -> str:
        sizes = ["any" if size is None else str(size) for size in self.shape]
        more = ["..."] if self.open_ended else []
        return f"{' or '.join(self.types)} of shape [{', '.join([*sizes, *more])}]"

    def fits(self, location: ArrayLocation) -> bool:
        """Return whether an array is as expected."""
        sizes = location.shape[: len(self.shape)] if self.open_ended else location.shape
        return (
            location.dtype.name in self.types
            and len(sizes) == len(self.shape)
            and all(
                1 <= found <= _ID_BYTES if size is None else found == size
                for found, size in zip(sizes, self.shape, strict=True)
            )
        )


def expected_arrays(
    description: StoreDescription, *, rows: int, tokens: int
) -> Mapping[str, ExpectedArray]:
    """Return what a shard must hold, by name.

    Args:
        description: What the store holds.
        rows: Rows of the shard.
        tokens: Tokens of all its rows.
    """
    each, width = description.tokens_per_item, description.width
    stored = storage(description.dtype).name
    values = (tokens, width) if each is None else (rows, each, width)
    arrays = {
        "values": ExpectedArray(types=(stored,), shape=values),
        "ids": ExpectedArray(types=("uint8",), shape=(rows, None)),
    }
    if each is None:
        arrays["offsets"] = ExpectedArray(types=("int64",), shape=(rows + 1,))
    if description.dtype == "int8":
        arrays[SCALES] = ExpectedArray(types=("float32",), shape=(tokens,))
    for name in description.companions:
        arrays[name] = _expected_companion(name, tokens if name in PER_TOKEN else rows)
    return arrays


def _expected_companion(name: str, lines: int) -> ExpectedArray:
    described = companion_type(name)
    if described is None:  # of an encoder that is none of ours
        return ExpectedArray(types=STORED_TYPES, shape=(lines,), open_ended=True)
    dtype, shape = described
    return ExpectedArray(types=(np.dtype(dtype).name,), shape=(lines, *shape))
