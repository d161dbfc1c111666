"""A training chooses the stored layers that share most neighbours on the training split."""

import json

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError
from lightalign.featcache.store import catalog
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.evaluation import rank_encoders
from lightalign.pipelines.evaluation.rank_encoders_spec import RankSpec
from lightalign.pipelines.inputs import layer_ranking
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign
from ...scenarios.test_advice import commands_in
from ..inputs.layered_homes import IMAGES, make_layered_home

SMALL = ("--set", "train.epochs=1", "--set", "train.batch_size=8", "--device", "cpu")


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    """Return a home with means of three layers of images, and of texts."""
    return make_layered_home(tmp_path_factory.mktemp("auto"), layers=(-1, -2, -3))


class Notes(Progress):
    def __init__(self):
        self.lines = []

    def note(self, message):
        self.lines.append(message)


def spec_of(home, **changes):
    return TrainSpec(home=home, data="shapes", preset="linear", auto_layers=True, **changes)


def test_the_best_pair_of_the_ranking_is_taken_and_told_in_a_line(layered):
    ranking = rank_encoders.run(RankSpec(home=layered, data="shapes", layers="all")).report
    name, numbers = next(iter(ranking["metrics"].items()))
    best = ranking["layers"][name.split(" | ")[0]]
    notes = Notes()
    plan = resolve(spec_of(layered), notes)
    assert plan.stores.first.description.layer == best["layer"]
    assert plan.stores.first.key == ranking["stores"][name.split(" | ")[0]]
    value = numbers["mutual_knn"]["value"]
    (line,) = (line for line in notes.lines if line.startswith("layers "))
    assert line == (
        f"layers {best['layer']} of images and -1 of texts: {value:.1f} % of 6 nearest neighbours "
        "are shared (chance 26.1 %), the most of 3 pairs"
    )
    assert plan.auto_layers == {
        "image": best["layer"],
        "text": -1,
        "measure": "mutual_knn",
        "value": value,
        "chance": numbers["mutual_knn"]["chance"],
        "pairs": 3,
        "items": 24,
        "neighbours": 6,
        "seed": 0,
        "split_hash": ranking["split_hash"],
    }


def test_only_training_items_are_looked_at(layered, monkeypatch):
    seen = []
    vectors_of = layer_ranking.item_vectors
    monkeypatch.setattr(
        layer_ranking,
        "item_vectors",
        lambda label, reader, ids: (
            seen.append(reader.description.split) or vectors_of(label, reader, ids)
        ),
    )
    plan = resolve(spec_of(layered))
    assert seen == ["train"] * 4
    assert plan.validation is not None


@pytest.mark.parametrize("wanted", [-1, -2, -3])
def test_whichever_layer_shares_most_is_taken(layered, monkeypatch, wanted):
    """The texts' own vectors in place of one layer of the images share all neighbours."""
    vectors_of = layer_ranking.item_vectors
    texts = {}

    def of_texts(label, reader, ids):
        if label == f"{IMAGES} layer {wanted} mean":
            rows = np.random.default_rng(1).normal(size=(len(ids), 4))
            return texts.setdefault("rows", rows)
        if label.startswith("toy-text"):
            return texts.setdefault("rows", np.random.default_rng(1).normal(size=(len(ids), 4)))
        return vectors_of(label, reader, ids)

    monkeypatch.setattr(layer_ranking, "item_vectors", of_texts)
    plan = resolve(spec_of(layered))
    assert plan.stores.first.description.layer == wanted
    assert plan.auto_layers["value"] == 100.0


def test_a_run_records_the_choice_and_one_without_it_says_nothing(layered):
    command = ("train-adapter", "--data", "shapes", "--preset", "linear", *SMALL, "--json")
    trained = lightalign(*command, "--auto-layers", "--name", "chosen", home=layered)
    assert trained.returncode == 0, trained.stderr
    assert "the most of 3 pairs" in trained.stderr
    recorded = run_folder.read_spec(layered / "runs" / "chosen")
    assert recorded["auto_layers"]["image"] == recorded["stores"]["train"]["image"]["layer"]
    assert recorded["command"]["auto_layers"] is True
    report = json.loads(trained.stdout)
    assert report["spec"]["auto_layers"] == recorded["auto_layers"]
    shown = lightalign("retrieve", "chosen", home=layered)
    assert shown.returncode == 0, shown.stderr
    assert lightalign(*command, "--name", "plain", home=layered).returncode == 0
    plain = run_folder.read_spec(layered / "runs" / "plain")
    assert "auto_layers" not in plain
    assert "auto_layers" not in plain["command"]


def test_with_one_layer_the_command_that_extracts_another_runs_as_printed(tmp_path):
    home = make_layered_home(tmp_path, layers=(-1,))
    with pytest.raises(SpecError, match="only layer -1 of layered") as refused:
        resolve(spec_of(home))
    message = str(refused.value)
    assert "\n" not in message
    (words,) = commands_in(message)
    assert "--layers=-1,-2" in words
    done = lightalign(*words, home=home)
    assert done.returncode == 0, done.stderr
    layers = {
        (entry.description.split, entry.description.layer)
        for entry in catalog.list_stores(home)
        if entry.description.encoder == IMAGES
    }
    assert layers == {(split, layer) for split in ("train", "val", "test") for layer in (-1, -2)}
    assert resolve(spec_of(home)).auto_layers["pairs"] == 2


def test_encoders_of_one_layer_leave_no_choice(home):
    with pytest.raises(SpecError, match="neither encoder has another, so leave it out"):
        resolve(spec_of(home))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_encoder": IMAGES, "image_layers": (-2,)}, "layer -2 is named of the images"),
        ({"text_layers": (-1,)}, "layer -1 is named of the texts"),
        (
            {"image_encoder": IMAGES, "image_features": ("mean", "tokens")},
            "a side has several streams",
        ),
    ],
)
def test_a_layer_or_streams_that_are_named_are_refused(layered, changes, message):
    with pytest.raises(SpecError, match=message) as refused:
        resolve(spec_of(layered, **changes))
    assert "\n" not in str(refused.value)


def test_two_text_encoders_are_compared_by_the_same_texts(layered):
    """Of one encoder both sides are one store: there is no choice between its layers."""
    both = {"text_encoder": "toy-text", "second_text_encoder": "toy-text"}
    with pytest.raises(SpecError, match="neither encoder has another"):
        resolve(spec_of(layered, **both))
