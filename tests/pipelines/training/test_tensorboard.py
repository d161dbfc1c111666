"""TensorBoard's own reader finds the numbers of the log, each step once."""

import json
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train, trainer
from lightalign.pipelines.training.log import EVENTS

from ...helpers import lightalign
from .test_train import THREE_STEPS, quick_train

SMALL = ("towers.both.project.out=8",)
OPTIONS = {"preset": "linear", "tensorboard": True}


def curves(folder):
    """Return steps and values by name, as TensorBoard reads them."""
    reader = EventAccumulator(str(folder / run_folder.TENSORBOARD))
    reader.Reload()
    return {
        name: [(event.step, event.value) for event in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


def validated(record):
    found = record["validation"]
    recalls = {
        f"validation/{side}/R@{rank}": found[side][rank]
        for side, ranks in (("text_to_image", (1, 5)), ("image_to_text", (1, 5, 10)))  # 8 images
        for rank in map(str, ranks)
    }
    return {**recalls, "validation/recall_sum": found["recall_sum"]}


def logged(folder):
    """Return the same from the log, rounded to the float32 that events hold."""
    found = {}
    for line in (folder / run_folder.LOG).read_text().splitlines():
        record = json.loads(line)
        values = {
            **validated(record),
            "validation/loss": record["validation"]["loss"],
            "train/loss": record["loss"],
            "train/scale": record["parts"]["scale"],
            "train/text_to_image": record["parts"]["text_to_image"],
            "train/image_to_text": record["parts"]["image_to_text"],
            "train/learning_rate": record["learning_rate"],
            "train/images_per_second": record["images_per_second"],
            "train/waiting": record["seconds_waiting"] / record["seconds"],
        }
        for name, value in values.items():
            found.setdefault(name, []).append((record["step"], float(np.float32(value))))
    return found


def test_the_curves_are_the_numbers_of_the_log(home):
    """Three steps an epoch; the rate rises to 1e-3 and falls from there."""
    folder = quick_train(home, overrides=THREE_STEPS, **OPTIONS).folder
    found = curves(folder)
    assert found == logged(folder)
    assert [step for step, _ in found["train/loss"]] == [3, 6]
    assert 0 < found["train/learning_rate"][0][1] <= 1e-3


def test_a_training_that_goes_on_has_each_step_once(home, monkeypatch):
    """It is stopped when the third epoch is in both logs and not in the state."""
    overrides = ("train.epochs=4", *THREE_STEPS[1:])
    save_state = trainer.save_state

    def stop_in_third(folder, counts, *others):
        if counts.epoch == 3:
            raise KeyboardInterrupt
        save_state(folder, counts, *others)

    monkeypatch.setattr(trainer, "save_state", stop_in_third)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, overrides=overrides, name="cut", **OPTIONS)
    monkeypatch.setattr(trainer, "save_state", save_state)
    cut = run_folder.runs_folder(home) / "cut"
    assert [step for step, _ in curves(cut)["train/loss"]] == [3, 6, 9]
    train.resume(home, "cut", device="cpu")
    found = curves(cut)
    assert found == logged(cut)
    assert [step for step, _ in found["train/loss"]] == [3, 6, 9, 12]


def test_a_closed_form_has_one_point(home):
    folder = quick_train(home, preset="procrustes", overrides=SMALL, tensorboard=True).folder
    record = json.loads((folder / run_folder.LOG).read_text())
    expected = {name: [(0, float(np.float32(one)))] for name, one in validated(record).items()}
    assert curves(folder) == expected


def test_without_the_package_the_error_names_it_and_nothing_is_begun(home, monkeypatch):
    for name in ("tensorboard", EVENTS):
        monkeypatch.setitem(sys.modules, name, None)
    result = lightalign("train-adapter", "--tensorboard", home=home)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("lightalign: --tensorboard needs the package tensorboard")
    assert 'pip install "lightalign[tensorboard]"' in line
    assert not run_folder.runs_folder(home).exists()
