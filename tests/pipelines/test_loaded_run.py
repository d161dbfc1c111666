import io
import shutil

import numpy as np
import pytest
from PIL import Image

import lightalign
from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.featcache.errors import (
    FeatureRangeError,
    RunNotFoundError,
    SpecError,
    UnreadableItemError,
    WeightsMismatchError,
)
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import DatasetQuery, evaluation_query, require_pair
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.embed_stored import embed_rows
from lightalign.pipelines.training import train
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec

from ..helpers import slow, write_spec
from .conftest import SCENES, extract_toy

FAST = ("train.epochs=1", "train.batch_size=8", "towers.both.project.out=16")


@pytest.fixture(scope="module")
def run(toy_home, tmp_path_factory):
    """Train once, and return the folder of a copy that has neither stores nor dataset beside it."""
    spec = TrainSpec(
        preset="lightalign/fusion", home=toy_home, data="shapes", overrides=FAST, device="cpu"
    )
    trained = train.run(spec).folder
    return shutil.copytree(trained, tmp_path_factory.mktemp("elsewhere") / trained.name)


def scenes(modality, home):
    return open_source("shapes", home=home, options=SCENES).items("test", modality)


def from_the_store(bundle, home, modality):
    plan = resolve(TrainSpec(preset="lightalign/fusion", home=home, data="shapes"))
    query = evaluation_query(plan.stores, "test", DatasetQuery(None, None))
    stores = PairedStores(require_pair(home, query), home=home)
    reader = stores.first if modality is Modality.IMAGE else stores.second
    rows = np.arange(len(reader))
    return reader.ids, embed_rows(bundle.adapter, reader, rows, device=bundle.device)


def test_images_and_texts_embed_as_from_their_stores(toy_home, run):
    bundle = lightalign.load(run, device="cpu")
    images, texts = (list(scenes(modality, toy_home)) for modality in IMAGE_TEXT)
    found = {
        Modality.IMAGE: bundle.embed_images([item.read_bytes() for item in images], batch_size=3),
        Modality.TEXT: bundle.embed_texts([item.text for item in texts], batch_size=7),
    }
    for modality, items in ((Modality.IMAGE, images), (Modality.TEXT, texts)):
        ids, expected = from_the_store(bundle, toy_home, modality)
        assert [item.id for item in items] == list(ids)
        assert found[modality].shape == (len(items), bundle.width)
        assert np.abs(found[modality] - expected).max() < 1e-6


@pytest.mark.parametrize("format", ["png", "jpeg", "tiff"])
def test_a_turned_picture_is_the_same_as_file_as_bytes_and_opened(toy_home, run, tmp_path, format):
    bundle = lightalign.load(run, device="cpu")
    scene = Image.open(io.BytesIO(scenes(Modality.IMAGE, toy_home)[0].read_bytes()))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    path = tmp_path / f"scene.{format}"
    scene.convert("RGB").crop((0, 0, 64, 40)).save(path, exif=exif)
    found = bundle.embed_images([path, str(path), path.read_bytes(), Image.open(path)])
    assert np.array_equal(found, np.repeat(found[:1], 4, axis=0))


def test_nothing_to_embed_gives_no_rows(run):
    bundle = lightalign.load(run, device="cpu")
    assert bundle.embed_images([]).shape == bundle.embed_texts([]).shape == (0, bundle.width)


def test_the_newest_run_of_the_home_is_loaded(toy_home, run, monkeypatch):
    monkeypatch.setenv("LIGHTALIGN_HOME", str(toy_home))
    assert lightalign.load(device="cpu").folder == run_folder.find_run(toy_home, None)
    assert lightalign.load(run.name, device="cpu").encoders == {
        "image": "toy-image",
        "text": "toy-text",
    }


def test_a_run_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RunNotFoundError):
        lightalign.load("nothing", home=tmp_path)


def test_one_text_is_no_list_of_texts(run):
    with pytest.raises(SpecError, match="takes a list of texts, found 'a red square'"):
        lightalign.load(run, device="cpu").embed_texts("a red square")


def test_one_image_is_no_list_of_images(run):
    with pytest.raises(SpecError, match=r"takes a list of images, found 'scene\.png'"):
        lightalign.load(run, device="cpu").embed_images("scene.png")


def test_a_batch_has_at_least_one_item(run):
    with pytest.raises(SpecError, match="batch_size must be at least 1, found 0"):
        lightalign.load(run, device="cpu").embed_texts(["a red square"], batch_size=0)


def test_what_cannot_be_read_is_named(run, tmp_path):
    bundle = lightalign.load(run, device="cpu")
    with pytest.raises(UnreadableItemError, match=r"gone\.jpg"):
        bundle.embed_images([tmp_path / "gone.jpg"])
    with pytest.raises(UnreadableItemError, match=r"0 \(bytes\): is no image"):
        bundle.embed_images([b"text"])
    with pytest.raises(UnreadableItemError, match="no agreed white"):
        bundle.embed_images([Image.new("F", (8, 8))])


def test_an_encoder_that_is_another_now_is_refused(run, monkeypatch):
    identity = ToyEncoder.identity
    monkeypatch.setattr(ToyEncoder, "identity", lambda self: {**identity(self), "weights": "new"})
    with pytest.raises(WeightsMismatchError, match=r"weights was .* is 'new'"):
        lightalign.load(run, device="cpu").embed_texts(["a red square"])


@pytest.mark.parametrize(
    ("dtype", "kind"), [*slow(("float16", "mean")), ("bfloat16", "tokens"), *slow(("int8", "mean"))]
)
def test_features_are_reduced_and_rounded_as_in_the_store(tmp_path, dtype, kind):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder, dtype=dtype, features=(kind,), split="train")
    sets = (*FAST, "train.validation=none")
    spec = TrainSpec(home=tmp_path, preset="linear", overrides=sets, device="cpu")
    bundle = lightalign.load(train.run(spec).folder, device="cpu")
    stores = PairedStores(resolve(spec).stores, home=tmp_path)
    for reader, modality, embed in (
        (stores.first, Modality.IMAGE, bundle.embed_images),
        (stores.second, Modality.TEXT, bundle.embed_texts),
    ):
        items = list(open_source("shapes", home=tmp_path, options=SCENES).items("train", modality))
        rows = np.arange(len(reader))
        expected = embed_rows(bundle.adapter, reader, rows, device=bundle.device)
        found = embed([item.text or item.read_bytes() for item in items])
        assert np.abs(found - expected).max() < 1e-6


def test_a_feature_that_does_not_fit_is_refused(run, monkeypatch):
    bundle = lightalign.load(run, device="cpu")
    encode = ToyEncoder.encode

    def too_large(self, batch):
        tokens = encode(self, batch)
        return tokens.with_values(tokens.values * 1e6)

    monkeypatch.setattr(ToyEncoder, "encode", too_large)
    with pytest.raises(FeatureRangeError, match=r"0 \(a red square\): a feature does not fit"):
        bundle.embed_texts(["a red square"])


@pytest.mark.slow
def test_no_embedding_depends_on_what_else_is_in_a_call(toy_home):
    """Not even by a published preset, in which padding takes part."""
    sets = ("train.epochs=1", "train.batch_size=8")
    spec = TrainSpec(home=toy_home, preset="lightcrl/addition", overrides=sets, device="cpu")
    bundle = lightalign.load(train.run(spec).folder, device="cpu")
    alone = bundle.embed_texts(["a red square"])
    beside = bundle.embed_texts(["a red square left of a large blue circle", "a red square"])
    np.testing.assert_allclose(beside[1:], alone, atol=1e-6)


def test_weights_are_named_for_an_encoder_of_the_run_only(run, tmp_path):
    with pytest.raises(SpecError, match="weights are named for 'minilm'"):
        lightalign.load(run, device="cpu", weights={"minilm": tmp_path})


def test_a_run_without_its_encoders_says_so(run, tmp_path):
    old = shutil.copytree(run, tmp_path / "old")
    table = run_folder.read_spec(old)
    del table["encoders"]
    write_spec(old, table)
    with pytest.raises(SpecError, match="does not say what its encoders were"):
        lightalign.load(old)
