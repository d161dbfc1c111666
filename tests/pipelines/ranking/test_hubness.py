"""Scores that a bank of queries, or all queries, have had a say in."""

import numpy as np
import pytest
from scipy.special import logsumexp

from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.types import TEXT_TEXT
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.ranking.hubness import dual_softmax, querybank
from lightalign.pipelines.ranking.normalisation import PUBLISHED, SHARPNESS, Normalisation
from lightalign.pipelines.ranking.ranking import both_directions
from lightalign.pipelines.ranking.recall import Retrieval


def unit(random, *shape):
    vectors = random.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def embeddings(random, count=9, *, sides=None):
    ids = tuple(map(str, range(count)))
    right = Relevance.of([[(i + 1) % count] if sides else [i] for i in range(count)])
    kwargs = {"sides": sides} if sides else {}
    return PairedEmbeddings(
        unit(random, count, 5), unit(random, count, 5), ids, ids, right, right, **kwargs
    )


def order(direction):
    return np.argsort(-(direction.queries @ direction.gallery.T), axis=1).tolist()


def test_querybank_orders_as_the_published_inverted_softmax():
    """exp(s x) / sum over the bank of exp(s b) where the first row is active, else the cosine."""
    random = np.random.default_rng(0)
    for _ in range(5):
        direction, _ = both_directions(embeddings(random))
        bank = unit(random, 6, 5)
        cosines = direction.queries.astype(np.float64) @ direction.gallery.T
        pull = np.exp(SHARPNESS * (bank.astype(np.float64) @ direction.gallery.T))
        active = set(pull.argmax(axis=1).tolist())
        expected = [
            np.exp(SHARPNESS * line) / pull.sum(axis=0) if line.argmax() in active else line
            for line in cosines
        ]
        found = querybank(direction, bank)
        assert order(found) == np.argsort(-np.array(expected), axis=1).tolist()
        assert 0 < sum(line.argmax() in active for line in cosines) < len(cosines)


@pytest.mark.parametrize("sharpness", [0.5, 15.0, 60.0, 500.0])
def test_the_static_rule_orders_every_query_by_the_inverted_softmax(sharpness):
    """x - log(sum over the bank of exp(s b)) / s, in float64; 500 is far beyond float32's exp."""
    random = np.random.default_rng(0)
    direction, _ = both_directions(embeddings(random, 40))
    bank = unit(random, 6, 5)
    cosines = direction.queries.astype(np.float64) @ direction.gallery.T
    pull = logsumexp(sharpness * (bank.astype(np.float64) @ direction.gallery.T), axis=0)
    found = querybank(direction, bank, Normalisation(rule="static", sharpness=sharpness))
    scores = found.queries.astype(np.float64) @ found.gallery.T
    np.testing.assert_allclose(scores, cosines - pull / sharpness, atol=1e-6)


def test_the_published_rule_is_dynamic_at_20():
    assert (PUBLISHED.rule, PUBLISHED.sharpness) == ("dynamic", 20.0)


@pytest.mark.parametrize("sharpness", [0.0, -1.0, float("nan"), float("inf"), 1001.0])
def test_a_sharpness_out_of_its_range_is_refused(sharpness):
    with pytest.raises(SpecError, match="--qb-sharpness must be above 0 and at most 1,000, found"):
        Normalisation(sharpness=sharpness)


def test_rules_are_two_and_belong_to_one_scoring(tmp_path):
    with pytest.raises(UnknownNameError, match="dynamic"):
        Normalisation(rule="dynamik")
    with pytest.raises(SpecError, match="--scoring qb-norm: name it"):
        RetrieveSpec(home=tmp_path, qb_sharpness=3.0)


def test_dual_softmax_orders_as_the_product_of_both():
    direction, _ = both_directions(embeddings(np.random.default_rng(1)))
    sharp = np.exp(SHARPNESS * (direction.queries.astype(np.float64) @ direction.gallery.T))
    product = sharp / sharp.sum(axis=0) * (sharp / sharp.sum(axis=1, keepdims=True))
    assert order(dual_softmax(direction)) == np.argsort(-product, axis=1).tolist()


def test_a_text_has_no_say_in_how_it_is_found_itself():
    """Between texts row i is query i: without its own line the softmax over queries is another."""
    random = np.random.default_rng(2)
    direction, _ = both_directions(embeddings(random, sides=TEXT_TEXT))
    sharp = np.exp(SHARPNESS * (direction.queries.astype(np.float64) @ direction.gallery.T))
    np.fill_diagonal(sharp, 0.0)
    pull = np.log(sharp.sum(axis=0)) / SHARPNESS / 2
    np.testing.assert_allclose(-dual_softmax(direction).gallery[:, -1], pull, atol=1e-5)


def test_a_hub_that_every_query_finds_first_is_put_back():
    """Texts of 8 images all lean to a ninth, h: cosine 0.83 to it, 0.55 to their own.

    So 1 of 25 texts, that of h, finds its own first. The bank leans to h in the same way, all 24 of
    it, and to each other image by 3: less log(n) / 20 more, their own is ahead for every text.
    """
    random = np.random.default_rng(3)
    images = np.eye(9, dtype=np.float32)
    owners = np.repeat(np.arange(8), 3)

    def copies():
        noisy = images[owners] + 1.5 * images[8] + 0.02 * random.normal(size=(24, 9))
        return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)

    given = PairedEmbeddings(
        images,
        np.concatenate([copies(), images[8:]]),
        tuple("abcdefghi"),
        tuple(map(str, range(25))),
        Relevance.of([np.flatnonzero(owners == i).tolist() for i in range(8)] + [[24]]),
        Relevance.of([[int(owner)] for owner in owners] + [[8]]),
    )
    bank = {"text": copies(), "image": images}
    cosine, normed = (
        Retrieval(k=1, scoring=scoring, bank=some).run(given)["text_to_image"]["recall"]["1"]
        for scoring, some in (("cosine", None), ("qb-norm", bank))
    )
    assert (cosine["value"], normed["value"]) == (4.0, 100.0)


def test_an_unknown_scoring_is_refused():
    with pytest.raises(UnknownNameError, match="no scoring named 'cosinus'"):
        Retrieval(scoring="cosinus")
