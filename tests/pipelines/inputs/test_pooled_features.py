"""One vector of each row, of values that count up: row 0 is (0, 1, 2), (3, 4, 5) and so on."""

import numpy as np
import pytest

from lightalign.featcache.reading.reader import FeatureReader
from lightalign.pipelines.inputs.pooled_features import (
    first_vectors,
    flat_vectors,
    mean_vectors,
)

from ...featcache.store.test_feature_store import describe, write


@pytest.fixture
def reader(tmp_path):
    """Return a reader of five rows of two tokens; row 4 is the first of its shard, from 4 on."""
    return FeatureReader(write(tmp_path, describe()).folder)


def test_a_vector_of_each_row_by_hand(reader):
    rows = np.array([4, 0])
    assert mean_vectors(reader, rows).tolist() == [[5.5, 6.5, 7.5], [1.5, 2.5, 3.5]]
    assert first_vectors(reader, rows).tolist() == [[4, 5, 6], [0, 1, 2]]
    assert flat_vectors(reader, rows).tolist() == [[4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("vectors", "width"), [(mean_vectors, 3), (first_vectors, 3), (flat_vectors, 6)]
)
def test_of_no_rows_there_are_no_vectors(reader, vectors, width):
    found = vectors(reader, np.empty(0, dtype=np.int64))
    assert (found.shape, found.dtype) == ((0, width), np.float32)


def test_rows_are_read_in_blocks_of_bounded_memory(reader, monkeypatch):
    """Six features of a row and room for six: a row at a time."""
    monkeypatch.setattr("lightalign.pipelines.inputs.pooled_features._BLOCK_ELEMENTS", 6)
    gathered = []
    gather = reader.gather
    monkeypatch.setattr(
        reader, "gather", lambda rows, **_: gathered.append(len(rows)) or gather(rows)
    )
    assert len(mean_vectors(reader, np.arange(5))) == 5
    assert gathered == [1] * 5
