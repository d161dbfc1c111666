"""Orders of rows that visit a few shards at a time."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def block_shuffle(
    first_rows: Int64[np.ndarray, " shards_plus_1"],
    *,
    seed: int | Sequence[int],
    buffer_shards: int,
) -> Int64[np.ndarray, " n"]:
    """Return every row once, in an order for which `buffer_shards` shards are open at once.

    The shards are shuffled and dealt into blocks of `buffer_shards`; all rows of a block are
    shuffled together, and block follows block. With n rows in equal shards of r rows and
    m = r * buffer_shards rows a block:

        - the place of one row is uniform among all n, as in a full shuffle: its mean distance from
          where it is stored is the same;
        - two rows of one shard are (m + 1) / 3 places apart in the mean, instead of (n + 1) / 3 in
          a full shuffle: with 8 of 64 shards, an eighth;
        - two neighbours come from one shard with probability (r - 1) / (m - 1), instead of
          (r - 1) / (n - 1).

    With `buffer_shards` not below the number of shards it is a full shuffle.

    Args:
        first_rows: First row of each shard, and the number of rows last.
        seed: Seed of the order.
        buffer_shards: Shards in a block, at least 1.
    """
    assert buffer_shards > 0, "a block has at least one shard"
    random = np.random.default_rng(seed)
    shards = random.permutation(len(first_rows) - 1)
    blocks = [
        shards[start : start + buffer_shards] for start in range(0, len(shards), buffer_shards)
    ]
    rows = [
        random.permutation(
            np.concatenate([np.arange(first_rows[shard], first_rows[shard + 1]) for shard in block])
        )
        for block in blocks
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *rows])
