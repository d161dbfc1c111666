"""Rows that no query can tell apart, in galleries of embeddings."""

import numpy as np
import pytest

from lightalign.featcache.types import TEXT_TEXT, Modality, sides_of
from lightalign.pipelines.metrics.equal_rows import equal_pairs, equal_rows
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.ranking.ranking import both_directions, rank
from lightalign.pipelines.ranking.ties import find_ties


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def paired(images, texts, texts_of, images_of, **kwargs):
    return PairedEmbeddings(
        unit(images),
        unit(texts),
        tuple(f"i{n}" for n in range(len(images))),
        tuple(f"t{n}" for n in range(len(texts))),
        Relevance.of(texts_of),
        Relevance.of(images_of),
        **kwargs,
    )


def test_equal_rows_are_those_of_the_first_but_for_rounding():
    random = np.random.default_rng(0)
    rows = unit(random.standard_normal((5000, 32)))
    rows[4000:] = unit(rows[:1000] + 1e-7 * random.standard_normal((1000, 32)))
    rows[1500] = unit(rows[1499:1500] + 1e-3)[0]  # near, and another row
    assert equal_pairs(rows) == [(row, 4000 + row) for row in range(1000)]
    assert equal_rows(rows)[4000:].tolist() == list(range(1000))


@pytest.mark.parametrize("count", [1, 2, 3000])
def test_rows_that_are_all_equal_are_all_the_first(count):
    assert (equal_rows(np.ones((count, 1), dtype=np.float32)) == 0).all()


def test_rows_within_one_cell_that_differ_are_told_apart():
    """Five directions 3e-5 apart from one another, each twice: three times the bound."""
    angles = np.repeat(3e-5 * np.arange(5), 2)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert equal_rows(rows).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


def test_equal_texts_of_two_images_are_counted_with_an_example():
    """Texts 0 and 2 are equal: images 0 and 1 each have one of them, and image 1 text 1, too."""
    pairs = paired(np.eye(3)[:2], [[1, 0, 0], [0, 1, 0], [1, 0, 0]], [[0], [1, 2]], [[0], [1], [1]])
    to_image, to_text = map(find_ties, both_directions(pairs))
    assert to_image.warning is None
    assert (to_text.num_rows, to_text.num_hopeless, to_text.num_queries) == (2, 1, 2)
    assert to_text.examples == (("t0", "t2"),)
    assert "2 of 3 texts" in to_text.warning
    assert "1 of 2 queries cannot come first: t0 and t2;" in to_text.warning
    assert rank(both_directions(pairs)[1]).ranks.tolist() == [2, 1]


def test_images_that_are_all_equal_leave_no_query_a_chance():
    pairs = paired(np.ones((4, 2)), np.eye(4)[:, :2] + 1, *[[[n] for n in range(4)]] * 2)
    found = find_ties(both_directions(pairs)[0])
    assert (found.num_rows, found.num_hopeless) == (4, 4)
    assert (rank(both_directions(pairs)[0]).ranks == 4).all()
    assert "--same-text" not in found.warning


def test_equal_rows_that_are_right_for_the_same_query_are_no_tie():
    pairs = paired([[1, 0], [0, 1]], [[1, 0], [1, 0], [0, 1]], [[0, 1], [2]], [[0], [0], [1]])
    assert [find_ties(one).num_rows for one in both_directions(pairs)] == [0, 0]


def test_between_texts_the_query_itself_is_no_tie():
    """Text 0 finds text 1, which equals it; where all four are equal, two more do, wrongly."""
    right = [[1], [0], [3], [2]]
    pairs = paired(*[[[1, 0], [1, 0], [0, 1], [0, 1]]] * 2, right, right, sides=TEXT_TEXT)
    assert find_ties(both_directions(pairs)[0]).num_rows == 0
    pairs = paired(*[[[1, 0]] * 4] * 2, right, right, sides=TEXT_TEXT)
    assert find_ties(both_directions(pairs)[0]).num_hopeless == 4


def test_the_rule_that_was_taken_is_not_advised():
    pairs = paired(np.eye(2), [[1, 0], [1, 0]], [[0], [1]], [[0], [1]])
    to_text = both_directions(pairs)[1]
    assert "--same-text positive" in find_ties(to_text).warning
    assert "--same-text" not in find_ties(to_text, usual_rule=False).warning


@pytest.mark.parametrize(
    "sides", [sides_of(["tone", "text"]), sides_of(["tone", "image"]), TEXT_TEXT], ids="-".join
)
def test_equal_texts_are_advised_where_texts_are_searched(sides):
    """Rows 0 and 1 of either gallery are equal, and of them query 2 has row 0 alone as right."""
    rows, right = [[1, 0], [1, 0], [0, 1]], [[2], [2], [0]]
    for direction in both_directions(paired(rows, rows, right, right, sides=sides)):
        gallery = direction.name.rpartition("_to_")[2]
        warning = find_ties(direction).warning
        assert f"of 3 {gallery.replace('_', ' ')}s have" in warning
        assert ("--same-text positive" in warning) == gallery.endswith(Modality.TEXT)
