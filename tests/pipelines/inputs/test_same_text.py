"""Texts that say the same under several ids, in training and evaluation."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache import atomic_files
from lightalign.featcache.errors import SpecError
from lightalign.featcache.links import Links
from lightalign.featcache.sources.text_marks import text_mark
from lightalign.featcache.store import catalog
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.evaluation.retrieve import run as run_retrieve
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.inputs.image_text import join_stores
from lightalign.pipelines.inputs.same_text import without_same_texts
from lightalign.pipelines.inputs.store_selection import require_pair
from lightalign.pipelines.training import train
from lightalign.pipelines.training.options import resolve_preset
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import both_sides, lightalign
from ..conftest import extract_toy

TINY = {
    "linear": ("train.epochs=1", "train.batch_size=4"),
    "procrustes": ("towers.both.project.out=16",),
}
CAPTIONS = ("A red  square", "a red square", "a blue circle", "a green line")


def test_marks_tell_texts_apart_but_for_case_space_and_composition():
    assert text_mark("A  caf\u00e9\n") == text_mark("a cafe\u0301")
    assert len({text_mark(text) for text in ("a", "b", "a b", "ab", "a.", "")}) == 6


def test_of_same_texts_the_first_stays():
    links = (("i", "t0"), ("j", "t1"), ("j", "t2"))
    ids = {Modality.IMAGE: ("i", "j"), Modality.TEXT: ("t0", "t1", "t2")}
    pairs = Links.of(ids, {IMAGE_TEXT: links}, {"text_marks": np.array([7, 7, 3])})
    left = without_same_texts(pairs).id_pairs(IMAGE_TEXT)
    assert tuple(left) == (("i", "t0"), ("j", "t2"))


@pytest.fixture(scope="module")
def twin_home(tmp_path_factory):
    """Return a home with a table of four pictures, of which the first two have one caption."""
    home = tmp_path_factory.mktemp("twins")
    folder = home / "datasets" / "image-text-table"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption", "split"])
        for split in ("train", "test"):
            for number, caption in enumerate(CAPTIONS):
                pixels = random.integers(256, size=(32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}{number}.png")
                writer.writerow([f"{split}{number}.png", caption, split])
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, data="image-text-table", source={})
    spec = TrainSpec(
        home=home,
        preset="linear",
        name="small",
        device="cpu",
        overrides=("train.epochs=1", "train.batch_size=4", "train.validation=none"),
    )
    train.run(spec)
    return home


def opened(home, same_text, split="test"):
    query = both_sides(split=split, dataset="image-text-table")
    return join_stores(require_pair(home, query), home=home, same_text=same_text)


def test_same_texts_are_positives_of_both_images(twin_home):
    rows = np.arange(4)
    plain = opened(twin_home, "negative").positives(rows, rows)[:].numpy()
    united = opened(twin_home, "positive").positives(rows, rows)[:].numpy()
    assert (plain == np.eye(4, dtype=bool)).all()
    expected = np.eye(4, dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    assert (united == expected).all()


def test_dropped_texts_leave_their_image_out(twin_home):
    assert opened(twin_home, "drop").images.tolist() == [0, 2, 3]


LEFT_OUT = "1 of 4 images have no caption of their own left and take no part"


@pytest.mark.parametrize("preset", ["linear", "procrustes"])
def test_a_training_says_how_many_images_dropping_leaves_out(twin_home, preset):
    trained = train.run(
        TrainSpec(
            home=twin_home,
            preset=preset,
            device="cpu",
            overrides=(*TINY[preset], "train.validation=none", "train.same_text=drop"),
        )
    )
    (line,) = [line for line in trained.report["warnings"] if LEFT_OUT in line]
    assert line.endswith("(same_text = 'drop', split 'train')")


def test_too_few_images_to_train_on_say_that_dropping_left_the_others_out(twin_home):
    overrides = ("train.validation=0.5", "train.same_text=drop")
    spec = TrainSpec(home=twin_home, preset="linear", device="cpu", overrides=overrides)
    with pytest.raises(SpecError, match=f"are left to train on, .*; {LEFT_OUT}"):
        train.run(spec)


def test_own_presets_train_with_positives_and_published_ones_do_not(twin_home):
    report = atomic_files.read_report(twin_home / "runs" / "small" / "report.json")
    assert report["spec"]["train"]["same_text"] == "positive"
    assert resolve_preset("sail/star", None, ())[1].same_text == "negative"


def test_retrieval_warns_of_equal_captions_and_takes_them_as_asked(twin_home):
    """Of four images two have equal captions: none of both can come first, unless both are right.

    By dropping, three images and three captions are left.
    """
    spec = {"home": twin_home, "run": "small", "device": "cpu", "k": 4}
    plain = run_retrieve(RetrieveSpec(**spec))
    table = plain.report["ties"]["image_to_text"]
    assert (table["gallery_rows"], table["queries"]) == (2, 2)
    assert any("2 of 4 queries cannot come first" in line for line in plain.report["warnings"])
    recall = plain.report["metrics"]["image_to_text"]["recall"]
    assert recall["1"]["value"] <= 50.0
    united = run_retrieve(RetrieveSpec(**spec, same_text="positive"))
    assert united.path.name.endswith("-same-text-positive.json")
    assert united.report["ties"]["image_to_text"]["queries"] == 0
    assert united.report["metrics"]["image_to_text"]["recall"]["1"]["chance"] == 37.5
    assert "same_text" in united.report["definitions"]
    found = run_retrieve(RetrieveSpec(**spec, same_text="drop"))
    dropped = found.report["metrics"]
    assert any(LEFT_OUT in line for line in found.report["warnings"])
    assert [dropped[name]["num_gallery"] for name in ("text_to_image", "image_to_text")] == [3, 3]


def test_pairs_of_an_earlier_version_are_asked_for_again_by_a_command(twin_home):
    """The command finds all rows there, and writes which texts are the same."""
    (path,) = (twin_home / "features" / "image-text-table" / "test").glob("pairs--*.json")
    old = catalog.read_pairs(path)
    catalog.write_pairs(path, Links(old.ids, old.pairs))
    spec = RetrieveSpec(home=twin_home, run="small", device="cpu")
    before = run_retrieve(spec).report["metrics"]
    done = lightalign("retrieve", "small", "--same-text", "positive", home=twin_home)
    assert done.returncode == 2
    command = done.stderr.split("`")[1].split()
    assert lightalign(*command[1:], home=twin_home).returncode == 0
    assert catalog.read_pairs(path) == old
    done = lightalign("retrieve", "small", "--same-text", "positive", "--json", home=twin_home)
    assert json.loads(done.stdout)["options"]["same_text"] == "positive"
    after = run_retrieve(spec).report["metrics"]
    assert before["text_to_image"]["recall"] == after["text_to_image"]["recall"]


def test_the_option_is_one_of_three(twin_home):
    for command in (("retrieve", "small"), ("train-adapter",)):
        done = lightalign(*command, "--same-text", "maybe", home=twin_home)
        assert done.returncode == 2
        assert "positive" in done.stderr
        assert "Traceback" not in done.stderr
