"""R@k by an index that may miss right answers: what it does not find is missed, never guessed."""

import time

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError
from lightalign.pipelines.evaluation.retrieve import run as run_retrieve
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.metrics.bootstrap import BootstrapDraws
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking import index_tuning
from lightalign.pipelines.ranking.faiss_index import build
from lightalign.pipelines.ranking.ranking import Direction, ranks_by, ranks_only
from lightalign.pipelines.ranking.recall import Retrieval
from lightalign.pipelines.ranking.rerank import Reranker
from lightalign.pipelines.rendering.evaluations import retrieval_parts
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec


def unit(random, *shape):
    vectors = random.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def direction():
    """Return 60 queries, each near one row of a gallery of 400."""
    random = np.random.default_rng(0)
    gallery = unit(random, 400, 8)
    right = random.integers(400, size=60)
    queries = gallery[right] + unit(random, 60, 8)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return Direction(
        "text_to_image",
        queries,
        gallery,
        Relevance.of([[row] for row in right.tolist()]),
        [f"t{row}" for row in range(60)],
        [f"i{row}" for row in range(400)],
        np.arange(60),
    )


def test_an_index_that_looks_everywhere_gives_the_exact_ranks(direction):
    built = build(direction.gallery, "IVF4,Flat", queries=direction.queries)
    built.index.nprobe = 4
    exact = ranks_only(direction, 400)
    assert (ranks_by(built.index, direction, 400) == exact).all()
    assert (exact > 1).sum() > 10
    assert (ranks_by(built.index, direction, 5) == np.where(exact <= 5, exact, 401)).all()


def test_what_lies_in_no_list_that_is_looked_at_is_missed(direction):
    """With one list of forty a query finds about ten rows; FAISS fills the rest with -1."""
    built = build(direction.gallery, "IVF40,Flat", queries=direction.queries)
    built.index.nprobe = 1
    lists = built.index.quantizer.search(direction.gallery, 1)[1][:, 0]
    asked = built.index.quantizer.search(direction.queries, 1)[1][:, 0]
    scores = direction.queries @ direction.gallery.T
    expected = [
        1 + int((line[lists == own] > line[right]).sum()) if lists[right] == own else 401
        for line, own, right in zip(scores, asked, direction.relevance.rows, strict=True)
    ]
    assert 5 < expected.count(401) < 55
    assert ranks_by(built.index, direction, 400).tolist() == expected


def test_the_text_itself_is_left_out_of_what_is_found():
    random = np.random.default_rng(1)
    vectors = unit(random, 200, 8)
    vectors[1::2] = vectors[::2]  # row 2n + 1 is the other text of row 2n's image
    own = np.arange(200)
    direction = Direction(
        "first_text_to_second_text",
        vectors,
        vectors,
        Relevance.of([[row ^ 1] for row in range(200)]),
        [str(row) for row in range(200)],
        [str(row) for row in range(200)],
        own // 2,
        own,
    )
    built = build(vectors, "IVF2,Flat", queries=vectors)
    built.index.nprobe = 2
    assert (ranks_by(built.index, direction, 2) == 1).all()


@pytest.mark.parametrize("k", [1, 5, 100])
def test_recalls_do_not_depend_on_the_length_of_the_curve(direction, k):
    draws = BootstrapDraws(60)
    exact, _, _ = Retrieval(k=100).measure(direction, draws)
    found, _, worst = Retrieval(k=k, index="IVF1,Flat").measure(direction, draws)
    assert found["recall"] == exact["recall"]
    assert found["curve"]["recall"] == exact["curve"]["recall"][:k]
    assert 0 < found["recall"]["1"]["value"] < found["recall"]["10"]["value"] < 100
    assert worst == []  # what came first would be told by another search


def test_what_an_index_misses_of_the_whole_gallery_lies_in_the_interval():
    """Thirty clusters of 20; every third query is asked for an item of the opposite cluster."""
    random = np.random.default_rng(3)
    middles = random.standard_normal((30, 32))
    vectors = middles[np.arange(600) // 20] + 0.1 * random.standard_normal((2, 600, 32))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    queries, gallery = vectors.astype(np.float32)
    ids = [f"{row}" for row in range(600)]
    own = Relevance.of([[(row + 300) % 600 if row % 3 == 0 else row] for row in range(600)])
    direction = Direction("text_to_image", queries, gallery, own, ids, ids, np.arange(600))
    found, _, _ = Retrieval(k=600, index="IVF16,Flat").measure(direction, BootstrapDraws(600))
    curve = found["curve"]
    assert 60 < curve["recall"][-1] < 100
    assert curve["low"][-1] < curve["recall"][-1] < curve["high"][-1]


class Oracle(Reranker):
    def __init__(self, right):
        self.right = right

    def score(self, queries, gallery):
        return (self.right[queries] == gallery).astype(np.float32)


@pytest.mark.parametrize("index", ["flat", "IVF1,Flat"])
def test_with_an_oracle_the_first_answer_is_right_where_it_was_among_the_first_k(direction, index):
    draws, oracle = BootstrapDraws(60), Oracle(direction.relevance.rows)
    exact, _, _ = Retrieval(k=20).measure(direction, draws)
    retrieval = Retrieval(k=20, index=index, rerankers={"text_to_image": oracle})
    found, _, _ = retrieval.measure(direction, draws)
    assert found["recall"]["1"]["value"] == exact["curve"]["recall"][-1]
    assert found["recall"]["1"]["value"] > exact["recall"]["10"]["value"] + 1
    assert "mean_rank" not in found


def test_the_exact_search_is_never_refused_for_the_memory_of_an_index(direction):
    table, _, _ = Retrieval(index="Flat", memory_budget=1).measure(direction, BootstrapDraws(60))
    assert table["mean_rank"]["value"] > 1
    with pytest.raises(SpecError, match="may be taken"):
        Retrieval(index="ivf", memory_budget=1).measure(direction, BootstrapDraws(60))


def test_retrieve_prints_recalls_and_what_the_index_finds(home):
    spec = TrainSpec(
        preset="linear", home=home, overrides=("train.epochs=1", "train.batch_size=8"), device="cpu"
    )
    train.run(spec)
    exact = run_retrieve(RetrieveSpec(home=home, device="cpu")).report["metrics"]
    by_index = run_retrieve(RetrieveSpec(home=home, index="IVF1,Flat", device="cpu"))
    assert by_index.path.name == "retrieval-shapes-test-IVF1-Flat.json"
    assert (by_index.folder / "retrieval-shapes-test.json").is_file()  # the exact one stays
    names = {"recall_at_10", "queries_per_second", "flat_queries_per_second", "times_flat"}
    assert names <= set(by_index.report["definitions"])
    found = by_index.report["metrics"]
    for name in ("text_to_image", "image_to_text"):
        assert found[name]["recall"] == exact[name]["recall"]  # one list holds everything
        assert found[name]["index"]["recall_at_10"]["value"] == 100.0
        assert "mean_average_precision" not in found[name]
    table, *lines = retrieval_parts(by_index.report)
    assert all("recall@10 against flat 100.0" in line for line in lines)
    assert len(lines) == 2
    assert "mAP, %" not in table.columns[0].cells


def test_an_index_and_another_scoring_do_not_go_together(tmp_path):
    with pytest.raises(SpecError, match="leave out --scoring"):
        RetrieveSpec(home=tmp_path, scoring="dual-softmax", index="ivf")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("index", None, "index must be a text, found None"),
        ("data", 3, "data must be a text or None, found 3"),
        ("allow_leakage", "no", "allow_leakage must be True or False, found 'no'"),
        ("source", "photos", "source must be options by name or None, found 'photos'"),
        ("k", True, "k must be a whole number, found True"),
    ],
)
def test_an_option_of_another_type_is_refused_by_its_name(tmp_path, option, value, message):
    """The type check of the tests, which users do not have, is passed by."""
    spec = RetrieveSpec(home=tmp_path)
    object.__setattr__(spec, option, value)
    with pytest.raises(SpecError, match=message):
        spec.__post_init__()


def test_a_gallery_of_one_is_measured_at_once(monkeypatch):
    """A call takes microseconds: a thousand of them are enough, whatever the least time is."""
    monkeypatch.setattr(index_tuning, "LEAST_SECONDS", 60.0)
    began = time.perf_counter()
    built = build(np.ones((1, 4), np.float32) / 2, "ivf", queries=np.ones((1, 4), np.float32) / 2)
    assert built.metrics["recall_at_10"].value == 100.0
    assert time.perf_counter() - began < 30.0
