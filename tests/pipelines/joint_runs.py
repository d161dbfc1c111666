"""Small trainings of joint adapters, on captions and on questions."""

from pathlib import Path
from typing import Any

from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.training import train
from lightalign.pipelines.training.joint_plan import resolve
from lightalign.pipelines.training.joint_spec import TrainJointSpec
from lightalign.pipelines.training.spec import TrainReport
from lightalign.pipelines.training.tasks._open_joint import OpenJoint
from lightalign.pipelines.training.trainer import Trainer

from .training.test_train import CPU

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
