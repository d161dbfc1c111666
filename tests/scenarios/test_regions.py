"""Datasets with boxes are named, shown, extracted and trained on as others are."""

import json

import numpy as np
import pytest

from lightalign.featcache.store.catalog import read_pairs
from lightalign.featcache.types import Modality

from ..helpers import lightalign

SCENES = (
    "--set=source.train=24",
    "--set=source.val=8",
    "--set=source.test=8",
    "--set=source.size=32",
)


def done(*arguments, home):
    ended = lightalign(*map(str, arguments), home=home)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with features of phrases and of questions about the same scenes."""
    home = tmp_path_factory.mktemp("regions") / "home"
    for texts in ("phrases", "questions"):
        add = ("data", "add", texts, "--kind", "shapes", *SCENES)
        done(*add, f"--set=source.texts={texts}", home=home)
        encoders = ("--encoder", "toy-image", "--encoder", "toy-text")
        done("extract", *encoders, "--data", texts, home=home)
    return home


def stored(home, data, split):
    (path,) = (home / "features" / data / split).glob("pairs--*.json")
    return read_pairs(path)


def test_stores_have_the_boxes_of_their_images_and_the_phrases_that_name_them(home):
    links = stored(home, "phrases", "train")
    assert links.regions.sizes.tolist() == [[32, 32]] * 24
    assert len(links.regions.boxes) == len(links.ids_of(Modality.TEXT))
    assert np.diff(links.regions.mention_ends, prepend=0).tolist() == [1] * len(links.regions.boxes)
    asked = stored(home, "questions", "train")
    assert np.array_equal(asked.regions.boxes, links.regions.boxes)
    assert len(asked.answers) == 6 * 24
    assert links.answers is None


def test_a_name_is_shown_with_its_boxes(home):
    value = json.loads(done("data", "show", "phrases", "--json", home=home))
    boxes = len(stored(home, "phrases", "train").regions.boxes)
    (train, *_) = value["regions"]
    assert (train["split"], train["boxes"], train["images"]) == ("train", boxes, 24)
    assert "answers" not in value
    shown = done("data", "show", "phrases", home=home)
    assert f"train: {boxes} boxes in 24 images of " in shown
    assert f"most often; {boxes} mentions in {boxes} texts" in shown
    value = json.loads(done("data", "show", "questions", "--json", home=home))
    assert (value["answers"][0]["questions"], value["answers"][0]["listed"]) == (144, 36)


def test_a_preview_has_the_boxes_of_each_image(home):
    seen = json.loads(done("data", "preview", "phrases", "--json", home=home))
    row = seen["rows"][0]
    assert len(row["boxes"].split(" | ")) == len(row["texts"].split(" | "))
    assert [count["split"] for count in seen["regions"]] == ["train", "val", "test"]


def test_phrases_and_questions_are_trained_on(home):
    quick = ("--set", "train.epochs=1", "--device", "cpu")
    done("train-joint", "--objective", "itm", "--data", "phrases", *quick, home=home)
    told = done("vqa", "--data", "questions", *quick, "--no-controls", "--json", home=home)
    assert json.loads(told)["num_answers"] == 36
