import faiss
import numpy as np
import pytest

from lightalign.featcache.errors import SpecError
from lightalign.pipelines.ranking.faiss_index import FlatIndex, build, search
from lightalign.pipelines.ranking.index_plan import num_lists, plan_index, scores_exactly
from lightalign.pipelines.ranking.index_training import parts, prepare_training
from lightalign.pipelines.ranking.index_tuning import compare_with_flat, tune


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(num, *, width=16, clusters=20, seed=0):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((clusters, width))
    return unit(
        centres[random.integers(clusters, size=num)] + 0.3 * random.standard_normal((num, width))
    )


def nearest(gallery, queries, k):
    """Return the rows of the k nearest, by NumPy in float64."""
    return np.argsort(-(queries.astype(np.float64) @ gallery.astype(np.float64).T), axis=1)[:, :k]


def test_the_exact_index_finds_what_numpy_finds_in_float64():
    gallery, queries = clustered(300), clustered(7, seed=1)
    scores, rows = search(FlatIndex(gallery), queries, 5)
    assert np.array_equal(rows, nearest(gallery, queries, 5))
    np.testing.assert_allclose(
        scores, np.take_along_axis(queries @ gallery.T, rows, axis=1), atol=1e-6
    )


def test_the_exact_index_takes_no_memory_but_that_of_the_gallery():
    gallery = clustered(300)
    assert np.shares_memory(FlatIndex(gallery).vectors, gallery)


@pytest.mark.parametrize(
    ("num", "budget", "kind", "factory", "num_bytes"),
    [
        (100_000, 4_000_000_000, "flat", "Flat", 204_800_000),
        (1_000_000, 4_000_000_000, "ivf", "IVF2000,Flat", 2_060_096_000),
        (1_000_000, 1_000_000_000, "ivf-sq8", "IVF2000,SQ8", 524_096_000),
        (1_000_000, 200_000_000, "pq", "IVF2000,PQ128np", 140_620_288),
        (100_000, 100_000_000, "ivf-sq8", "IVF632,SQ8", 53_294_336),
    ],
)
def test_auto_chooses_by_size_and_memory(num, budget, kind, factory, num_bytes):
    """By hand, of 512 floats: whole vectors take 2048 bytes each, and 8 of their number in lists.

    1,000,000 (2048 + 8) + 2000 centroids of 2048 = 2,060,096,000; a byte a float: 1,000,000
    (512 + 8) + 4,096,000; 128 bytes of codes: 1,000,000 (128 + 8) + 2048 (2000 + 256 codewords).
    100,000 vectors have 2 * 316 lists: 100,000 * 520 + 632 * 2048.
    """
    plan = plan_index("auto", num=num, width=512, memory_budget=budget)
    assert (plan.kind, plan.factory, plan.num_bytes) == (kind, factory, num_bytes)
    assert plan.approximate == (kind != "flat")


def test_few_vectors_are_sorted_into_few_lists():
    assert [num_lists(num) for num in (1, 100, 10_000, 1_000_000)] == [1, 2, 200, 2000]


def test_an_index_that_fits_no_memory_is_refused_with_what_it_takes():
    with pytest.raises(SpecError, match=r"'pq' of 1,000,000 .* takes 140\.6 MB, and 100\.0 MB may"):
        plan_index("auto", num=1_000_000, width=512, memory_budget=100_000_000)
    with pytest.raises(SpecError, match="or take --index auto"):
        plan_index("ivf", num=1_000_000, width=512, memory_budget=100_000_000)


def test_a_product_quantizer_of_too_few_vectors_is_refused():
    with pytest.raises(SpecError, match="needs as many vectors, found 100: take flat"):
        plan_index("pq", num=100, width=512, memory_budget=10**9)


@pytest.mark.parametrize(
    ("factory", "exactly"),
    [
        ("Flat", True),
        ("IVF25,Flat", True),
        ("IVF16_HNSW8,Flat", True),
        ("HNSW32", True),
        ("HNSW32,Flat", True),
        ("PCA8,IVF4,PQ4np,RFlat", True),
        ("IVF25,PQ32np", False),
        ("IVF25,SQ8", False),
        ("HNSW32_PQ8", False),
        ("PCA8,Flat", False),
        ("PQ4,Refine(SQ8)", False),
    ],
)
def test_scores_are_cosines_where_whole_vectors_are_kept(factory, exactly):
    assert scores_exactly(factory) == exactly


def test_nothing_cannot_be_indexed():
    with pytest.raises(SpecError, match="at least one vector"):
        plan_index("auto", num=0, width=512, memory_budget=10**9)


@pytest.mark.parametrize("kind", ["flatt", "IVF900,Flat"])
def test_what_faiss_cannot_build_is_refused_with_the_names_that_are_known(kind):
    gallery = clustered(300)
    with pytest.raises(SpecError, match=f"cannot build index '{kind}' .* known by name: .'auto'"):
        build(gallery, kind, queries=gallery[:2], memory_budget=10**9)


def test_a_factory_string_for_the_exact_index_is_the_exact_index():
    gallery = clustered(30)
    built = build(gallery, "Flat", queries=gallery[:2], memory_budget=10**9)
    assert not built.approximate
    assert built.metrics == {}


@pytest.mark.parametrize(
    "kind", ["pq", "IVF4,PQ4", "PQ4,RFlat", "OPQ4,PQ4", "HNSW8,PQ4np", "RQ2x4", "IVF20(PQ4x4),Flat"]
)
def test_few_vectors_are_learnt_from_without_a_word(kind, capfd):
    gallery = clustered(300)
    built = build(gallery, kind, queries=gallery[:4], memory_budget=10**9)
    _, rows = search(built.index, gallery[:4], 10)
    expected = nearest(gallery, gallery[:4], 10)
    shares = [len({*some} & {*right}) / 10 for some, right in zip(rows, expected, strict=True)]
    assert np.mean(shares) > 0.3  # ten times what ten random rows are
    assert capfd.readouterr() == ("", "")


def test_codes_are_not_ordered_for_a_filter_that_no_search_uses():
    """Ordering the codes takes minutes that no signal ends."""
    for factory in ("IVF4,PQ4", "PQ4,RFlat"):
        index = faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT)
        prepare_training(index)
        assert not any(getattr(part, "do_polysemous_training", False) for part in parts(index))


@pytest.mark.parametrize("kind", ["OPQ16,PQ4np", "OPQ16,IVF16,PQ16np", "OPQ16,PQ4np,RFlat"])
def test_a_rotation_of_fewer_vectors_than_floats_is_refused(kind):
    """FAISS would write past the end of its memory: 300 rows where the rotation has 320."""
    random = np.random.default_rng(0)
    gallery = unit(random.standard_normal((300, 320)))
    with pytest.raises(SpecError, match=r"300 vectors: OPQ .* to width 320 and needs as many"):
        build(gallery, kind, queries=gallery[:2], memory_budget=10**9)


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "IVF20,SQ8"])
def test_an_approximate_index_is_tuned_until_it_finds_nearly_all(kind):
    gallery, queries = clustered(2000), clustered(200, seed=1)
    built = build(gallery, kind, queries=queries, memory_budget=10**9)
    _, rows = search(built.index, queries, 10)
    expected = nearest(gallery, queries, 10)
    shares = [len({*some} & {*right}) / 10 for some, right in zip(rows, expected, strict=True)]
    assert np.mean(shares) > 0.95
    recall = built.metrics["recall_at_10"]
    assert recall.num == 100
    assert recall.chance == 0.5  # percent: ten of two thousand
    assert recall.interval[0] <= recall.value <= recall.interval[1]
    assert built.metrics["times_flat"].value == pytest.approx(
        built.metrics["queries_per_second"].value / built.metrics["flat_queries_per_second"].value
    )


def lists_of(gallery, num):
    index = faiss.index_factory(gallery.shape[1], f"IVF{num},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(gallery)
    index.add(gallery)
    return index


def test_the_recall_of_an_approximate_index_is_what_numpy_counts():
    gallery, queries = clustered(500), clustered(40, seed=1)
    index = lists_of(gallery, 20)
    _, rows = index.search(queries, 10)
    expected = nearest(gallery, queries, 10)
    counted = sum(len({*some} & {*right}) for some, right in zip(rows, expected, strict=True))
    found = compare_with_flat(index, gallery, queries)["recall_at_10"]
    assert 0 < counted < 400
    assert found.value == pytest.approx(100 * counted / 400)


def test_an_answer_that_ties_with_the_last_of_the_nearest_is_right():
    """Of thirty equal vectors any ten are the nearest."""
    gallery = np.repeat(clustered(1), 30, axis=0)
    index = faiss.index_factory(16, "HNSW8,Flat", faiss.METRIC_INNER_PRODUCT)
    index.add(gallery)
    assert compare_with_flat(index, gallery, gallery[:3])["recall_at_10"].value == 100


def test_no_more_lists_are_searched_than_needed():
    """Of two clusters far apart a query wants the list of its own only."""
    random = np.random.default_rng(0)
    gallery = unit(np.repeat(np.eye(8)[:2], 50, axis=0) + 0.01 * random.standard_normal((100, 8)))
    assert tune(lists_of(gallery, 2), gallery, gallery[:50:5]) == {"nprobe": 1}


@pytest.mark.parametrize("kind", ["IVF8,PQ4np,RFlat", "PCA8,PQ4np,RFlat"])
def test_a_refinement_sees_as_many_candidates_as_it_needs(kind, tmp_path):
    gallery, queries = clustered(600), clustered(60, seed=1)
    built = build(gallery, kind, queries=queries, memory_budget=10**9)
    assert built.parameters["k_factor"] > 1
    assert built.metrics["recall_at_10"].value > 95
    faiss.write_index(built.index, str(tmp_path / "index"))
    read = faiss.read_index(str(tmp_path / "index"))
    assert faiss.downcast_index(read).k_factor == built.parameters["k_factor"]
    assert np.array_equal(search(read, queries, 10)[1], search(built.index, queries, 10)[1])


def test_a_refinement_of_whole_vectors_needs_no_more_candidates_than_answers():
    gallery, queries = clustered(600), clustered(60, seed=1)
    index = faiss.index_factory(16, "Flat,RFlat", faiss.METRIC_INNER_PRODUCT)
    index.add(gallery)
    assert tune(index, gallery, queries) == {"k_factor": 1}


def test_a_graph_inside_another_index_is_tuned():
    gallery, queries = clustered(2000), clustered(60, seed=1)
    built = build(gallery, "PCA16,HNSW8,Flat", queries=queries, memory_budget=10**9)
    assert built.parameters["efSearch"] >= 20


def test_an_index_that_misses_much_comes_with_a_warning():
    random = np.random.default_rng(0)
    gallery = unit(random.standard_normal((300, 16)))
    built = build(gallery, "PCA2,Flat", queries=gallery, memory_budget=10**9)
    assert built.parameters == {}
    assert built.metrics["recall_at_10"].value < 95
    assert "% of the true nearest" in built.warnings[0]
