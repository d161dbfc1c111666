"""Recalls, ranks and groups of both directions, by hand and as brute force has them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightalign.featcache.errors import SpecError
from lightalign.featcache.types import TEXT_TEXT
from lightalign.pipelines.metrics.ranks import (
    Relevance,
    recall_curve,
)
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.ranking.ranking import both_directions, rank, ranks_only
from lightalign.pipelines.ranking.recall import (
    Retrieval,
    curve_points,
    headline_recalls,
    worst_queries,
)

from ..metrics.test_ranks import brute_force_precisions, brute_force_ranks


@st.composite
def captioned(draw):
    """Up to five images with one to seven captions each; small integers, so ties are common."""
    counts = draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    numbers = st.integers(-2, 2).map(float)
    images = draw(arrays(np.float32, (len(counts), 2), elements=numbers))
    texts = draw(arrays(np.float32, (sum(counts), 2), elements=numbers))
    starts = np.cumsum([0, *counts])
    texts_of = [list(range(a, b)) for a, b in pairwise(starts.tolist())]
    return images, texts, texts_of


@settings(deadline=None, max_examples=15)
@given(captioned())
def test_every_number_of_a_retrieval_equals_brute_force_in_float64(case):
    images, texts, texts_of = case
    embeddings = paired(images, texts, texts_of)
    images_of = [[i] for i, belonging in enumerate(texts_of) for _ in belonging]
    measured = Retrieval(k=50).run(embeddings)
    scores = texts.astype(np.float64) @ images.astype(np.float64).T
    total = 0.0
    for name, table, right in (
        ("text_to_image", scores, images_of),
        ("image_to_text", scores.T, texts_of),
    ):
        found, ranks = measured[name], np.array(brute_force_ranks(table, right))
        expected = {
            "mean_reciprocal_rank": 100 * np.mean(1 / ranks),
            "mean_rank": np.mean(ranks),
            "median_rank": np.median(ranks),
            "mean_average_precision": 100 * np.mean(brute_force_precisions(table, right)),
        }
        for key, value in expected.items():
            assert found[key]["value"] == pytest.approx(value)
            assert found[key]["num"] == len(ranks)
        recalls = [100 * np.mean(ranks <= k) for k in range(1, table.shape[1] + 1)]
        np.testing.assert_allclose(found["curve"]["recall"], recalls)
        headline = {str(k): recalls[k - 1] for k in (1, 5, 10) if k <= len(recalls)}
        assert {k: one["value"] for k, one in found["recall"].items()} == pytest.approx(headline)
        total += sum(headline.values())
    assert measured["recall_sum"]["value"] == pytest.approx(total)
    assert headline_recalls(embeddings)["recall_sum"] == pytest.approx(total)


def test_a_constant_embedding_gets_the_worst_rank():
    """Four images, four texts, all the same vector: every wrong answer ties, so rank 4."""
    same = np.ones((4, 2), dtype=np.float32) / np.float32(np.sqrt(2))
    measured = Retrieval(k=4).run(paired(same, same, [[i] for i in range(4)]))
    assert measured["text_to_image"]["recall"]["1"]["value"] == 0.0
    assert measured["text_to_image"]["median_rank"]["value"] == 4.0
    assert measured["text_to_image"]["mean_average_precision"]["value"] == 25.0


def paired(images, texts, texts_of):
    images_of = [
        [i for i, belonging in enumerate(texts_of) if text in belonging]
        for text in range(len(texts))
    ]
    return PairedEmbeddings(
        first=images,
        second=texts,
        first_ids=tuple(f"i{i}" for i in range(len(images))),
        second_ids=tuple(f"t{i}" for i in range(len(texts))),
        seconds_of_first=Relevance.of(texts_of),
        firsts_of_second=Relevance.of(images_of),
    )


def test_recalls_without_a_miss_have_an_interval_that_reaches_below():
    """Twelve images that all find their own: Wilson's 12 / (12 + z^2) and up."""
    own = np.eye(12, dtype=np.float32)
    measured = Retrieval(k=12).run(paired(own, own, [[i] for i in range(12)]))
    curve = measured["text_to_image"]["curve"]
    assert curve["recall"] == [100.0] * 12
    assert curve["low"] == pytest.approx([100 * 12 / 15.8415] * 11 + [100.0], abs=1e-3)
    assert measured["text_to_image"]["recall"]["1"]["interval"][0] == curve["low"][0]
    missed = Retrieval(k=12).run(paired(own, own, [[(i + 1) % 12] for i in range(12)]))
    interval = missed["text_to_image"]["recall"]["1"]["interval"]
    assert interval == pytest.approx([0.0, 100 * 3.8415 / 15.8415], abs=1e-3)


def test_recall_counts_any_right_text_of_an_image():
    """Two images at 0 and 90 degrees; texts at 80 and 10 (image 0), 100 and 95 (image 1).

    Image to text: image 0 finds the 10-degree text first, image 1 the 95-degree one: R@1 100.
    Text to image: 80 is nearer to 90 than to 0, so one of four texts is wrong: R@1 75, R@2 100.
    """
    angle = np.deg2rad([0, 90, 80, 10, 100, 95])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    measured = Retrieval(k=2).run(paired(unit[:2], unit[2:], [[0, 1], [2, 3]]))
    assert measured["image_to_text"]["recall"]["1"]["value"] == 100.0
    assert measured["text_to_image"]["curve"]["recall"] == [75.0, 100.0]
    assert measured["text_to_image"]["num_queries"] == 4
    assert measured["text_to_image"]["num_gallery"] == 2


def test_a_text_is_no_answer_to_itself_and_one_alone_is_no_query():
    """Texts at 0 and 20 (image 0), 30 and 80 (image 1) and 75 degrees (image 2), on both sides.

    Each would find itself first. Without that: 0 finds 20 (right), 20 finds 30 (then 0: rank 2),
    30 finds 20, 0, 75 and then 80 (by 10, 30, 45 and 50 degrees: rank 4), 80 finds 75, then 30
    (rank 2). The text at 75 has no other: it is no query, but an answer that is wrong.
    Ranks 1, 2, 4, 2 of a gallery of 4: R@1 25, R@2 75, median 2; by chance R@1 is 1 of 4.
    """
    angle = np.deg2rad([0, 20, 30, 80, 75])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    others = Relevance.of([[1], [0], [3], [2], []])
    ids = tuple("abcde")
    measured = Retrieval(k=4).run(
        PairedEmbeddings(unit, unit, ids, ids, others, others, sides=TEXT_TEXT)
    )
    for direction in ("first_text_to_second_text", "second_text_to_first_text"):
        found = measured[direction]
        assert found["curve"]["recall"] == [25.0, 75.0, 75.0, 100.0]
        assert found["curve"]["chance"] == [25.0, 50.0, 75.0, 100.0]
        assert (found["num_queries"], found["num_gallery"]) == (4, 4)
        assert found["median_rank"]["value"] == 2.0
        assert found["mean_rank"]["value"] == 2.25
    assert (
        measured["recall_sum"]["value"] == 50.0
    )  # R@1 both ways; the gallery is too small for R@5


def test_the_recall_curve_counts_ranks_up_to_each_k():
    ranks = np.array([1, 3, 3, 9])
    np.testing.assert_allclose(recall_curve(ranks, 4), [25, 25, 75, 75])


def test_a_k_below_one_is_refused():
    with pytest.raises(SpecError, match="at least 1"):
        Retrieval(k=0)


def test_k_larger_than_the_gallery_is_cut_to_it():
    unit = np.eye(3, dtype=np.float32)
    measured = Retrieval(k=100).run(paired(unit, unit, [[0], [1], [2]]))
    assert measured["text_to_image"]["curve"]["k"] == [1, 2, 3]
    (only,) = measured["text_to_image"]["recall"].items()
    assert (only[0], only[1]["value"], only[1]["num"]) == ("1", 100.0, 3)
    assert measured["recall_sum"]["value"] == 200.0


def test_the_curve_of_a_large_k_has_the_points_of_the_published_one():
    points = curve_points(10_000)
    assert points[:100] == list(range(1, 101))
    assert points[100:] == list(range(200, 10_001, 100))
    assert curve_points(250) == [*range(1, 101), 200, 250]
    assert curve_points(3) == [1, 2, 3]


def test_rows_of_one_id_are_one_item():
    """Each image stands in the gallery twice, as in LightCRL's: every number is as if it did not.

    With them the text at 50 degrees finds both rows of the wrong image (60) before its own (30).
    """
    angle = np.deg2rad([30, 60, 10, 50, 80])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    once = paired(unit[:2], unit[2:], [[0, 1], [2]])
    twice = PairedEmbeddings(
        first=unit[[0, 0, 1, 1]],
        second=unit[2:],
        first_ids=("i0", "i0", "i1", "i1"),
        second_ids=once.second_ids,
        seconds_of_first=Relevance.of([[0], [1], [2], [2]]),
        firsts_of_second=Relevance.of([[0], [1], [2, 3]]),
    )
    first, second = (Retrieval(k=5).run(one) for one in (once, twice))
    for found in (first, second):
        for direction in ("text_to_image", "image_to_text"):
            del found[direction]["seconds"]
    assert first == second
    assert first["text_to_image"]["num_gallery"] == 2
    assert first["text_to_image"]["mean_rank"]["value"] == pytest.approx(4 / 3)


def test_the_worst_queries_are_named_with_what_came_first_and_what_was_right():
    """Images at 0 and 90 degrees; texts at 80 and 10 (image 0) and 95 (image 1).

    Only the text at 80 degrees is nearer to the wrong image: cos 10 against cos 80.
    """
    angle = np.deg2rad([0, 90, 80, 10, 95])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    back, forth = both_directions(paired(unit[:2], unit[2:], [[0, 1], [2]]))
    (worst,) = worst_queries(back, rank(back).ranks)
    assert (worst["query"], worst["rank"], worst["direction"]) == ("t0", 2, "text_to_image")
    assert [one["id"] for one in worst["first"]] == ["i1", "i0"]
    assert worst["first"][0]["score"] == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)
    assert [one["id"] for one in worst["right"]] == ["i0"]
    assert worst_queries(forth, rank(forth).ranks) == []


def test_an_image_with_its_texts_is_one_group_also_where_images_share_a_text():
    unit = np.eye(3, dtype=np.float32)
    back, forth = both_directions(paired(unit, unit, [[0, 1], [1], [2]]))
    assert forth.groups[0] == forth.groups[1] != forth.groups[2]
    assert back.groups.tolist() == forth.groups.tolist()


def test_ranks_do_not_depend_on_how_deep_the_index_is_searched():
    random = np.random.default_rng(0)
    unit = random.normal(size=(60, 4)).astype(np.float32)
    direction, _ = both_directions(paired(unit[:30], unit[30:], [[i] for i in range(30)]))
    assert ranks_only(direction, 1).tolist() == ranks_only(direction, 30).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_own_texts_in_the_first_five_are_counted_as_lightcrl_counts_them(seed):
    """torch.topk and sets, image by image, with all texts of each at its own place."""
    random = np.random.default_rng(seed)
    images, texts = (random.normal(size=(n, 6)).astype(np.float32) for n in (12, 60))
    texts += 1.2 * np.repeat(images, 5, axis=0)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    own = [list(range(5 * image, 5 * image + 5)) for image in range(12)]
    first = torch.from_numpy(images @ texts.T).topk(5, dim=1).indices.tolist()
    found = [len(set(line) & set(right)) for line, right in zip(first, own, strict=True)]
    assert len(set(found)) > 2
    measured = Retrieval().run(paired(images, texts, own))
    table = measured["image_to_text"]["own_in_first_5"]
    for j in range(1, 6):
        share = 100 * np.mean([count >= j for count in found])
        assert table[str(j)]["value"] == pytest.approx(share)
        low, high = table[str(j)]["interval"]
        assert low <= share <= high
        assert table[str(j)]["num"] == 12
    assert "own_in_first_5" not in measured["text_to_image"]  # a text has one image


def test_a_wrong_text_that_ties_stands_before_an_own_one():
    """Texts 0 and 1 are of image 0, the four others of image 1; all but text 0 score the same."""
    image = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    texts = np.array([[1.0, 0.0], *[[0.6, 0.8]] * 5], dtype=np.float32)
    table = Retrieval().run(paired(image, texts, [[0, 1], [2, 3, 4, 5]]))["image_to_text"]
    found = {j: number["value"] for j, number in table["own_in_first_5"].items()}
    # image 0: text 0 is first, text 1 comes after four wrong ones, sixth. Image 1: one wrong text
    # ties with its four, which stand second to fifth
    assert found == {"1": 100.0, "2": 50.0, "3": 50.0, "4": 50.0}
