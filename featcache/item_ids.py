"""Item ids as an array of bytes that any Zarr or HDF5 tool can read."""

import hashlib

import numpy as np
from jaxtyping import UInt8

from .errors import SpecError, StoreCorruptError

# The longest path that Linux takes. Ids of a shard are padded to the longest: one of 10 MB would
# take as much in each of its rows.
_LONGEST = 4096
_KEPT = 200  # letters of a longer one that stay before its hash


def storable_id(name: str) -> str:
    r"""Return the id of an item that its dataset calls `name`; nearly always `name` itself.

    Zeros, and what has no UTF-8 (bytes of a file name in another encoding, half of a surrogate
    pair), are written as Python escapes, such as `caf\udce9.jpg`. What is longer than a path can
    be is its beginning and its SHA-256.
    """
    if "\0" in name or not has_encoding(name):
        name = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(name) > _LONGEST or len(name.encode()) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return f"{name[:_KEPT]}...{digest}"
    return name


def has_encoding(text: str) -> bool:
    """Return whether a text has UTF-8, which half of a surrogate pair has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_ids(ids: tuple[str, ...]) -> UInt8[np.ndarray, "rows longest"]:
    """Return ids as rows of UTF-8 bytes padded with zeros.

    Any tool reads it: `array.view(f"S{array.shape[1]}")[:, 0]` are the ids as bytes.

    Raises:
        SpecError: An id is empty or holds a zero character.
    """
    encoded = [item_id.encode() for item_id in ids]
    if any(not item or b"\0" in item for item in encoded):
        raise SpecError("an item id is empty or holds a zero character")
    # of no id as well one byte wide: a type without bytes cannot be stored
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
