"""Similarity by a dual run of the very items that a joint training has, from the run's stores."""

from dataclasses import replace

import numpy as np
import pytest

from lightalign.featcache import atomic_files
from lightalign.featcache.errors import SpecError, StoreIncompleteError, StoreNotFoundError
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import SideQuery, StoreQuery, newest_pair
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.embed_stored import embed_rows
from lightalign.pipelines.runs.trained_run import TrainedRun
from lightalign.pipelines.training.joint import dual_similarity as module
from lightalign.pipelines.training.joint.dual_similarity import dual_similarity

from ...conftest import extract_toy
from ..test_train import CPU, quick_train


def stores_of(home, kind="tokens", split="train"):
    query = StoreQuery(by_side=dict.fromkeys(IMAGE_TEXT, SideQuery(kind=kind)), split=split)
    return PairedStores(newest_pair(home, query), home=home)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with tokens, a run on their means, and one that the joint training is of."""
    home = tmp_path_factory.mktemp("dual")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, features=("tokens", "mean"))
    features = {"image_features": ("mean",), "text_features": ("mean",)}
    quick_train(home, name="dual", preset="linear", **features)
    return home


def test_cosines_are_those_of_the_runs_own_stores_in_the_order_of_the_trainings_rows(home):
    stores = stores_of(home)
    similarity = dual_similarity(home, "dual", stores, scale=20.0, device=CPU)
    run, means = TrainedRun(home, "dual", device="cpu"), stores_of(home, "mean")
    rows = [np.arange(len(reader)) for reader in (means.first, means.second)]
    first, second = (
        embed_rows(run.adapter, reader, of_side, device=CPU)
        for reader, of_side in zip((means.first, means.second), rows, strict=True)
    )
    places = {name: place for place, name in enumerate(means.second.ids)}
    texts = [stores.second.ids[row] for row in (7, 3)]
    expected = 20.0 * first[[2, 5, 0]] @ second[[places[name] for name in texts]].T
    assert [stores.first.ids[row] for row in (2, 5, 0)] == [means.first.ids[r] for r in (2, 5, 0)]
    found = similarity.logits(np.array([2, 5, 0]), np.array([7, 3]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(similarity.first) == len(stores.first)


def test_items_that_the_runs_stores_lack_are_counted_and_one_is_named(home, monkeypatch):
    """As where an image could be read for one extraction and not for the other."""
    embed = module.embed_store

    def without_the_last(*args, **options):
        embedded = embed(*args, **options)
        return replace(embedded, ids=embedded.ids[:-1], vectors=embedded.vectors[:-1])

    monkeypatch.setattr(module, "embed_store", without_the_last)
    last = stores_of(home).first.ids[-1]
    with pytest.raises(
        StoreIncompleteError, match=rf"1 items, such as '{last}', are not in .*dual"
    ):
        dual_similarity(home, "dual", stores_of(home), scale=20.0, device=CPU)


def test_a_run_with_another_adapter_than_then_is_refused(home):
    weights = run_folder.runs_folder(home) / "dual" / run_folder.WEIGHTS
    now = atomic_files.sha256_file(weights)
    dual_similarity(home, "dual", stores_of(home), adapter_sha256=now, scale=1.0, device=CPU)
    with pytest.raises(SpecError, match=r"run dual is another now than the one .* train anew"):
        dual_similarity(
            home, "dual", stores_of(home), adapter_sha256="0" * 64, scale=1.0, device=CPU
        )


def test_a_run_between_two_texts_draws_no_images(home):
    both = {"text_encoder": "toy-text", "second_text_encoder": "toy-text"}
    quick_train(home, name="texts", preset="linear", **both)
    assert TrainedRun(home, "texts", device="cpu").sides == TEXT_TEXT
    with pytest.raises(SpecError, match="a run that aligns these, and texts aligns"):
        dual_similarity(home, "texts", stores_of(home), scale=1.0, device=CPU)


def test_a_split_that_the_run_has_no_stores_of_is_named(tmp_path):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder)
        extract_toy(tmp_path, encoder, features=("mean",), split="train")
    features = {"image_features": ("mean",), "text_features": ("mean",)}
    quick_train(tmp_path, name="dual", preset="linear", **features)
    with pytest.raises(StoreNotFoundError, match="val"):
        dual_similarity(tmp_path, "dual", stores_of(tmp_path, split="val"), scale=1.0, device=CPU)
