import numpy as np
import pytest

from lightalign.featcache.reading.gather import Spans, copy_rows

SHARDS = [
    np.arange(10, 16, dtype=np.float32)[:, None],
    np.arange(20, 26, dtype=np.float32)[:, None],
]


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shard", "starts", "lengths", "expected"),
    [
        ([0, 0], [4, 1], None, [14, 11]),
        ([1, 0, 1], [0, 3, 0], None, [20, 13, 20]),
        ([1, 0], [2, 0], [3, 2], [22, 23, 24, 10, 11]),
        ([1, 1], [5, 0], [1, 2], [25, 20, 21]),
    ],
)
def test_lines_come_row_after_row_by_every_way(shard, starts, lengths, expected, dtype, one_by_one):
    spans = Spans(np.array(shard), np.array(starts), None if lengths is None else np.array(lengths))
    out = np.empty((len(expected), 1), dtype)
    copy_rows(SHARDS.__getitem__, spans, out, one_by_one=one_by_one)
    assert out[:, 0].tolist() == expected


def test_many_rows_of_few_shards_are_taken_shard_by_shard():
    """Of 20 rows of two shards each shard is indexed once, and asked for once."""
    asked = []

    def source(index):
        asked.append(index)
        return SHARDS[index]

    shard = np.arange(20) % 2
    out = np.empty((20, 1), np.float32)
    copy_rows(source, Spans(shard, np.arange(20) % 6), out)
    assert out[:, 0].tolist() == [10 * (1 + row % 2) + row % 6 for row in range(20)]
    assert asked == [0, 1]
