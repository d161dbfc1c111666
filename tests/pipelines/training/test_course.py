"""How long a training is, and what its epochs count."""

import math

import numpy as np
import pytest
import torch

from lightalign.adapters.objective import PairBatch
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.pipelines.common.progress import SILENT, Progress
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.inputs.pairs import BatchRows
from lightalign.pipelines.planning import dry_run
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.course import Course, single_step_warning
from lightalign.pipelines.training.negative_queue import NegativeQueue
from lightalign.pipelines.training.options import TrainOptions
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import slow
from ..conftest import SCENES, extract_toy
from .test_resume import goes_on_to_the_same_bytes
from .test_train import CPU, THREE_STEPS, quick_train

EACH = (*THREE_STEPS, "train.captions=each")
SMALL = {  # presets of all published systems, small enough for the toys
    "lightcrl/addition": ("towers.both.project.out=16", "towers.both.project.hidden=16"),
    "oneencoder/v2": ("towers.both.project.out=16", "towers.both.project.hidden=16"),
    "oneencoder/v1": ("towers.both.project.out=16", "towers.both.project.hidden=16"),
    "peme/bridge": ("towers.image.bridge.out=16", "towers.image.bridge.feedforward=16"),
}


class Notes(Progress):
    def __init__(self):
        self.lines = []

    def note(self, message):
        self.lines.append(message)


def trainer_of(home, *overrides, preset="lightalign/fusion", **changes):
    spec = TrainSpec(home=home, preset=preset, overrides=overrides, device="cpu", **changes)
    return Trainer(resolve(spec, SILENT), home=home, seed=0, device=CPU)


@pytest.mark.parametrize(
    ("options", "rows", "expected"),
    [  # rows that are read, batches, steps of an epoch, epochs, steps
        ({"batch_size": 64, "epochs": 100}, 600, (600, 10, 10, 100, 1000)),
        ({"batch_size": 64, "epochs": 2, "drop_last": True}, 600, (576, 9, 9, 2, 18)),
        ({"batch_size": 8, "accumulate": 8, "epochs": 3}, 600, (600, 75, 10, 3, 30)),
        (
            {"batch_size": 8, "accumulate": 8, "epochs": 3, "drop_last": True},
            600,
            (576, 72, 9, 3, 27),
        ),
        ({"batch_size": 4096, "epochs": 5, "drop_last": True}, 3000, (3000, 1, 1, 5, 5)),
        ({"batch_size": 8, "accumulate": 8, "drop_last": True}, 20, (16, 2, 1, 15, 15)),
        ({"batch_size": 64, "steps": 25}, 600, (600, 10, 10, 3, 25)),
        ({"batch_size": 4096, "steps": 7}, 3000, (3000, 1, 1, 7, 7)),
    ],
)
def test_batches_steps_and_epochs_are_those_of_arithmetic(options, rows, expected):
    course = Course.of(TrainOptions(**options), rows)
    found = (course.rows, course.batches, course.epoch_steps, course.epochs, course.steps)
    assert found == expected
    batches = [course.batches_of(epoch) for epoch in range(1, course.epochs + 1)]
    together = options.get("accumulate", 1)
    assert sum(math.ceil(number / together) for number in batches) == course.steps


def test_a_note_gives_all_steps_and_another_one_says_that_an_epoch_has_few():
    (line,) = Course.of(TrainOptions(batch_size=64, epochs=100), 3000).notes()
    assert line == "4,700 steps in all: 100 epochs of 47 steps over 3,000 images"
    line, few = Course.of(TrainOptions(batch_size=4096, epochs=5), 3000).notes()
    assert line == "5 steps in all: 5 epochs of 1 step over 3,000 images"
    assert "an epoch has 1 step only" in few
    assert "`--set train.steps=1000`" in few
    assert len(Course.of(TrainOptions(batch_size=300, epochs=5), 3000).notes()) == 1  # ten steps
    assert len(Course.of(TrainOptions(batch_size=334, epochs=5), 3000).notes()) == 2  # nine


@pytest.mark.parametrize(
    ("options", "line"),
    [  # 120 images
        (
            {"batch_size": 3, "steps": 7},
            "7 steps in all: 1 epoch of 40 steps, cut after 7, over 120 images",
        ),
        (
            {"batch_size": 32, "steps": 25},
            "25 steps in all: 7 epochs of 4 steps, the last cut after 1, over 120 images",
        ),
        ({"batch_size": 32, "steps": 8}, "8 steps in all: 2 epochs of 4 steps over 120 images"),
    ],
)
def test_a_training_of_so_many_steps_says_where_it_is_cut_and_is_not_told_to_count_steps(
    options, line
):
    assert Course.of(TrainOptions(**options), 120).notes() == [line]


def test_an_epoch_of_one_step_advises_what_adds_steps():
    """More epochs where they are counted, more steps where those are, nothing at a thousand."""
    given = {"num_images": 120, "batch_size": 256, "epochs": 7}
    (by_epochs,) = single_step_warning(**given)
    (by_steps,) = single_step_warning(**given, steps=7)
    assert by_epochs.endswith("; lower the batch size or raise the epochs")
    assert by_steps.endswith("7 epochs 7 steps; raise train.steps")
    assert single_step_warning(**given, steps=1000) == []


@pytest.mark.parametrize(
    "preset", ["lightcrl/addition", "peme/bridge", *slow("oneencoder/v1", "oneencoder/v2")]
)
def test_a_published_preset_takes_the_published_number_of_steps(home, preset):
    """24 images of five captions: 120 rows, where an epoch of images would have a fifth."""
    sizes = {"oneencoder/v1": ("train.batch_size=64",)}.get(preset, ())
    overrides = (*SMALL[preset], *sizes, "train.epochs=2", "train.validation=0.05")
    if preset == "peme/bridge":
        overrides = (*overrides[:-1], "towers.image.bridge.layers=1")
    trained = train.run(TrainSpec(home=home, preset=preset, overrides=overrides, device="cpu"))
    rows = 120 if preset == "peme/bridge" else 110  # two images validate
    per_epoch = rows // 8 // 8 if preset == "peme/bridge" else math.ceil(rows / 64)
    assert trained.report["steps"] == 2 * per_epoch
    assert trained.report["epochs"] == 2


def test_train_adapter_prints_the_steps_in_all(home):
    notes = Notes()
    train.run(
        TrainSpec(home=home, preset="lightalign/fusion", overrides=THREE_STEPS, device="cpu"), notes
    )
    assert "6 steps in all: 2 epochs of 3 steps over 24 images" in notes.lines
    assert any("an epoch has 3 steps only" in line for line in notes.lines)


@pytest.mark.parametrize("residency", ["auto", "disk"])
def test_with_each_caption_as_a_row_an_epoch_has_every_pair_once(home, residency):
    trainer = trainer_of(home, *EACH, f"train.residency={residency}", "train.validation=none")
    links = {(i, t) for i, texts in trainer.stores.texts_of.items() for t in texts}
    orders = []
    for epoch in (1, 2):
        batches = list(trainer.batches.order(epoch))
        assert [len(rows.first) for rows in batches] == [8] * 15
        seen = [
            pair
            for rows in batches
            for pair in zip(rows.first.tolist(), rows.second.tolist(), strict=True)
        ]
        assert len(seen) == 5 * SCENES["train"]
        assert set(seen) == links
        orders.append(seen)
    assert orders[0] != orders[1]
    again = next(trainer.batches.order(1))
    assert again.second.tolist() == [text for _, text in orders[0][:8]]


def test_shard_by_shard_each_pass_over_the_images_has_one_caption_of_each(tmp_path):
    """So the captions of an image do not come side by side, and shards come one after the other."""
    for encoder in ("toy-image", "toy-text"):
        compression = "zstd" if encoder == "toy-image" else "none"
        extract_toy(tmp_path, encoder, split="train", compression=compression)
    trainer = trainer_of(tmp_path, *EACH, "train.residency=disk", "train.validation=none")
    assert trainer.stores.first.buffer_shards is not None
    rows = [row for one in trainer.batches.order(1) for row in one.first.tolist()]
    texts = [row for one in trainer.batches.order(1) for row in one.second.tolist()]
    assert sorted(texts) == list(range(5 * SCENES["train"]))
    passes = [rows[start : start + 24] for start in range(0, 120, 24)]
    assert all(sorted(one) == list(range(24)) for one in passes)
    assert len({tuple(one) for one in passes}) == 5


@pytest.mark.parametrize("chunk_size", [0, 3])
@pytest.mark.parametrize("same_image", ["negative", "positive"])
def test_an_image_is_contrasted_with_its_own_row_or_with_all_its_captions(
    home, same_image, chunk_size
):
    trainer = trainer_of(
        home,
        *EACH,
        "train.batch_size=60",
        f"train.same_image={same_image}",
        f"train.chunk_size={chunk_size}",
    )
    met = 0
    for rows in trainer.batches.order(1):
        batch = trainer.batches.load(rows)
        pairs = set(zip(rows.first.tolist(), rows.second.tolist(), strict=True))
        for line, image in enumerate(batch.rows.first.tolist()):
            own = batch.rows.second[batch.positives[:][line].numpy()].tolist()
            if same_image == "negative":
                assert len(own) == 1
                assert (image, own[0]) in pairs
            else:
                together = [text for first, text in pairs if first == image]
                assert sorted(own) == sorted(together)
                met += len(own) > 1
    assert (met > 0) == (same_image == "positive")


@pytest.mark.slow
def test_a_training_on_captions_goes_on_to_the_same_bytes(home, monkeypatch):
    larger = ("train.batch_size=40", "train.epochs=4")
    overrides = (*EACH, *larger, "train.same_image=negative", "train.queue=9")
    goes_on_to_the_same_bytes(home, monkeypatch, overrides=overrides)


@pytest.mark.slow
def test_a_training_of_so_many_steps_ends_within_an_epoch(home, monkeypatch):
    """Three steps an epoch, eleven in all: the fourth epoch has two."""
    overrides = (*THREE_STEPS[1:], "train.steps=11")
    trained = quick_train(home, name="eleven", overrides=overrides)
    assert (trained.report["steps"], trained.report["epochs"]) == (11, 4)
    goes_on_to_the_same_bytes(home, monkeypatch, overrides=overrides)


def test_a_rehearsal_counts_the_epochs_of_so_many_steps(toy_home):
    spec = TrainSpec(
        home=toy_home,
        preset="lightalign/fusion",
        overrides=(*THREE_STEPS[1:], "train.steps=11"),
        device="cpu",
    )
    notes = Notes()
    found = dry_run.run(spec, notes)
    assert (found.steps, found.epochs) == (11, 4)
    cut = "11 steps in all: 4 epochs of 3 steps, the last cut after 2, over 24 images"
    assert cut in notes.lines
    seconds = 11 / 3 * found.epoch_seconds + 4 * found.validation_seconds
    assert found.minutes * 60 == pytest.approx(seconds)


def test_a_rehearsal_says_that_an_epoch_has_few_steps(toy_home):
    notes = Notes()
    spec = TrainSpec(home=toy_home, preset="lightalign/fusion", overrides=THREE_STEPS, device="cpu")
    dry_run.run(spec, notes)
    assert any("an epoch has 3 steps only" in line for line in notes.lines)


def test_what_drop_last_leaves_out_is_drawn_anew_each_epoch(home):
    trainer = trainer_of(
        home, "train.batch_size=7", "train.drop_last=true", "train.validation=none"
    )
    left_out = []
    for epoch in (1, 2):
        batches = list(trainer.batches.order(epoch))
        assert [len(rows.first) for rows in batches] == [7, 7, 7]
        seen = {row for rows in batches for row in rows.first.tolist()}
        left_out.append(set(range(24)) - seen)
    assert [len(one) for one in left_out] == [3, 3]
    assert left_out[0] != left_out[1]


def test_mixtures_of_captions_are_of_two_pairs_each(tmp_path):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder, split="train", features=("mean",))
    trainer = trainer_of(
        tmp_path,
        "train.batch_size=24",
        "train.validation=none",
        "towers.both.refine.blocks=1",
        preset="fusemix",
    )
    stores, seen = trainer.stores, []
    for rows in trainer.batches.order(1):
        assert len(rows.first) == len(rows.second) == 12
        for first, second in ((rows.first, rows.second), (rows.mix.first, rows.mix.second)):
            for image, text in zip(first.tolist(), second.tolist(), strict=True):
                assert text in stores.texts_of[image]
                seen.append(text)
        assert torch.equal(trainer.batches.load(rows).positives[:], torch.eye(12) > 0)
    assert sorted(seen) == list(range(120))


def test_pairs_of_two_text_encoders_are_rows_too(tmp_path):
    """Each of five captions with each other one: twenty pairs an image."""
    extract_toy(tmp_path, "toy-text", features=("tokens", "mean"))
    trainer = trainer_of(
        tmp_path,
        *EACH,
        "train.validation=none",
        text_encoder="toy-text",
        text_features="tokens",
        second_text_encoder="toy-text",
        second_text_features="mean",
    )
    rows = [
        pair
        for one in trainer.batches.order(1)
        for pair in zip(one.first.tolist(), one.second.tolist(), strict=True)
    ]
    assert len(rows) == len(set(rows)) == 20 * SCENES["train"]
    for first, second in rows:
        assert second in trainer.stores.seconds_of[first]


def test_every_row_of_an_image_is_a_stranger_to_no_text_of_it():
    """Image 0 stands in the batch twice; of the texts remembered the first is its own."""
    queue = NegativeQueue(4, {0: (0, 1), 1: (2,)}, width=2, device=CPU)
    vectors = torch.eye(2)
    queue.add(
        BatchRows(np.array([0, 1]), np.array([0, 2])), PairBatch(vectors, vectors, vectors > 0)
    )
    asked = BatchRows(np.array([0, 0, 1]), np.array([0, 1, 2]))
    found = queue.recall(asked)
    places = queue.state()["text_rows"].tolist()
    own = found.first_to_second[:, places.index(0)].tolist()
    assert own == [False, False, True]


def test_early_stopping_counts_from_the_epoch_that_is_named(home, monkeypatch):
    """As the originals: worse epochs before the third are not counted, and two in a row end it."""
    recalls = iter([9.0, 1.0, 1.0, 1.0, 1.0, 1.0])

    def validate(self):
        return {"loss": 1.0, "recall_sum": next(recalls), "text_to_image": {"1": 1.0}}

    monkeypatch.setattr(Trainer, "validate", validate)
    overrides = (
        *("train.epochs=6", *THREE_STEPS[1:]),
        *("train.early_stopping=2", "train.early_stopping_from=3"),
    )
    assert quick_train(home, overrides=overrides).report["epochs"] == 4


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("train.captions=some", UnknownNameError, "no captions named 'some'"),
        ("train.same_image=none", UnknownNameError, "no same_image named 'none'"),
        ("train.steps=-1", SpecError, "steps must be at least 0, found -1"),
        ("train.plateau_threshold=1", SpecError, r"plateau_threshold must be a share in \[0, 1\)"),
        ("train.early_stopping_from=0", SpecError, "early_stopping_from must be at least 1"),
        ("train.warmup_steps=-3", SpecError, "warmup_steps must be at least 0"),
    ],
)
def test_an_option_out_of_range_is_refused(home, override, error, message):
    with pytest.raises(error, match=message):
        trainer_of(home, override)


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_and_is_evaluated_as_it_was(home, monkeypatch):
    """Its table lacks the options that came later; their defaults are what was done then."""
    later = {
        *("steps", "drop_last", "same_image", "plateau_threshold", "early_stopping_from"),
        *("warmup_steps", "first_rate", "last_rate"),
    }
    whole = train.to_table

    def as_it_was(options):
        table = whole(options)
        return {key: value for key, value in table.items() if key not in later}

    assert later < set(whole(TrainOptions()))
    monkeypatch.setattr(train, "to_table", as_it_was)
    overrides = ("train.epochs=4", *THREE_STEPS[1:], "train.schedule=plateau", "train.captions=one")
    goes_on_to_the_same_bytes(home, monkeypatch, overrides=overrides)
    spec = run_folder.read_spec(run_folder.runs_folder(home) / "cut")
    assert not later & set(spec["train"])
    assert retrieve.run(retrieve.RetrieveSpec(home=home, run="cut", device="cpu")).report
