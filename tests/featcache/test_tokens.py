"""Batches of tokens, padded to their longest row."""

import numpy as np
import torch

from lightalign.featcache.tokens import Tokens, join_padded, pad, pad_groups, split_by_length
from lightalign.featcache.types import Features, ragged_arange


def features(*lengths: int) -> Features:
    """Return rows of these lengths whose tokens are 1, 2, 3, ... in order."""
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    values = np.arange(1, offsets[-1] + 1, dtype=np.float32)[:, None]
    return Features(values, offsets, tuple(f"item-{row}" for row in range(len(lengths))))


def test_rows_are_padded_with_zeros_to_the_longest():
    tokens = pad(features(1, 3))
    assert tokens.values[..., 0].tolist() == [[1, 0, 0], [2, 3, 4]]
    assert tokens.mask.tolist() == [[True, False, False], [True, True, True]]


def test_rows_of_one_length_share_the_memory_of_the_features():
    rows = features(2, 2)
    tokens = pad(rows)
    assert tokens.values[..., 0].tolist() == [[1, 2], [3, 4]]
    assert np.shares_memory(tokens.values.numpy(), rows.values)
    assert bool(tokens.mask.all())


def test_groups_hold_rows_of_similar_length_and_say_which():
    groups, rows = pad_groups(features(4, 1, 3, 1), 2)
    assert [group.values.shape[1] for group in groups] == [1, 4]
    assert rows.tolist() == [1, 3, 2, 0]
    assert groups[0].values[..., 0].tolist() == [[5], [9]]
    assert [group.tolist() for group in split_by_length(np.array([2, 2, 2]), 3)] == [[0, 1, 2]]


def test_the_values_alone_change_their_type():
    tokens = pad(features(1, 2)).to(torch.device("cpu"), torch.float64)
    assert (tokens.values.dtype, tokens.mask.dtype) == (torch.float64, torch.bool)


def test_ragged_ranges_follow_each_other():
    assert ragged_arange(np.array([5, 0]), np.array([2, 3])).tolist() == [5, 6, 0, 1, 2]


def test_batches_of_other_lengths_are_joined_in_order():
    joined = join_padded([pad(features(1)), pad(features(2, 1))])
    assert joined.values[..., 0].tolist() == [[1, 0], [1, 2], [3, 0]]
    assert joined.mask.tolist() == [[True, False], [True, True], [True, False]]


def test_one_batch_joined_is_itself():
    tokens = Tokens(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    joined = join_padded([tokens])
    assert torch.equal(joined.values, tokens.values)
    assert torch.equal(joined.mask, tokens.mask)
