"""A task of one's own, `lowest-loss`, added to a copy of the package by one file and no line."""

import json
from pathlib import Path

import pytest

from ..pipelines.conftest import extract_toy
from .copied_package import command, copy_package

TRAIN = (
    *("train-adapter", "--preset", "linear", "--device", "cpu", "--set", "train.epochs=3"),
    *("--set", "train.precision=float32", "--set", "towers.both.project.out=8"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package, one more task, and a home with stores."""
    place = tmp_path_factory.mktemp("lowest-loss")
    copy_package(place, "lowest_loss")
    for encoder in ("toy-image", "toy-text"):
        for split in ("train", "val"):
            extract_toy(place / "home", encoder, split=split)
    return place


def test_the_loop_trains_and_keeps_the_epoch_of_the_lowest_loss(place):
    done = command(place, *TRAIN, "--name", "mine", "--set", "task.part=lowest-loss")
    assert done.returncode == 0, done.stderr
    folder = place / "home" / "runs" / "mine"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [list(record["validation"]) for record in log] == [["loss"]] * 3
    report = json.loads((folder / "report.json").read_text())
    assert report["selected_by"] == "loss on split 'val'"
    lowest = min(log, key=lambda record: record["validation"]["loss"])
    assert report["best"] == lowest
    assert report["spec"]["task"] == {"part": "lowest-loss"}
    assert f"epoch 3/3: loss {log[2]['loss']:.3f}, validation loss " in done.stderr
    # a page asks the task, too
    done = command(place, "report", "mine")
    assert done.returncode == 0, done.stderr
