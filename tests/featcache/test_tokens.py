"""Batches of tokens, padded to their longest row."""

import numpy as np
import torch

from lightalign.featcache.tokens import Tokens, join_padded, pad
from lightalign.featcache.types import Features


def ragged(lengths: list[int]) -> Features:
    """Return rows of these lengths; token t has the feature t, counted from 1."""
    values = np.arange(1, sum(lengths) + 1, dtype=np.float32)[:, None]
    ids = tuple(str(row) for row in range(len(lengths)))
    return Features(values, np.concatenate([[0], np.cumsum(lengths)]), ids, {})


def test_rows_are_padded_by_zeros_to_the_longest():
    tokens = pad(ragged([1, 3]))
    assert tokens.values[:, :, 0].tolist() == [[1, 0, 0], [2, 3, 4]]
    assert tokens.mask.tolist() == [[True, False, False], [True, True, True]]


def test_batches_of_other_lengths_are_joined_in_order():
    joined = join_padded([pad(ragged([1])), pad(ragged([2, 1]))])
    assert joined.values[:, :, 0].tolist() == [[1, 0], [1, 2], [3, 0]]
    assert joined.mask.tolist() == [[True, False], [True, True], [True, False]]


def test_one_batch_joined_is_itself():
    tokens = Tokens(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    joined = join_padded([tokens])
    assert torch.equal(joined.values, tokens.values)
    assert torch.equal(joined.mask, tokens.mask)
