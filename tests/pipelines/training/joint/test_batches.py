"""Batches of pairs: each item once, right pairs first, and everything by the seed."""

import numpy as np
import pytest
import torch

from lightalign.featcache.answers import Answers
from lightalign.pipelines.metrics.answer_vocabulary import AnswerVocabulary
from lightalign.pipelines.training.distributed import ProcessGroup
from lightalign.pipelines.training.joint.answers import AnswerLabels
from lightalign.pipelines.training.joint.batches import (
    JointBatches,
    JointRows,
    Negatives,
    load_pairs,
)
from lightalign.pipelines.training.options import TrainOptions

from .made_up import made_up_pairs

# of each text its number, as often as it has tokens
TEXTS = {"p": [10.0] * 3, "q": [11.0], "r": [12.0] * 2, "s": [13.0] * 4}


@pytest.fixture
def stores(tmp_path):
    return made_up_pairs(
        tmp_path,
        images={"a": [0.0], "b": [1.0, 1.0], "c": [2.0]},
        texts=TEXTS,
        links=[("a", "p"), ("a", "q"), ("b", "r"), ("c", "s")],
        answers=Answers.of([["red"], ["blue"], ["red"], ["grey"]]),
    )


ROWS = JointRows(np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([[0, 2], [2, 1]]))


def numbers_of(batch):
    """Return the numbers of image and text of each pair, from the features."""
    first, second = batch.pairs.T
    return [
        (int(batch.first.values[image, 0, 0]), int(batch.second.values[text, 0, 0]))
        for image, text in zip(first, second, strict=True)
    ]


def test_pairs_are_loaded_with_each_item_once_and_by_the_length_of_their_text(stores):
    """Right pairs by 1, 2 and 3 tokens; of the wrong ones b with q is shorter than a with r."""
    batch = load_pairs(stores, ROWS, np.arange(3), ROWS.wrong, labels=None)
    assert numbers_of(batch) == [(0, 11), (1, 12), (0, 10), (1, 11), (0, 12)]
    assert (len(batch.first), len(batch.second), batch.num_right) == (2, 3, 3)
    assert batch.second.mask.sum(dim=1).tolist() == [3, 1, 2]
    assert set(batch.targets) == {"itm"}


def test_labels_stand_beside_the_right_pairs_in_their_order(stores):
    labels = AnswerLabels.of(stores, AnswerVocabulary(("blue", "red")))
    batch = load_pairs(stores, ROWS, np.arange(3), ROWS.wrong, labels=labels)
    assert batch.targets["answers"].labels["answer"].tolist() == [0, 1, 1]  # of q, r and p
    assert batch.targets["answers"].labels["answers"].tolist() == [[1, 0], [0, 1], [0, 1]]


def test_a_share_may_be_of_wrong_pairs_alone_or_of_none(stores):
    labels = AnswerLabels.of(stores, AnswerVocabulary(("blue", "red")))
    none = np.arange(0)
    batch = load_pairs(stores, ROWS, none, ROWS.wrong, labels=labels)
    assert (numbers_of(batch), batch.num_right) == ([(1, 11), (0, 12)], 0)
    assert batch.targets["answers"].labels["answers"].shape == (0, 2)
    empty = load_pairs(stores, ROWS, none, ROWS.wrong[:0], labels=labels)
    assert (len(empty.pairs), len(empty.first)) == (0, 0)


def batches_of(stores, *, seed=0, processes=None, hard=None):
    options = TrainOptions(captions="each", batch_size=3, epochs=2)
    negatives = None if hard is None else Negatives(stores, None, hard=hard)
    group = {} if processes is None else {"processes": processes}
    return JointBatches(
        stores,
        stores.images,
        options=options,
        seed=seed,
        negatives=negatives,
        labels=None,
        **group,
    )


def rows_of(batches, epoch):
    return [
        (rows.first.tolist(), rows.second.tolist(), rows.wrong.tolist())
        for rows in batches.order(epoch)
    ]


def test_an_epoch_has_each_pair_once_and_counts_pairs(stores):
    batches = batches_of(stores, hard=0.0)
    pairs = [
        pair for first, second, _ in rows_of(batches, 1) for pair in zip(first, second, strict=True)
    ]
    assert sorted(pairs) == [(0, 0), (0, 1), (1, 2), (2, 3)]
    assert (batches.course.rows, batches.course.batches, batches.course.counted) == (4, 2, "pairs")


def test_seed_and_epoch_decide_on_the_order_and_on_wrong_pairs(stores):
    batches, again = batches_of(stores, hard=0.0), batches_of(stores, hard=0.0)
    assert rows_of(batches, 1) == rows_of(again, 1)
    orders = {str(rows_of(batches_of(stores, seed=seed, hard=0.0), 1)) for seed in range(8)}
    orders |= {str(rows_of(batches, epoch)) for epoch in range(2, 8)}
    assert len(orders) > 6  # of 14; four pairs have few orders
    assert all(not wrong for _, _, wrong in rows_of(batches_of(stores), 1))


def test_processes_share_a_batch_whose_rows_all_of_them_know(stores):
    rows = next(batches_of(stores, hard=0.0).order(1))
    shares = [batches_of(stores, processes=ProcessGroup(rank, 2)).load(rows) for rank in range(2)]
    whole = batches_of(stores).load(rows)
    assert all(share.rows is rows for share in shares)
    assert sum(share.num_right for share in shares) == whole.num_right == 2
    together = [pair for share in shares for pair in numbers_of(share)]
    assert sorted(together) == sorted(numbers_of(whole))


def test_features_are_those_of_the_stores(stores):
    batch = batches_of(stores).load(next(batches_of(stores).order(1)))
    rows = np.unique(batch.rows.first)
    expected = stores.first.padded(rows)
    assert torch.equal(batch.first.values, expected.values)
