"""Homes with questions about pictures, and small joint trainings on them and on captions."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.training import train
from lightalign.pipelines.training.joint_plan import resolve
from lightalign.pipelines.training.joint_spec import TrainJointSpec
from lightalign.pipelines.training.spec import TrainReport
from lightalign.pipelines.training.tasks._open_joint import OpenJoint
from lightalign.pipelines.training.trainer import Trainer

from ..featcache.sources.question_helpers import kaggle_daquar
from .conftest import extract_toy
from .training.test_train import CPU

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}
NUM_TRAIN, NUM_VAL = 12, 6  # pictures, of each of which there are two questions
# a joint adapter of one layer that reads the 16 features of the toys, in two epochs of two steps
TINY_PARTS = (
    "towers.both.project.out=16",
    "joint.fuse.layers=1",
    "joint.fuse.heads=2",
    "joint.fuse.feedforward=32",
)
TINY = ("train.epochs=2", "train.batch_size=12", "train.precision=float32", *TINY_PARTS)
NO_DROPOUT = "joint.fuse.dropout=0.0"
ANSWERS = {"objective": "answers"}  # beside the preset, whose objective is matching
BOTH = {"objective": "itm=1,answers=0.5"}


def write_questions(folder: Path, *, annotators: int = 1) -> Path:
    """Write pictures of one colour with two questions each, and return their table.

    Of ten annotators seven agree, and three say `grey`.
    """
    folder.mkdir(parents=True)
    rows = []
    for number in range(NUM_TRAIN + NUM_VAL):
        colour = list(COLOURS)[number % 3]
        Image.new("RGB", (32, 32), COLOURS[colour]).save(folder / f"{number:02}.png")
        asked = {"what colour is it": colour, "is it red": "yes" if colour == "red" else "no"}
        rows += [
            {
                "image": f"{number:02}.png",
                "question": question,
                "answers": [answer] if annotators == 1 else [answer] * 7 + ["grey"] * 3,
                "split": "train" if number < NUM_TRAIN else "val",
            }
            for question, answer in asked.items()
        ]
    table = folder / "questions.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    return table


def extract_questions(home: Path, data: str) -> Path:
    """Extract a dataset of questions with the toys, and return the home."""
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, data=data, source={})
    return home


def question_home(place: Path, *, annotators: int = 1) -> Path:
    """Return a home with the features of `write_questions`."""
    table = write_questions(place / "pictures", annotators=annotators)
    return extract_questions(place / "home", f"vqa-table={table}")


def official_home(place: Path) -> Path:
    """Return a home with the features of a small DAQUAR, which lists its answers."""
    kaggle_daquar(place / "rooms")
    for path in (place / "rooms" / "images").iterdir():
        Image.new("RGB", (32, 32), (9, 99, 199)).save(path)
    return extract_questions(place / "home", f"daquar={place / 'rooms'}")


def joint_spec(home: Path, **changes: Any) -> TrainJointSpec:
    """Return the settings of a small training of a joint adapter."""
    fields = {"home": home, "preset": "vle/small", "overrides": TINY, "device": "cpu"}
    return TrainJointSpec(**{**fields, **changes})


def quick_joint(home: Path, **changes: Any) -> TrainReport:
    """Train a small joint adapter."""
    return train.run_joint(joint_spec(home, **changes))


def joint_trainer(home: Path, *overrides: str, **changes: Any) -> Trainer:
    """Return the trainer of a small joint adapter, which has not begun."""
    spec = joint_spec(home, overrides=(*TINY, *overrides), **changes)
    return Trainer(resolve(spec, SILENT), home=home, seed=0, device=CPU)


def opened(trainer: Trainer) -> OpenJoint:
    """Return the joint task of a trainer."""
    assert isinstance(trainer.opened, OpenJoint)
    return trainer.opened
