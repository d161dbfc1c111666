import json
import shutil

import numpy as np
import pytest
from PIL import Image

import lightalign
from lightalign.featcache.errors import StoreNotFoundError
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.types import Modality
from lightalign.pipelines.search import build_index
from lightalign.pipelines.search.build_index_spec import IndexSpec
from lightalign.pipelines.search.search import run as search
from lightalign.pipelines.search.search_spec import SearchSpec

from ...helpers import lightalign as command
from ..conftest import SCENES


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def indexed(matching_home, tmp_path_factory):
    """Return a home with both runs and indexes of both sides of the split `test`; read only."""
    home = tmp_path_factory.mktemp("reranked") / "h"
    home.mkdir()
    (home / "features").symlink_to(matching_home / "features")
    shutil.copytree(matching_home / "runs", home / "runs")
    build_index.run(IndexSpec(home=home, run="dual", split="test", side="both", device="cpu"))
    return home


def ask(home, query="A red circle.", **fields):
    return search(SearchSpec(home=home, run="dual", query=query, device="cpu", **fields))


def test_the_first_answers_are_put_in_the_order_of_the_joint_run(indexed):
    plain, reranked = ask(indexed, k=5), ask(indexed, k=5, rerank="joint")
    assert {hit.id for hit in reranked.hits} == {hit.id for hit in plain.hits}
    assert [hit.rank for hit in reranked.hits] == [1, 2, 3, 4, 5]
    differences = [hit.logit_difference for hit in reranked.hits]
    assert differences == sorted(differences, reverse=True)
    assert len(set(differences)) == 5
    cosines = {hit.id: hit.score for hit in plain.hits}
    assert {hit.id: hit.score for hit in reranked.hits} == cosines
    assert all(hit.logit_difference is None for hit in plain.hits)


@pytest.mark.parametrize("side", ["image", "text"])
def test_no_score_depends_on_k(indexed, photo, side):
    query = {"image": "A red circle.", "text": str(photo)}[side]
    few, many = (
        {
            hit.id: hit.logit_difference
            for hit in ask(indexed, query, k=k, side=side, rerank="joint").hits
        }
        for k in (3, 8)
    )
    assert few.items() < many.items()


def test_a_score_is_that_of_match_for_the_text_itself(indexed, photo):
    """What is stored of a text is what its encoder makes of it now."""
    opened = lightalign.load_joint("joint", home=indexed, device="cpu")
    texts = {
        item.id: item.text
        for item in open_source("shapes", home=indexed, options=SCENES).items("test", Modality.TEXT)
    }
    hits = ask(indexed, str(photo), side="text", k=4, rerank="joint").hits
    matches = opened.match(photo, [texts[hit.id] for hit in hits])
    for hit, match in zip(hits, matches, strict=True):
        assert hit.logit_difference == pytest.approx(match.logit_difference, abs=2e-6)


def test_both_scores_are_shown_and_said_as_json(indexed):
    words = ["search", "dual", "A red circle.", "--rerank", "joint", "--k", "3", "-q"]
    shown = command(*words, home=indexed).stdout
    hits = ask(indexed, k=3, rerank="joint").hits
    assert shown.splitlines()[0].split() == ["rank", "itm", "cosine", "id", "found"]
    for line, hit in zip(shown.splitlines()[1:], hits, strict=False):
        assert line.split()[1:3] == [f"{hit.logit_difference:+.2f}", f"{hit.score:.3f}"]
    told = json.loads(command(*words, "--json", home=indexed).stdout)
    assert told["rerank"] == "joint"
    assert [hit["logit_difference"] for hit in told["hits"]] == [
        hit.logit_difference for hit in hits
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--rerank", "dual"], "run dual embeds each side alone"),
        (["a", "--rerank", "nope"], "no run 'nope'"),
        (["a", "--rerank", "joint", "--side", "text"], "asks by text for texts: leave it out"),
        (["a", "--rerank", "joint", "--weights", "x=y"], "weights are named for 'x'"),
    ],
)
def test_bad_input_is_one_line(indexed, words, message):
    done = command("search", "dual", *words, "-q", "--device", "cpu", home=indexed)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_features_that_are_missing_are_named_with_their_extraction(indexed, tmp_path):
    home = tmp_path / "h"
    shutil.copytree(indexed, home)
    (store,) = (
        path
        for path in (home / "features" / "shapes" / "test").iterdir()
        if path.is_dir() and '"grid:2x2"' in (path / "manifest.json").read_text()
    )
    shutil.rmtree(store)
    with pytest.raises(StoreNotFoundError, match=r"extract .*--features grid:2x2"):
        ask(home, rerank="joint")
