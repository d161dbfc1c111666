"""Recalls averaged over folds of images."""

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError
from lightalign.featcache.links import Links
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.ranking.folds import FoldedRetrieval, split_folds
from lightalign.pipelines.ranking.recall import Retrieval, headline_recalls
from lightalign.pipelines.rendering.evaluations import retrieval_parts
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign


def unit(random, *shape):
    vectors = random.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def pairs_of(num_images, captions=2, **kwargs):
    random = np.random.default_rng(0)
    images = unit(random, num_images, 6)
    texts = np.repeat(images, captions, axis=0) + unit(random, num_images * captions, 6)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return PairedEmbeddings(
        images,
        texts.astype(np.float32),
        tuple(f"i{n}" for n in range(num_images)),
        tuple(f"t{n}" for n in range(num_images * captions)),
        Relevance.of([range(captions * n, captions * (n + 1)) for n in range(num_images)]),
        Relevance.of([[n // captions] for n in range(num_images * captions)]),
        **kwargs,
    )


def by_hand(pairs, first, last, captions=2):
    """R@1 and R@5 from texts to images and back, among images `first` to `last` alone."""
    images = pairs.first[first:last].astype(np.float64)
    texts = pairs.second[captions * first : captions * last].astype(np.float64)
    scores = texts @ images.T
    own = np.repeat(np.arange(last - first), captions)
    to_image = (scores > scores[np.arange(len(own)), own][:, None]).sum(axis=1)
    best = np.array([scores[own == n, n].max() for n in range(last - first)])
    wrong = np.where(own[:, None] == np.arange(last - first), -np.inf, scores)
    to_text = (wrong > best).sum(axis=0)
    return [[100 * (ranks < k).mean() for k in (1, 5)] for ranks in (to_image, to_text)]


def test_folds_are_consecutive_images_and_their_mean_is_that_of_each_alone():
    """Twenty images in folds of seven, seven and six; the same by NumPy in float64."""
    pairs = pairs_of(20)
    found = FoldedRetrieval(Retrieval(), 3).run(pairs)
    alone = [by_hand(pairs, *ends) for ends in ((0, 7), (7, 14), (14, 20))]
    expected = np.mean(alone, axis=0)
    for row, name in enumerate(("text_to_image", "image_to_text")):
        recall = found[name]["recall"]
        assert [recall[k]["value"] for k in ("1", "5")] == pytest.approx(expected[row].tolist())
        assert recall["1"]["interval"][0] <= recall["1"]["value"] <= recall["1"]["interval"][1]
    assert found["text_to_image"]["galleries"] == [7, 7, 6]
    chance = np.mean([100 / 7, 100 / 7, 100 / 6])
    assert found["text_to_image"]["recall"]["1"]["chance"] == pytest.approx(chance)
    assert [fold.first_ids[0] for fold in split_folds(pairs, 3)] == ["i0", "i7", "i14"]


def test_each_fold_has_the_recalls_of_retrieval_on_its_images_alone():
    pairs = pairs_of(60)
    found = FoldedRetrieval(Retrieval(), 2).run(pairs)
    alone = [headline_recalls(fold) for fold in split_folds(pairs, 2)]
    for name in ("text_to_image", "image_to_text"):
        for k, number in found[name]["recall"].items():
            assert number["value"] == pytest.approx(np.mean([one[name][k] for one in alone]))
    total = np.mean([one["recall_sum"] for one in alone])
    assert found["recall_sum"]["value"] == pytest.approx(total)


def test_a_text_of_images_in_two_folds_is_in_both_and_right_for_its_own():
    """Text 0 is of images 0 and 3."""
    eye = np.eye(4, dtype=np.float32)
    pairs = PairedEmbeddings(
        eye,
        eye[:3],
        ("a", "b", "c", "d"),
        ("t", "u", "v"),
        Relevance.of([[0], [1], [2], [0]]),
        Relevance.of([[0, 3], [1], [2]]),
    )
    first, second = split_folds(pairs, 2)
    assert (first.second_ids, second.second_ids) == (("t", "u"), ("t", "v"))
    assert first.firsts_of_second.rows.tolist() == [0, 1]
    assert second.firsts_of_second.rows.tolist() == [1, 0]
    assert second.seconds_of_first.rows.tolist() == [1, 0]


def test_a_text_that_says_the_same_as_one_of_another_fold_stays_in_its_own():
    """Texts 0 and 3 say the same, and are right for images 0 and 3; each fold has two texts."""
    eye = np.eye(4, dtype=np.float32)
    right = Relevance.of([[0, 3], [1], [2], [0, 3]])
    names = (("a", "b", "c", "d"), ("t", "u", "v", "w"))
    ids = dict(zip(IMAGE_TEXT, names, strict=True))
    links = Links.of(ids, {IMAGE_TEXT: zip(*names, strict=True)})
    pairs = PairedEmbeddings(eye, eye, *names, right, right)
    first, second = split_folds(pairs, 2, links=links)
    assert (first.second_ids, second.second_ids) == (("t", "u"), ("v", "w"))
    for fold in (first, second):
        assert fold.seconds_of_first.rows.tolist() == fold.firsts_of_second.rows.tolist() == [0, 1]


def test_folds_that_cannot_be_are_refused():
    with pytest.raises(SpecError, match="5 of 3 images"):
        FoldedRetrieval(Retrieval(), 5).run(pairs_of(3))
    right = Relevance.of([[1], [0]])
    texts = PairedEmbeddings(
        *[np.eye(2, dtype=np.float32)] * 2, *[("a", "b")] * 2, right, right, sides=TEXT_TEXT
    )
    with pytest.raises(SpecError, match="two text encoders"):
        split_folds(texts, 2)
    with pytest.raises(SpecError, match="at least 2"):
        FoldedRetrieval(Retrieval(), 1)


def test_the_command_reports_folds_beside_the_whole(home):
    spec = TrainSpec(
        home=home,
        preset="linear",
        device="cpu",
        name="small",
        overrides=("train.epochs=1", "train.batch_size=8", "train.validation=none"),
    )
    train.run(spec)
    done = lightalign("retrieve", "small", "--folds", "2", home=home)
    assert done.returncode == 0, done.stderr
    assert "mean over 2 folds of images" in done.stdout
    assert "galleries of 4" in done.stdout
    folded = retrieve.run(retrieve.RetrieveSpec(home=home, run="small", folds=2, device="cpu"))
    assert folded.path.name == "retrieval-shapes-test-folds-2.json"
    plain = retrieve.run(retrieve.RetrieveSpec(home=home, run="small", device="cpu"))
    whole = plain.report["metrics"]["recall_sum"]
    assert folded.report["metrics"]["recall_sum"] == whole
    assert len(retrieval_parts(folded.report)) == len(retrieval_parts(plain.report)) + 1
    done = lightalign("retrieve", "small", "--folds", "9", home=home)
    assert (done.returncode, "9 of 8 images" in done.stderr) == (2, True)
