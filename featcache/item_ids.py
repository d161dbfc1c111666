"""Item ids as an array of bytes that any Zarr or HDF5 tool can read."""

import numpy as np
from jaxtyping import UInt8

from .errors import SpecError, StoreCorruptError


def encode_ids(ids: tuple[str, ...]) -> UInt8[np.ndarray, "rows longest"]:
    """Return ids as rows of UTF-8 bytes padded with zeros.

    Any tool reads it: `array.view(f"S{array.shape[1]}")[:, 0]` are the ids as bytes.

    Raises:
        SpecError: An id is empty or holds a zero character.
    """
    encoded = [item_id.encode() for item_id in ids]
    if any(not item or b"\0" in item for item in encoded):
        raise SpecError("an item id is empty or holds a zero character")
    longest = max((len(item) for item in encoded), default=1)
    return np.array(encoded, dtype=f"S{longest}").view(np.uint8).reshape(len(ids), longest)


def decode_ids(array: UInt8[np.ndarray, "rows longest"]) -> tuple[str, ...]:
    """Return the ids that `encode_ids` made `array` from.

    Raises:
        StoreCorruptError: One is empty or is not UTF-8.
    """
    if not len(array):
        return ()
    rows = np.ascontiguousarray(array).view(f"S{array.shape[1]}")[:, 0]
    encoded = rows.tolist()
    if not all(encoded):
        raise StoreCorruptError("an item id is empty")
    try:
        return tuple(map(bytes.decode, encoded))
    except UnicodeDecodeError as error:
        raise StoreCorruptError(f"an item id is not UTF-8: {error.object!r}") from error
