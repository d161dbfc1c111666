"""Wrong partners: in proportion to how alike they are, and never one that is right."""

import numpy as np
import pytest

from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import newest_pair
from lightalign.pipelines.training.joint import batches
from lightalign.pipelines.training.joint.batches import Negatives
from lightalign.pipelines.training.joint.negatives import NONE, DualSimilarity, draw_partners

from ....helpers import both_sides

LINES = 20_000


def shares_drawn(positives, logits, *, hard=1.0):
    """Return how often each column of one line is drawn."""
    drawn = draw_partners(
        np.tile(np.array(positives, dtype=bool), (LINES, 1)),
        None if logits is None else np.tile(np.array(logits), (LINES, 1)),
        hard=hard,
        random=np.random.default_rng(0),
    )
    return np.bincount(drawn, minlength=len(positives)) / LINES


def test_the_worked_line_draws_its_first_column_in_three_of_four_cases():
    shares = shares_drawn([False, False, True], [np.log(3), 0.0, 9.0])
    assert shares == pytest.approx([0.75, 0.25, 0.0], abs=0.01)


@pytest.mark.parametrize("num_positives", [1, 5])
def test_wrong_columns_are_drawn_by_the_softmax_with_all_positives_at_zero(num_positives):
    """As in float64 by NumPy; of 20,000 draws a share is off by 0.014 in one of 30,000 cases."""
    random = np.random.default_rng(num_positives)
    logits, positives = random.normal(0, 2, 9), np.zeros(9, dtype=bool)
    positives[random.permutation(9)[:num_positives]] = True
    expected = np.where(positives, 0.0, np.exp(logits))
    shares = shares_drawn(positives, logits)
    assert shares == pytest.approx(expected / expected.sum(), abs=0.014)
    assert not shares[positives].any()


def test_without_similarity_all_wrong_columns_are_as_likely():
    assert shares_drawn([True, False, False, True, False], None, hard=0.0) == pytest.approx(
        [0, 1 / 3, 1 / 3, 0, 1 / 3], abs=0.014
    )


def test_a_share_of_hard_ones_mixes_both():
    """Half by 0.9 and 0.1, half by 0.5 each: 0.7 and 0.3."""
    shares = shares_drawn([False, False, True], [np.log(9), 0.0, 0.0], hard=0.5)
    assert shares == pytest.approx([0.7, 0.3, 0.0], abs=0.014)


def test_neither_large_nor_small_logits_make_a_positive_or_a_number_that_is_none():
    shares = shares_drawn([True, False, False], [1e5, -1e5, -1e5 + np.log(3)])
    assert shares == pytest.approx([0, 0.25, 0.75], abs=0.014)


@pytest.mark.parametrize("hard", [0.0, 1.0])
def test_a_line_without_wrong_columns_has_no_partner(hard):
    positives = np.array([[True, True], [True, False]])
    drawn = draw_partners(positives, np.zeros((2, 2)), hard=hard, random=np.random.default_rng(0))
    assert drawn.tolist() == [NONE, 1]


@pytest.fixture(scope="module")
def stores(toy_home):
    return PairedStores(newest_pair(toy_home, both_sides(split="train")), home=toy_home)


def alike(stores, *, scale):
    """Return a similarity by which each image is closest to its five captions."""
    images = np.eye(len(stores.first), dtype=np.float32)
    owner = np.zeros(len(stores.second), dtype=np.int64)
    for image in range(len(stores.first)):
        owner[list(stores.seconds_of[image])] = image
    return DualSimilarity(images, images[owner], scale)


@pytest.mark.parametrize("similar", [False, True])
def test_no_partner_is_a_positive_with_five_captions_an_image_and_repeated_rows(stores, similar):
    """Every image is there twice, with two of its captions, and one caption is there twice."""
    links, _ = stores.links(np.arange(6))
    rows = links.reshape(6, 5, 2)[:, [0, 3, 3]].reshape(-1, 2)
    negatives = Negatives(stores, alike(stores, scale=20.0) if similar else None, hard=1.0)
    random = np.random.default_rng(0)
    for _ in range(20):
        wrong = negatives.draw(rows[:, 0], rows[:, 1], random)
        assert len(wrong) == 2 * len(rows)
        first, second = rows[wrong[:, 0], 0], rows[wrong[:, 1], 1]
        assert not any(
            text in stores.seconds_of[image]
            for image, text in zip(first.tolist(), second.tolist(), strict=True)
        )
        # each item has a partner of the other side
        assert sorted(wrong[: len(rows), 0].tolist()) == list(range(len(rows)))
        assert sorted(wrong[len(rows) :, 1].tolist()) == list(range(len(rows)))


def test_the_most_similar_wrong_text_is_drawn_where_the_scale_is_large(stores):
    """Images 0 and 1 are one vector, and so are their captions: each draws from the other."""
    similarity = alike(stores, scale=1e4)
    similarity.first[1] = similarity.first[0]
    texts = [stores.seconds_of[image][0] for image in range(4)]
    similarity.second[texts[1]] = similarity.first[0]
    negatives = Negatives(stores, similarity, hard=1.0)
    wrong = negatives.draw(np.arange(4), np.array(texts), np.random.default_rng(0))
    assert wrong[:2].tolist() == [[0, 1], [1, 0]]
    assert wrong[4:6].tolist() == [[1, 0], [0, 1]]


def test_an_image_alone_in_its_batch_has_no_wrong_pair(stores):
    texts = np.array(stores.seconds_of[3])
    negatives = Negatives(stores, None, hard=1.0)
    wrong = negatives.draw(np.full(5, 3), texts, np.random.default_rng(0))
    assert wrong.shape == (0, 2)
    assert negatives.draw(texts[:0], texts[:0], np.random.default_rng(0)).shape == (0, 2)


def test_of_very_many_pairs_partners_are_of_the_same_block(stores, monkeypatch):
    monkeypatch.setattr(batches, "_BLOCK", 4)
    texts = np.array([stores.seconds_of[image][0] for image in range(10)])
    wrong = Negatives(stores, None, hard=1.0).draw(np.arange(10), texts, np.random.default_rng(0))
    assert len(wrong) == 20
    assert (wrong[:, 0] // 4 == wrong[:, 1] // 4).all()


def test_no_similarity_means_no_hard_ones(stores):
    assert Negatives(stores, None, hard=1.0).hard == 0.0
    assert Negatives(stores, alike(stores, scale=1.0), hard=0.3).hard == 0.3
