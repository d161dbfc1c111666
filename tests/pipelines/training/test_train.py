import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightalign.adapters.checkpoint import load_adapter
from lightalign.featcache.errors import (
    DivergedError,
    RunNotFoundError,
    SpecError,
    StoreCorruptError,
    StoreNotFoundError,
    UnknownNameError,
)
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import newest_pair
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.embed_stored import embed_pairs, embed_rows
from lightalign.pipelines.training import train
from lightalign.pipelines.training.options import TrainOptions
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import both_sides, changed_report
from ..conftest import SCENES, extract_toy

QUICK = (
    "train.epochs=2",
    "train.batch_size=12",
    "train.precision=float32",
    "towers.both.project.out=32",  # of 512: features of the toys are 16 wide
    "train.captions=one",  # of five: four times as much to embed says no more
)
THREE_STEPS = (QUICK[0], "train.batch_size=8", *QUICK[2:4])  # an epoch, of the 24 images
CPU = torch.device("cpu")


PRESET = "lightalign/fusion"  # small, and it has whatever a tower can have


def quick_train(home, **changes):
    return train.run(
        TrainSpec(
            **{"home": home, "preset": PRESET, "overrides": QUICK, "device": "cpu", **changes}
        )
    )


def test_training_lowers_the_loss_and_writes_a_whole_run(home):
    overrides = ("train.epochs=10", "train.learning_rate=0.03", *QUICK[1:])
    trained = quick_train(home, fusion="cross_attn", overrides=overrides)
    records = [
        json.loads(line) for line in (trained.folder / run_folder.LOG).read_text().splitlines()
    ]
    assert [record["epoch"] for record in records] == list(range(1, 11))
    assert records[-1]["loss"] < records[0]["loss"] - 0.3
    assert trained.report["best"]["validation"]["recall_sum"] == max(
        record["validation"]["recall_sum"] for record in records
    )
    spec = run_folder.read_spec(trained.folder)
    assert spec["towers"]["both"]["fuse"] == {"part": "cross-attn-fusion"}
    assert spec["train"]["epochs"] == 10
    assert spec["stores"]["train"]["image"]["encoder"] == "toy-image"


def test_the_same_seed_gives_the_same_bytes(home):
    first, second, other = (quick_train(home, seed=seed) for seed in (1, 1, 2))
    weights = [(run.folder / run_folder.WEIGHTS).read_bytes() for run in (first, second, other)]
    assert weights[0] == weights[1] != weights[2]


def test_training_leaves_the_global_random_state_alone(home):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    quick_train(home)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_kept_weights_are_those_of_the_best_epoch(home):
    trained = quick_train(home, overrides=("train.epochs=6", *QUICK[1:]))
    adapter, _, _ = load_adapter(trained.folder)
    query = both_sides(split="val")
    stores = PairedStores(newest_pair(home, query), home=home)
    from lightalign.pipelines.ranking.recall import Retrieval

    measured = Retrieval(k=10).run(embed_pairs(adapter, stores, device=CPU))
    assert measured["recall_sum"]["value"] == trained.report["best"]["validation"]["recall_sum"]


@pytest.mark.parametrize("captions", ["all", "one"])
def test_a_batch_knows_all_its_positives(home, captions):
    spec = TrainSpec(
        preset="lightalign/fusion",
        home=home,
        overrides=(*QUICK, f"train.captions={captions}"),
        device="cpu",
    )
    trainer = Trainer(resolve(spec), home=home, seed=0, device=CPU)
    seen = []
    for rows in trainer.batches.order(1):
        batch = trainer.batches.load(rows)
        per_image = 5 if captions == "all" else 1
        assert batch.positives[:].sum(dim=1).tolist() == [per_image] * len(rows.first)
        assert batch.positives[:].sum(dim=0).tolist() == [1] * len(rows.second)
        seen += rows.first.tolist()
    assert sorted(seen) == list(range(SCENES["train"]))


@pytest.mark.parametrize("chunk_size", [0, 3])
def test_groups_of_similar_length_keep_texts_with_their_images(home, chunk_size):
    """Embed a batch with the identity of each item as its feature and compare ids by hand."""
    overrides = (*QUICK, f"train.chunk_size={chunk_size}")
    plan = resolve(TrainSpec(preset="lightalign/fusion", home=home, overrides=overrides))
    trainer = Trainer(plan, home=home, seed=0, device=CPU)
    rows = next(trainer.batches.order(1))
    batch = trainer.batches.load(rows)
    links = {(i, t) for i, texts in trainer.stores.texts_of.items() for t in texts}
    features = trainer.stores.second.gather(rows.second)
    column = 0
    for group in (load() for load in batch.second):
        for line in range(len(group)):
            real = group.values[line][group.mask[line]].numpy()
            same = [
                row
                for position, row in enumerate(rows.second.tolist())
                if np.array_equal(features.row(position), real)
            ]
            images = rows.first[batch.positives[:][:, column].numpy()].tolist()
            assert any((image, text) in links for image in images for text in same)
            column += 1
    assert column == len(rows.second)


@pytest.mark.parametrize("packed", ["toy-image", "toy-text"])
def test_each_shard_of_a_compressed_store_is_unpacked_about_once_an_epoch(
    tmp_path, monkeypatch, packed
):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(
            tmp_path, encoder, split="train", compression="zstd" if encoder == packed else "none"
        )
    monkeypatch.setattr("lightalign.featcache.reading.reader._BUFFER_BYTES", 1)
    overrides = (*QUICK, "train.residency=disk", "train.validation=none")
    plan = resolve(
        TrainSpec(preset="lightalign/fusion", home=tmp_path, overrides=overrides), SILENT
    )
    trainer = Trainer(plan, home=tmp_path, seed=0, device=CPU)
    steps = list(trainer.batches.order(1))
    assert sorted(row for step in steps for row in step.first.tolist()) == list(range(24))
    for step in steps:
        trainer.batches.load(step)
    reader = trainer.stores.first if packed == "toy-image" else trainer.stores.second
    shards = reader.store.num_shards
    # one that a step ends in is needed by the next, too
    assert shards <= reader.num_loads <= shards + 2 * (len(steps) - 1)


def test_without_validation_the_last_epoch_is_kept(home):
    trained = quick_train(home, overrides=(*QUICK, "train.validation=none"))
    assert trained.report["selected_by"] == "last epoch"
    assert trained.report["best"]["epoch"] == 2
    assert "validation" not in trained.report["best"]


def test_a_share_of_the_training_images_can_validate(home):
    trained = quick_train(home, overrides=(*QUICK, "train.validation=0.25"))
    assert trained.report["selected_by"] == "recall_sum on 6 held-out images of split 'train'"
    assert trained.report["num_images"] == SCENES["train"] - 6


def test_a_loss_that_is_not_finite_stops_with_the_step_and_items(home):
    overrides = (*QUICK, "train.learning_rate=1e30", "train.gradient_clip=1e30")
    with pytest.raises(DivergedError, match=r"step \d+, with images such as \['shapes-train-"):
        quick_train(home, overrides=("train.epochs=50", *overrides[1:]))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"preset": "nope"}, UnknownNameError, "no preset named 'nope'"),
        ({"fusion": "cross"}, UnknownNameError, "close: .*'cross_attn'"),
        ({"overrides": ("train.epoch=3",)}, SpecError, r"\[train\]: unknown key 'epoch'"),
        ({"overrides": ("train.epochs=0",)}, SpecError, "epochs must be at least 1"),
        ({"overrides": ("towers.both.pool.part=max",)}, UnknownNameError, "no step named 'max'"),
        ({"overrides": ("towers=5",)}, SpecError, r"\[towers\] must be a table"),
        ({"overrides": ("objective=5",)}, SpecError, r"\[objective\] must be a table"),
        ({"data": "flickr8k"}, StoreNotFoundError, "extract --encoder dino-vits16 --data flickr8k"),
        ({"image_encoder": "dino-vitb16"}, StoreNotFoundError, "shapes/train/toy-image"),
        ({"name": "a/b"}, SpecError, "cannot name a run"),
    ],
)
def test_a_wrong_spec_is_refused(home, changes, error, message):
    with pytest.raises(error, match=message):
        quick_train(home, **changes)
    assert not list(run_folder.runs_folder(home).glob("*/report.json"))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"warmup": 1.0},
        {"captions": "some"},
        {"precision": "float8"},
        {"validation": 1.5},
    ],
)
def test_training_options_out_of_range_are_refused(options):
    with pytest.raises((SpecError, UnknownNameError)):
        TrainOptions(**options)


def test_embeddings_do_not_depend_on_the_other_rows(home):
    adapter, _, _ = load_adapter(quick_train(home, fusion="cross_attn").folder)
    stores = PairedStores(newest_pair(home, both_sides(split="test")), home=home)
    rows = np.arange(len(stores.second))
    together = embed_rows(adapter, stores.second, rows, device=CPU)
    for row in (0, 13, 39):
        alone = embed_rows(adapter, stores.second, np.array([row]), device=CPU)
        np.testing.assert_allclose(together[row], alone[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_retrieve_takes_the_newest_run_and_says_what_it_measured(home):
    quick_train(home, name="older")
    quick_train(home, name="newer")
    retrieved = retrieve.run(retrieve.RetrieveSpec(home=home, k=4, device="cpu"))
    report = json.loads(retrieved.path.read_text())
    assert report["run"] == "newer"
    assert report["metrics"]["text_to_image"]["num_queries"] == SCENES["test"] * 5
    assert report["metrics"]["text_to_image"]["num_gallery"] == SCENES["test"]
    assert len(report["metrics"]["image_to_text"]["curve"]["recall"]) == 4
    assert not any("leakage" in warning for warning in report["warnings"])
    assert report["training"]["seed"] == 0
    older = retrieve.run(retrieve.RetrieveSpec(home=home, run="older", device="cpu"))
    assert older.folder.name == "older"


def test_a_run_is_found_by_name_or_the_finished_ones_are_listed(home):
    with pytest.raises(RunNotFoundError, match="no finished run"):
        run_folder.find_run(home, None)
    quick_train(home, name="mine")
    with pytest.raises(RunNotFoundError, match=r"no run 'yours' .* finished: \['mine'\]"):
        run_folder.find_run(home, "yours")
    with pytest.raises(SpecError, match="a run named 'mine' exists"):
        quick_train(home, name="mine")


def test_a_run_is_found_from_its_own_folder(home, monkeypatch):
    folder = quick_train(home, name="mine").folder
    monkeypatch.chdir(folder)
    assert run_folder.find_run(home, ".").name == "mine"


def test_weights_that_break_in_the_last_step_are_not_kept(home, tmp_path):
    """One epoch of one step: no later loss would show what it did."""
    overrides = ("train.epochs=1", "train.batch_size=24", "train.validation=none")
    spec = TrainSpec(preset="lightalign/fusion", home=home, overrides=overrides, device="cpu")
    trainer = Trainer(resolve(spec), home=home, seed=0, device=CPU)
    weight = next(trainer.adapter.parameters())
    trainer.optimiser.register_step_post_hook(lambda *_: weight.data.fill_(torch.nan))
    with pytest.raises(DivergedError, match="not finite after step 1"):
        trainer.fit(tmp_path, SILENT)
    assert not list(tmp_path.glob("adapter*"))


def test_an_unfinished_run_is_not_taken(home):
    split = {"dataset": "shapes", "split": "train", "source": "0"}
    with run_folder.new_run(home, "half", "x", spec={"stores": {"train": split}}):
        pass
    with pytest.raises(RunNotFoundError, match="has not finished"):
        run_folder.find_run(home, "half")


def test_stores_of_other_weights_do_not_answer_for_a_run(home):
    """A run names its encoders by identity: a store of the same card with other weights misses."""
    trained = quick_train(home)
    with changed_report(trained.folder) as report:
        report["spec"]["stores"]["train"]["image"]["encoder_key"] = "0" * 64
    with pytest.raises(StoreNotFoundError, match="images by toy-image"):
        retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu"))


def test_pairs_are_joined_by_id_when_rows_are_missing(tmp_path):
    """Skip two images: their captions take no part and no other caption changes its image."""
    from PIL import Image

    data = tmp_path / "data"
    data.mkdir()
    lines = ["image,caption,split"]
    for index in range(6):
        Image.new("RGB", (4, 4), (index * 40, 0, 0)).save(data / f"{index}.png")
        lines += [f"{index}.png,caption {index},train", f"{index}.png,again {index},train"]
    for index in (0, 3):
        (data / f"{index}.png").write_bytes(b"gone")
    (data / "t.csv").write_text("\n".join(lines))
    spec = {"data": f"image-text-table={data}", "source": {}, "split": "train", "max_bad": 0.5}
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path / "h", encoder, **spec)
    stores = PairedStores(
        newest_pair(tmp_path / "h", both_sides(split="train")), home=tmp_path / "h"
    )
    found = {
        (stores.first.ids[image], stores.second.ids[text])
        for image, texts in stores.texts_of.items()
        for text in texts
    }
    assert found == {(f"{i}.png", f"{i}.png#{n}") for i in (1, 2, 4, 5) for n in (0, 1)}
    assert stores.num_links_lost == 4


def test_missing_pairs_are_reported(home, tmp_path):
    pair = newest_pair(home, both_sides(split="train"))
    with pytest.raises(StoreCorruptError, match="cannot read the pairs"):
        PairedStores(pair, home=tmp_path / "elsewhere")


def test_one_step_an_epoch_and_a_scale_at_its_bound_are_warnings(home):
    """Of 24 images a batch of 64 is all; a scale that starts at its least is pushed below it."""
    scale = ("objective.scale_init=50.0", "objective.scale_min=50.0")
    sets = ("train.epochs=2", "train.batch_size=64", *scale)
    spec = TrainSpec(home=home, preset="linear", device="cpu", overrides=sets)
    report = train.run(spec).report
    assert report["steps"] == 2
    bound, steps = report["warnings"]
    assert "ended at its smallest value, 50" in bound
    assert "24 images are one batch of 64, and 2 epochs 2 steps" in steps
    sets = ("train.epochs=2", "train.batch_size=8")
    assert train.run(replace(spec, overrides=sets)).report["warnings"] == []
