"""Stored types: what their bytes are, and how these become floats again.

`float16` and `float32` are NumPy's own. `bfloat16` keeps the upper 16 bits of a float32, rounded
to the nearest even; NumPy has no such type, so they are stored as `uint16`. `int8` keeps a whole
number between -127 and 127 times one float32 scale a token, the largest absolute value over 127.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from ..errors import StoreCorruptError

SCALES = "scales"  # name of the array that `int8` needs beside the values
_STORAGE = {"float16": "float16", "bfloat16": "uint16", "float32": "float32", "int8": "int8"}
# Types and further axes of the companions of encoders: a shard without any row has them as well.
_COMPANIONS: dict[str, tuple[str, tuple[int, ...]]] = {
    "token_ids": ("int32", ()),
    "special_tokens": ("uint8", ()),
    "character_spans": ("int32", (2,)),  # first character, and the one after the last
    "geometry": ("int32", (8,)),
    "masked_ids": ("int32", ()),  # the token that was there before, -1 where it still is
    "item": ("int64", ()),  # of a view: place of the row's item among those of its split
    "variant": ("int32", ()),  # of a view: which row of its item, from 0
    "box": ("int64", ()),  # of a view: place of the hidden box among those of its split
}
# What each type may be made of: those that are at least as exact, the most exact first. Of float16
# and bfloat16 neither is, one for its range and one for its precision.
_EXACT_ENOUGH = {
    "float32": ("float32",),
    "float16": ("float32", "float16"),
    "bfloat16": ("float32", "bfloat16"),
    "int8": ("float32", "float16", "bfloat16", "int8"),
}
INT8_LARGEST = 127  # -128 is left out, so that the range is symmetric
_BFLOAT16_EXPONENT = 0x7F80  # all ones is infinity or NaN
_FLOAT16_INFINITY = 0x7C00
_BLOCK_BYTES = 2**21  # of values that are examined at once, which stay in the processor's cache


def storage(dtype: str) -> np.dtype[np.generic]:
    """Return the type of the array that holds features stored as `dtype`."""
    return np.dtype(_STORAGE[dtype])


def exact_enough(dtype: str) -> tuple[str, ...]:
    """Return the stored types that features of `dtype` may be derived from, the best first."""
    return _EXACT_ENOUGH[dtype]


def token_bytes(dtype: str, width: int) -> int:
    """Return the bytes of one token of `width` features, its scale included."""
    return width * storage(dtype).itemsize + (4 if dtype == "int8" else 0)


def companion_type(name: str) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    """Return the type of an encoder's companion, and its axes after the first.

    Raises:
        StoreCorruptError: No encoder has such a companion.
    """
    if name not in _COMPANIONS:
        raise StoreCorruptError(f"no array {name!r} is stored beside features")
    dtype, shape = _COMPANIONS[name]
    return np.dtype(dtype), shape


def empty_companion(name: str) -> Shaped[np.ndarray, "lines ..."]:
    """Return what an encoder's companion is of no item at all, in its type and shape."""
    dtype, shape = companion_type(name)
    return np.empty((0, *shape), dtype)


def dequantise(
    stored: Shaped[np.ndarray, "total width"],
    scales: Float32[np.ndarray, " total"] | None,
    dtype: str,
) -> Float[np.ndarray, "total width"]:
    """Return stored values as floats: `float16` as it is, all others as float32."""
    if dtype == "bfloat16":
        return np.asarray((stored.astype(np.uint32) << 16).view(np.float32))
    if dtype == "int8":
        assert scales is not None, "int8 has scales"
        return np.asarray(stored.astype(np.float32) * scales[:, None])
    return stored


def finite_tokens(
    stored: Shaped[np.ndarray, "total width"],
    scales: Float32[np.ndarray, " total"] | None,
    dtype: str,
) -> Bool[np.ndarray, " total"]:
    """Return for each token whether all its features are finite numbers in the stored type."""
    if dtype == "bfloat16":
        special = (stored & _BFLOAT16_EXPONENT) == _BFLOAT16_EXPONENT
        return np.asarray(~special.any(axis=1))
    if dtype == "int8":
        assert scales is not None, "int8 has scales"
        return np.asarray(np.isfinite(scales))
    if dtype == "float16" and stored.size:
        # infinity and NaN are the largest numbers of 15 bits; np.isfinite takes three times as long
        largest = (stored.view(np.uint16) & 0x7FFF).max(axis=1)
        return np.asarray(largest < _FLOAT16_INFINITY)
    return np.asarray(np.isfinite(stored).all(axis=1))


def first_not_finite(
    values: Shaped[np.ndarray, "total width"],
    scales: Float32[np.ndarray, " total"] | None,
    dtype: str,
) -> int | None:
    """Return the first token with a feature that is not finite in the stored type, or None."""
    lines = max(1, _BLOCK_BYTES // max(1, values.strides[0]))
    for first in range(0, len(values), lines):
        block = slice(first, first + lines)
        finite = finite_tokens(values[block], None if scales is None else scales[block], dtype)
        if not finite.all():
            return first + int(np.argmin(finite))
    return None
