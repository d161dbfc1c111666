"""What `[finish]` puts behind both towers once they are trained."""

import shutil

import numpy as np
import pytest
import torch

from lightalign.adapters.checkpoint import load_adapter
from lightalign.adapters.without_bank import table_without_bank, without_bank
from lightalign.featcache.errors import LightalignError, SpecError
from lightalign.featcache.types import IMAGE_TEXT
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import newest_pair
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.embed_stored import embed_rows
from lightalign.pipelines.runs.embedder import Embedder
from lightalign.pipelines.training import finish, train
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import both_sides
from ..conftest import extract_toy
from .test_train import quick_train

FINISH = ("finish.part=hub-offset", "finish.bank=40", "finish.features=8")
SHORT = ("train.epochs=2", "train.validation=none")


def finished(home, *overrides, preset="linear"):
    return quick_train(home, preset=preset, overrides=(*SHORT, *overrides))


def embeddings(folder, stores):
    adapter, _, _ = load_adapter(folder)
    return [
        embed_rows(
            adapter, reader, np.arange(len(reader)), side=side, device=torch.device("cpu")
        ).astype(np.float64)
        for side, reader in zip(stores.pair.sides, stores.sources, strict=True)
    ]


@pytest.mark.parametrize("preset", ["linear", "cca"])
def test_a_finish_subtracts_offsets_that_float64_finds_in_the_training_rows(home, preset):
    stores = PairedStores(newest_pair(home, both_sides(split="train")), home=home)
    sizes = "towers.both.project.out=8"
    plain = finished(home, sizes, preset=preset).folder
    run = finished(home, sizes, *FINISH, "finish.bank=1000", preset=preset)
    image, text = embeddings(plain, stores)
    offsets = []
    for own, other in ((image, text), (text, image)):
        values = np.log(np.exp(12 * own @ other.T).mean(axis=1)) / 12
        offsets.append(np.clip(values - values.mean(), -0.1, 0.1))
    expected = (image @ text.T - offsets[0][:, None] - offsets[1][None]) / 1.2
    image, text = embeddings(run.folder, stores)
    np.testing.assert_allclose(image @ text.T, expected, atol=1e-5)
    assert run.report["finish"]["bank"] == [len(image), len(text)]


def test_nothing_of_a_training_changes_before_its_finish(home):
    plain, run = finished(home), finished(home, *FINISH)
    for key, value in load_adapter(plain.folder)[0].state_dict().items():
        assert torch.equal(value, load_adapter(run.folder)[0].state_dict()[key])
    best = run.report["best"]
    assert best["loss"] == plain.report["best"]["loss"]
    assert "finish" not in plain.report
    spec = run_folder.read_spec(run.folder)
    assert spec["finish"]["part"] == "hub-offset"
    assert "finish" not in spec["towers"]["both"]
    table = load_adapter(run.folder)[2]
    assert list(table["towers"]["both"])[-1] == "finish"


def test_a_finished_run_is_measured_and_validated(home):
    run = finished(home, *FINISH, "train.validation=0.25")
    found = run.report["finish"]["validation"]
    assert set(found) == set(run.report["best"]["validation"]) - {"loss"}
    spec = retrieve.RetrieveSpec(home=home, run=run.folder.name, split="test", k=5, device="cpu")
    assert retrieve.run(spec).report["metrics"]["text_to_image"]["recall"]["5"]["value"] > 0


def test_the_default_is_finished_and_the_old_one_is_not(home):
    small = (
        *("towers.image.project.out=12", "towers.text.project.out=12"),
        *("towers.text.project.hidden=8", "train.batch_size=8"),
    )
    run = quick_train(home, preset=None, overrides=(*SHORT, *small))
    old = finished(home, *small, preset="lightalign/base-2026-11")
    adapters = [load_adapter(one.folder)[0] for one in (run, old)]
    assert [adapter.out_width for adapter in adapters] == [4 * 12 + 4, 4 * 12]
    for side in IMAGE_TEXT:
        assert adapters[0].paths[side] == (*adapters[1].paths[side], f"{side.value}/finish")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("finish.part=norm",), "needs a step that takes a bank"),
        (("finish.part=linear",), "needs a step that takes a bank"),
        (("finish.part=hub-ofset",), "no step named 'hub-ofset'; close: \\['hub-offset'\\]"),
        (("finish.bank=4",), "such as by --set finish.part=hub-offset; found {'bank': 4}"),
        ((*FINISH, "finish.sharpness=0"), r"sharpness must be in \(0, 50\], found 0"),
        ((*FINISH, "finish.rows=4"), "rows"),
        (("finish=hub-offset",), r"\[finish\] must be a table"),
        (
            (*FINISH, "towers.both.finish={part='identity'}"),
            "has a slot 'finish', which \\[finish\\] would add",
        ),
    ],
)
def test_a_wrong_finish_is_refused_before_the_training(home, overrides, message):
    before = list(run_folder.runs_folder(home).glob("*"))
    with pytest.raises(LightalignError, match=message) as caught:
        finished(home, *overrides)
    assert isinstance(caught.value, SpecError) or "hub-ofset" in str(caught.value)
    assert list(run_folder.runs_folder(home).glob("*")) == before


def test_offsets_are_left_out_where_there_is_no_gallery(home):
    """A finished run, and one of several members, without its bank is the run of no finish."""
    for members in ({}, {"seeds": 2, "ensemble": "average"}):
        plain, run = (
            quick_train(home, preset="linear", overrides=(*SHORT, *changes), **members).folder
            for changes in ((), FINISH)
        )
        expected, adapter = load_adapter(plain)[0], load_adapter(run)[0]
        found = without_bank(adapter)
        assert found.out_width == expected.out_width < adapter.out_width
        assert not found.training
        for key, value in expected.state_dict().items():
            assert torch.equal(found.state_dict()[key], value)
        assert without_bank(expected) is expected
        table = table_without_bank(load_adapter(run)[2])
        assert table["towers"] == load_adapter(plain)[2]["towers"]


def test_a_bank_at_evaluation_takes_the_place_of_the_offsets(home):
    """By cosine they count; by qb-norm, which has a bank itself, a run is as without a finish."""
    measured = []
    for changes in ((), FINISH):
        name = finished(home, *changes).folder.name
        spec = retrieve.RetrieveSpec(
            home=home, run=name, split="test", k=5, scoring="qb-norm", device="cpu"
        )
        measured.append(retrieve.run(spec).report["metrics"])
    plain, run = measured
    for direction in ("text_to_image", "image_to_text"):
        assert run["qb_norm"][direction]["recall"] == plain["qb_norm"][direction]["recall"]
    assert run["text_to_image"] != plain["text_to_image"]


def test_several_streams_are_finished(toy_home, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(toy_home / "features", home / "features")
    fields = {"image_encoder": ("toy-image",), "image_features": ("tokens", "mean")}
    extract_toy(home, "toy-image", features=("tokens", "mean"), split="train")
    small = ("towers.image.project.out=12", "towers.text.project.out=12")
    folder = quick_train(
        home, preset="lightalign/base", overrides=(*SHORT, *small, "train.batch_size=8"), **fields
    ).folder
    adapter = load_adapter(folder)[0]
    assert len(adapter.stream_widths[IMAGE_TEXT[0]]) == 2
    assert adapter.out_width == 4 * 12 + 4


def test_an_embedder_embeds_with_the_offsets_or_without(home):
    plain, run = finished(home).folder, finished(home, *FINISH).folder
    texts = ["a red disc", "two blue squares"]
    expected = Embedder(plain, device="cpu").embed_texts(texts)
    found = Embedder(run, device="cpu", offsets=False).embed_texts(texts)
    np.testing.assert_array_equal(found, expected)
    whole = Embedder(run, device="cpu").embed_texts(texts)
    assert whole.shape == (2, expected.shape[1] + 4)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("when", ["before", "amid", "after"])
def test_a_stop_in_the_finish_loses_nothing_of_the_best_weights(home, monkeypatch, when):
    """The first epoch is the best one: no later one would write its weights anew."""
    monkeypatch.setattr(Trainer, "score", lambda self, record: -float(record["epoch"]))
    overrides = ("train.epochs=3", "train.batch_size=12", *FINISH)
    whole = quick_train(home, preset="linear", overrides=overrides, name="whole")
    assert whole.report["best"]["epoch"] == 1
    plain = quick_train(home, preset="linear", overrides=overrides[:2], name="plain")
    save = finish.save_adapter

    def stopped(folder, *args, **options):
        if when != "before":
            save(folder, *args, **options)
        if when == "amid":  # the table is new, and the weights are not
            shutil.copy(plain.folder / run_folder.WEIGHTS, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(finish, "save_adapter", stopped)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, preset="linear", overrides=overrides, name="cut")
    monkeypatch.setattr(finish, "save_adapter", save)
    resumed = train.resume(home, "cut", device="cpu")
    for name in (run_folder.TABLE, run_folder.WEIGHTS):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert resumed.report["finish"] == whole.report["finish"]
    assert resumed.report["best"]["epoch"] == 1


def test_several_seeds_are_compared_without_their_finish(home):
    """Offsets alone would make an average better than its members."""
    settings = {"preset": "linear", "seeds": 2}
    overrides = ("train.epochs=2", "train.validation=0.25")
    plain = quick_train(home, ensemble="average", overrides=overrides, **settings)
    expected = plain.report["best"]["validation"]
    overrides = (*overrides, *FINISH)
    average = quick_train(home, ensemble="average", overrides=overrides, **settings)
    assert average.report["best"]["validation"] == expected
    assert average.report["finish"]["validation"] != expected
    taught = quick_train(home, ensemble="distil", overrides=overrides, **settings)
    assert taught.report["student"]["taught_by"]["validation"] == expected
    evaluated = retrieve.RetrieveSpec(
        home=home, run=average.folder.name, split="test", k=5, device="cpu"
    )
    assert retrieve.run(evaluated).report["metrics"]["text_to_image"]["recall"]["5"]["value"] > 0
