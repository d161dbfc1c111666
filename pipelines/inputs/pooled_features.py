"""One vector an item from what a store holds of it, as encoders give it, without any adapter.

Axis names: `n` rows, `width` features of a vector.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped

from ...featcache.reading.reader import FeatureReader
from ...featcache.types import Features

_COMPARED = 16  # rows whose first tokens are compared: equal texts are rarely so many
_ALIKE = 2e-3  # of a vector's length: float16 rounds by a quarter of it
_BLOCK_ELEMENTS = 2**24  # features of tokens held at once: 64 MiB in float32


def mean_vectors(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n width"]:
    """Return the mean of all tokens of each row, special tokens included."""

    def mean(block: Features) -> np.ndarray:
        sums = np.add.reduceat(block.values.astype(np.float32), block.offsets[:-1], axis=0)
        return np.asarray(sums / block.lengths[:, None].astype(np.float32))

    return _vectors(reader, rows, mean)


def first_vectors(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n width"]:
    """Return the first token of each row, which is CLS where the encoder has one."""
    return _vectors(reader, rows, lambda block: block.values[block.offsets[:-1]])


def flat_vectors(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n width"]:
    """Return the tokens of each row, one after the other; rows are of one length."""
    assert reader.description.tokens_per_item is not None, "rows of one length only"
    width = reader.description.tokens_per_item * reader.description.width
    return _vectors(reader, rows, lambda block: block.values.reshape(len(block), width))


def has_cls(reader: FeatureReader) -> bool:
    """Return whether the first token of every row is a summary: added, and not the same in all.

    A tokenizer adds it; in a causal model it knows nothing of the text. A store without the
    companion that tells what was added has none.
    """
    return begins_with_added(reader) and not first_is_constant(reader)


def begins_with_added(reader: FeatureReader) -> bool:
    """Return whether the first token of every row is known to be no part of its text."""
    if "special_tokens" not in reader.description.companions or not len(reader):
        return False
    return bool(reader.companion("special_tokens", [0])[0])


def first_is_constant(reader: FeatureReader) -> bool:
    """Return whether the first token is the same in all rows, as that of causal text encoders is.

    Rows of several tokens that are alike as a whole tell nothing.
    """
    rows = spread_rows(reader)
    if not are_alike(first_vectors(reader, rows)):
        return False
    return int(reader.lengths.max()) == 1 or not are_alike(mean_vectors(reader, rows))


def spread_rows(reader: FeatureReader) -> Int64[np.ndarray, " n"]:
    """Return some rows from the first to the last: texts of one image follow each other."""
    rows = np.linspace(0, max(len(reader) - 1, 0), min(len(reader), _COMPARED))
    return np.unique(rows.astype(np.int64))


def are_alike(vectors: Float[np.ndarray, "n width"]) -> bool:
    """Return whether several vectors are one but for the rounding of a store."""
    if len(vectors) < 2:
        return False
    apart = np.linalg.norm(vectors - vectors[0], axis=1)
    return bool((apart <= _ALIKE * np.linalg.norm(vectors[0])).all())


def _vectors(
    reader: FeatureReader,
    rows: Int64[np.ndarray, " n"],
    vectors_of: Callable[[Features], Shaped[np.ndarray, "block width"]],
) -> Float32[np.ndarray, "n width"]:
    # block by block: all tokens of a split are far larger than a vector of each row
    longest = int(reader.lengths.max(initial=1))
    size = max(1, _BLOCK_ELEMENTS // (longest * reader.description.width))
    # `concatenate` refuses an empty list, so no rows are one empty block
    starts = range(0, max(len(rows), 1), size)
    blocks = (
        reader.gather(rows[start : start + size], companions=False, ids=False) for start in starts
    )
    return np.concatenate([vectors_of(block).astype(np.float32, copy=False) for block in blocks])
