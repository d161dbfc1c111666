"""Retrieval against libraries that others wrote, on the same embeddings."""

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import AP, RR, Success

from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.ranking.recall import Retrieval


@pytest.fixture(scope="module")
def embeddings():
    """Return 40 images with one to seven captions each, near enough to be found at times."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 8, size=40)
    images = random.normal(size=(40, 8))
    owners = np.repeat(np.arange(40), counts)
    texts = images[owners] + 1.2 * random.normal(size=(len(owners), 8))
    unit = [
        (one / np.linalg.norm(one, axis=1, keepdims=True)).astype(np.float32)
        for one in (images, texts)
    ]
    return PairedEmbeddings(
        first=unit[0],
        second=unit[1],
        first_ids=tuple(f"i{i}" for i in range(40)),
        second_ids=tuple(f"t{i}" for i in range(len(owners))),
        seconds_of_first=Relevance.of([np.flatnonzero(owners == i).tolist() for i in range(40)]),
        firsts_of_second=Relevance.of([[int(owner)] for owner in owners]),
    )


def directions(embeddings):
    """Yield name, scores in float64 and right answers of both directions."""
    scores = embeddings.second.astype(np.float64) @ embeddings.first.astype(np.float64).T
    yield "text_to_image", scores, embeddings.firsts_of_second
    yield "image_to_text", scores.T, embeddings.seconds_of_first


def test_every_number_equals_that_of_trec_eval(embeddings):
    """Through ir-measures: AP, reciprocal rank and Success@k of trec_eval, on scores in float64."""
    measured = Retrieval(k=10).run(embeddings)
    for name, scores, relevance in directions(embeddings):
        spans = zip(relevance.offsets[:-1], relevance.offsets[1:], strict=True)
        right = [relevance.rows[start:stop].tolist() for start, stop in spans]
        judged = {str(q): {str(row): 1 for row in rows} for q, rows in enumerate(right)}
        ranked = {
            str(q): {str(row): float(score) for row, score in enumerate(line)}
            for q, line in enumerate(scores)
        }
        wanted = [AP, RR, Success @ 1, Success @ 5, Success @ 10]
        found = ir_measures.calc_aggregate(wanted, judged, ranked)
        ours = measured[name]
        values = [ours["mean_average_precision"], ours["mean_reciprocal_rank"]]
        values += [ours["recall"][k] for k in ("1", "5", "10")]
        expected = [100 * found[measure] for measure in wanted]
        assert [one["value"] for one in values] == pytest.approx(expected, rel=1e-9)
        assert 20 < expected[2] < 95  # neither trivial nor hopeless


def test_recall_is_the_share_of_queries_with_a_hit_among_the_top_k_of_torch(embeddings):
    """As CLIP_benchmark defines it, from its description: any right answer among `torch.topk`."""
    measured = Retrieval(k=10).run(embeddings)
    for name, scores, relevance in directions(embeddings):
        table = torch.from_numpy(scores)
        positive = torch.zeros(table.shape, dtype=torch.bool)
        owner = np.repeat(np.arange(len(relevance)), relevance.counts)
        positive[owner, relevance.rows] = True
        for k in (1, 5, 10):
            hit = positive.gather(1, table.topk(k, dim=1).indices).any(dim=1)
            value = measured[name]["recall"][str(k)]["value"]
            assert value == pytest.approx(100 * hit.double().mean().item())


def test_recall_equals_that_of_clip_benchmark(embeddings):
    """Its own `recall_at_k`, where the package is installed; it needs many others, so it may not.

    A hit is a recall above 0, as its evaluation has it.
    """
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    measured = Retrieval(k=10).run(embeddings)
    for name, scores, relevance in directions(embeddings):
        positive = torch.zeros(scores.shape, dtype=torch.bool)
        owner = np.repeat(np.arange(len(relevance)), relevance.counts)
        positive[owner, relevance.rows] = True
        for k in (1, 5, 10):
            table = torch.from_numpy(np.ascontiguousarray(scores))
            found = (peer.recall_at_k(table, positive, k) > 0).double().mean().item()
            assert measured[name]["recall"][str(k)]["value"] == pytest.approx(100 * found)
