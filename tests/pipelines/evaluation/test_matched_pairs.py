"""Matching by judges whose answers are known: three images with two texts each."""

import numpy as np
import pytest

from lightalign.pipelines.evaluation.matched_pairs import PairMatching
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.ranking.rerank import Reranker

IMAGES, TEXTS = 3, 6  # text t is of image t // 2


class Judge(Reranker):
    """Judge by the image and the text of a pair, and remember them."""

    def __init__(self, direction, decide, asked):
        self.asks_texts = direction.name == "text_to_image"
        self.decide, self.asked = decide, asked

    def score(self, queries, gallery):
        texts, images = (queries, gallery) if self.asks_texts else (gallery, queries)
        self.asked += list(zip(images.tolist(), texts.tolist(), strict=True))
        return np.array(self.decide(images, texts), dtype=np.float32)


@pytest.fixture
def embeddings():
    """Return images on the axes; each text leans to its own image and to the next one's."""
    first = np.eye(IMAGES, dtype=np.float32)
    own = np.arange(TEXTS) // 2
    second = 0.8 * first[own] + 0.6 * first[(own + 1) % IMAGES]
    return PairedEmbeddings(
        first=first,
        second=second.astype(np.float32),
        first_ids=("a", "b", "c"),
        second_ids=tuple(f"t{text}" for text in range(TEXTS)),
        seconds_of_first=Relevance.of([[0, 1], [2, 3], [4, 5]]),
        firsts_of_second=Relevance.of([[image] for image in own.tolist()]),
    )


def measured(embeddings, decide, *, scale=20.0):
    asked = []
    task = PairMatching(scale=scale, reranker_of=lambda direction: Judge(direction, decide, asked))
    return task.run(embeddings), asked


def right(images, texts):
    return np.where(texts // 2 == images, 1.0, -1.0)


def test_a_judge_that_knows_tells_all(embeddings):
    for table in measured(embeddings, right)[0].values():
        assert {name: number["value"] for name, number in table.items()} == {
            "balanced_accuracy": 100,
            "right_told": 100,
            "wrong_told": 100,
        }
        assert table["right_told"]["num"] == TEXTS
        assert table["wrong_told"]["num"] == 2 * TEXTS


@pytest.mark.parametrize("answer", [1.0, -1.0, 0.0])
def test_a_judge_that_always_says_the_same_is_at_chance(embeddings, answer):
    """A difference of 0 is no match, as `match` has it."""
    tables, _ = measured(embeddings, lambda images, texts: np.full(len(images), answer))
    for table in tables.values():
        assert table["balanced_accuracy"]["value"] == table["balanced_accuracy"]["chance"] == 50
        assert table["right_told"]["value"] == (100 if answer > 0 else 0)


def test_a_share_of_none_or_of_all_has_an_interval_wider_than_nothing(embeddings):
    """All draws of three images are alike, which is no proof: Wilson of 0 of 3 is 0 to 56.2."""
    tables, _ = measured(embeddings, lambda images, texts: np.full(len(images), -1.0))
    for table in tables.values():
        assert table["right_told"]["interval"] == pytest.approx([0.0, 56.2], abs=0.1)
        assert table["wrong_told"]["interval"] == pytest.approx([43.8, 100.0], abs=0.1)
        low, high = table["balanced_accuracy"]["interval"]
        assert low < 50 < high


def test_no_wrong_pair_is_a_right_one(embeddings):
    _, asked = measured(embeddings, right)
    wrong = [pair for pair in asked if pair[1] // 2 != pair[0]]
    # right pairs once, and twice as many wrong ones of each kind
    assert len(wrong) == 2 * 2 * TEXTS
    assert len(asked) - len(wrong) == TEXTS


def test_hard_partners_are_those_that_the_cosine_finds_alike_and_random_ones_are_any(embeddings):
    """At a scale of 50, exp(50 x 0.6) leaves nothing to what has a cosine of 0."""
    tables, asked = measured(embeddings, right, scale=50.0)
    assert set(tables) == {"random", "hard"}
    wrong = [pair for pair in asked if pair[1] // 2 != pair[0]]
    hard = wrong[-2 * TEXTS :]
    assert all(image == (text // 2 + 1) % IMAGES for image, text in hard)
    assert not all(image == (text // 2 + 1) % IMAGES for image, text in wrong[: 2 * TEXTS])


def test_the_interval_is_of_images_with_all_their_pairs(embeddings):
    """One of three images is mistaken throughout, which counts as one of three single pairs."""
    tables, _ = measured(embeddings, lambda images, texts: np.where(texts // 2 == 0, -1.0, 1.0))
    low, high = tables["random"]["right_told"]["interval"]
    assert tables["random"]["right_told"]["value"] == pytest.approx(200 / 3)
    assert (low, high) == pytest.approx((20.8, 93.9), abs=1.5)
