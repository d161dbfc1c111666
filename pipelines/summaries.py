"""One vector an item from what a store holds of it, as encoders give it, without any adapter.

Axis names: `n` rows, `width` features of a vector.
"""

import numpy as np
from jaxtyping import Float, Float32, Int64

from ..featcache.reader import FeatureReader

_COMPARED = 16  # rows whose first tokens are compared: equal texts are rarely so many
_BLOCK_ELEMENTS = 2**24  # features of tokens held at once: 64 MiB in float32


def mean_vectors(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n width"]:
    """Return the mean of all tokens of each row, special tokens included."""
    parts = []
    for block in _blocks(reader, rows):
        found = reader.gather(block, companions=False)
        sums = np.add.reduceat(found.values.astype(np.float32), found.offsets[:-1], axis=0)
        parts.append(sums / found.lengths[:, None].astype(np.float32))
    return _joined(parts, reader.description.width)


def first_vectors(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n width"]:
    """Return the first token of each row, which is CLS where the encoder has one."""
    parts = []
    for block in _blocks(reader, rows):
        found = reader.gather(block, companions=False)
        parts.append(found.values[found.offsets[:-1]].astype(np.float32))
    return _joined(parts, reader.description.width)


def flat_vectors(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n width"]:
    """Return the tokens of each row, one after the other; rows are of one length."""
    tokens = reader.description.tokens_per_item
    assert tokens is not None, "rows of one length only"
    width = tokens * reader.description.width
    parts = []
    for block in _blocks(reader, rows):
        found = reader.gather(block, companions=False)
        parts.append(found.values.astype(np.float32).reshape(len(block), width))
    return _joined(parts, width)


def has_cls(reader: FeatureReader) -> bool:
    """Return whether the first token of every row is a summary: added, and not the same in all.

    A tokenizer adds it; in a causal model it knows nothing of the text. A store without the
    companion that tells what was added has none.
    """
    if "special_tokens" not in reader.description.companions or not len(reader):
        return False
    if not reader.companion("special_tokens", [0])[0]:
        return False
    firsts = first_vectors(reader, np.arange(min(len(reader), _COMPARED)))
    return len(firsts) < 2 or bool((firsts != firsts[0]).any())


def unit(vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
    """Return the vectors with length 1; one of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return units


def _blocks(
    reader: FeatureReader, rows: Int64[np.ndarray, " n"]
) -> list[Int64[np.ndarray, " some"]]:
    longest = int(reader.lengths.max(initial=1))
    size = max(1, _BLOCK_ELEMENTS // (longest * reader.description.width))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _joined(
    parts: list[Float32[np.ndarray, "some width"]], width: int
) -> Float32[np.ndarray, "n width"]:
    return np.concatenate([np.empty((0, width), np.float32), *parts])
