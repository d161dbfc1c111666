"""What `train-adapter --dry-run` says, held against the training itself."""

import json
import os
from pathlib import Path

import pytest
import torch

from lightalign.featcache.errors import LightalignError, SpecError
from lightalign.featcache.types import Modality
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.planning import dry_run, plan
from lightalign.pipelines.planning.dry_run import input_shape, predict_memory, time_training
from lightalign.pipelines.planning.spec import PlanSpec
from lightalign.pipelines.rendering.training import train_estimate_parts
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import lightalign, slow
from ..conftest import SCENES, extract_toy
from ..training.test_train import CPU, THREE_STEPS, quick_train

LINEAR = {"preset": "linear", "overrides": THREE_STEPS}


def spec_of(place: Path, **changes) -> TrainSpec:
    return TrainSpec(**{"home": place, "device": "cpu", **LINEAR, **changes})


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of everything below `folder`, through links.

    But for what a home remembers of files that were read whole, as whoever reads them does.
    """
    found = {}
    for place, folders, files in os.walk(folder, followlinks=True):
        if "verified" in folders:
            folders.remove("verified")
        for name in (*folders, *files):
            status = (Path(place) / name).stat()
            found[str(Path(place) / name)] = (status.st_size, status.st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def found(toy_home):
    """Return the estimate of a training of `linear`, in whose making nothing changes."""
    before, random = listing(toy_home), torch.get_rng_state()
    found = dry_run.run(spec_of(toy_home))
    assert listing(toy_home) == before
    assert torch.equal(torch.get_rng_state(), random)
    return found


def test_the_parameters_are_those_of_the_trained_run(found, home):
    trained = quick_train(home, **LINEAR)
    assert found.parameters == trained.report["num_parameters"]
    assert found.steps == trained.report["steps"]
    assert found.images == trained.report["num_images"] == SCENES["train"]
    assert found.epochs == 2


def test_the_minutes_are_those_of_all_epochs_with_their_validation(found):
    """Two epochs of three steps: one to warm up, and as many are timed as are left."""
    assert (found.steps, found.probe_steps) == (6, 5)
    assert 0 < found.epoch_seconds < 60
    assert 0 < found.validation_seconds < 60
    total = 2 * (found.epoch_seconds + found.validation_seconds)
    assert found.minutes * 60 == pytest.approx(total)


def trainer_of(place: Path, *overrides: str) -> Trainer:
    spec = spec_of(place, overrides=(*THREE_STEPS, *overrides))
    return Trainer(resolve(spec, SILENT), home=place, seed=0, device=CPU)


def test_steps_of_several_batches_are_timed_as_a_whole(toy_home):
    """Three batches an epoch and four a step: the end of the epoch is the end of a step."""
    trainer = trainer_of(toy_home, "train.accumulate=4", "train.validation=none")
    timed = time_training(trainer)
    assert (trainer.num_steps, timed.probe_steps, trainer.counts.step) == (2, 1, 2)
    assert timed.epoch_seconds > 0
    assert timed.validation_seconds == 0


@pytest.mark.parametrize("chunk_size", [0, *slow(4)])
def test_the_memory_is_what_plan_predicts_for_the_same_rows(toy_home, chunk_size):
    trainer = trainer_of(toy_home, f"train.chunk_size={chunk_size}")
    found = predict_memory(trainer)
    expected = plan.run(
        PlanSpec(
            preset="linear",
            overrides=(*THREE_STEPS, f"train.chunk_size={chunk_size}"),
            image_encoder="toy-image",
            text_encoder="toy-text",
            text_tokens=int(found.rows["text"].split()[0]),
            device="cpu",
        )
    )
    assert found.predicted == expected.predicted
    assert (found.rows["image"], found.batch_size, found.texts_of_an_image) == ("16 x 16", 8, 5)


def test_rows_are_as_long_as_in_the_batches(toy_home):
    """By hand: chunks are planned for the longest text, groups of a batch for their mean."""
    whole, chunked = (trainer_of(toy_home, f"train.chunk_size={size}") for size in (0, 4))
    lengths = whole.stores.second.lengths
    batches = list(whole.batches.order(1))
    assert input_shape(chunked, batches).tokens == {
        Modality.IMAGE: 16,
        Modality.TEXT: lengths.max(),
    }
    means = []
    for rows in batches:
        padded = [load().values.shape for load in whole.batches.load(rows).second]
        means.append(sum(n * tokens for n, tokens, _ in padded) / len(rows.second))
    tokens = input_shape(whole, batches).tokens[Modality.TEXT]
    assert max(means) <= tokens < max(means) + 1
    assert tokens < lengths.max()


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "nope"},
        {"fusion": "cross"},
        {"overrides": ("train.epochs=0",)},
        {"overrides": ("towers.image.pool.part=max",)},
        {"overrides": ("train.validation=test-b",)},
        {"overrides": ("train.validation=0.99",)},
        {"overrides": (*THREE_STEPS, "train.learning_rate=1e30", "train.gradient_clip=1e30")},
        {"data": "flickr8k"},
        {"image_encoder": "dino-vitb16"},
        {"name": "a/b"},
        {"name": "taken"},
    ],
    ids=str,
)
def test_what_the_command_refuses_is_refused_with_the_same_words(home, changes):
    if changes.get("name") == "taken":
        with run_folder.new_run(home, "taken", "x", spec={}) as folder:
            (folder / run_folder.REPORT).write_text("{}")
    with pytest.raises(LightalignError) as real:
        train.run(spec_of(home, **changes))
    with pytest.raises(LightalignError) as rehearsed:
        dry_run.run(spec_of(home, **changes))
    assert type(rehearsed.value) is type(real.value)
    assert str(rehearsed.value) == str(real.value)


def test_what_is_solved_in_closed_form_has_no_steps(home):
    with pytest.raises(SpecError, match=r"closed form.*no steps to time"):
        dry_run.run(spec_of(home, preset="cca", overrides=()))


def test_several_processes_are_not_rehearsed(home, monkeypatch):
    numbers = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2}
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": 29500}
    for name, number in (numbers | meeting).items():
        monkeypatch.setenv(name, str(number))
    with pytest.raises(SpecError, match="without torchrun"):
        dry_run.run(spec_of(home))


def test_an_adapter_between_two_texts_is_rehearsed(home):
    """Five captions of an image: the other four of each are the texts of the second side."""
    both = {"text_encoder": "toy-text", "second_text_encoder": "toy-text"}
    found = dry_run.run(spec_of(home, **both))
    assert set(found.rows) == set(found.residency) == {"first_text", "second_text"}
    assert found.predicted.activations > 0
    line = train_estimate_parts(found)[0]
    assert "first texts of " in line


def test_the_command_prints_parameters_memory_and_minutes(home):
    sets = [part for override in THREE_STEPS for part in ("--set", override)]
    command = ["train-adapter", "--dry-run", "--preset", "linear", "--device", "cpu", *sets]
    found = json.loads(lightalign(*command, "--json", home=home).stdout)
    assert found["parameters"] > 0
    assert found["minutes"] > 0
    assert found["predicted"]["activations"] > 0
    assert not run_folder.runs_folder(home).exists()
    together = lightalign("train-adapter", "--resume", "x", "--dry-run", home=home)
    assert (together.returncode, "give it alone" in together.stderr) == (2, True)


def test_people_are_told_what_the_probe_took(found):
    lines = [part for part in train_estimate_parts(found) if isinstance(part, str)]
    assert lines[0].startswith(
        f"preset linear: {found.parameters:,} parameters on 24 images, batch 8"
    )
    assert "features: images 0.0 MB on host, texts 0.1 MB on host" in lines[1]
    assert f": 2 epochs of {found.epoch_seconds:.1f} s" in lines[2]
    assert lines[3].startswith(f"timed 5 of 6 steps in {found.probe_seconds:.1f} s")


@pytest.mark.slow
def test_the_minutes_are_within_a_factor_of_two_of_the_training(tmp_path):
    scenes = {"train": 400, "val": 100, "test": 10, "size": 64}
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder, source=scenes, rows_per_shard=200)
    spec = spec_of(tmp_path, overrides=("train.epochs=8", "train.batch_size=50"))
    expected = dry_run.run(spec).minutes * 60
    seconds = train.run(spec).report["seconds"]
    assert 0.5 < expected / seconds < 2


@pytest.mark.slow
def test_mixtures_a_queue_and_a_teacher_are_rehearsed(tmp_path):
    """Of 24 images in 3 batches of 8, halves leave 4 mixtures of one token a batch."""
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder, features=("mean",))
    mixed = dry_run.run(spec_of(tmp_path, overrides=(*THREE_STEPS, "train.mixup.alpha=1.0")))
    assert (mixed.batch_size, mixed.rows) == (4, {"image": "1 x 16", "text": "1 x 16"})
    assert mixed.predicted.features == 3 * 4 * 16 * (4 + 20)  # ready, bytes, width, rows
    taught = ("objective.part=distil", "train.queue=16")
    found = dry_run.run(spec_of(tmp_path, overrides=(*THREE_STEPS, *taught)))
    assert found.batch_size == 8
    assert found.validation_seconds > 0
