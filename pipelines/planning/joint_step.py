"""Planned step of a training of a joint adapter."""

from dataclasses import dataclass

import numpy as np
import torch

from ...adapters.joint_adapter import JointAdapter
from ...adapters.joint_objective import JointObjectives, build_joint_objectives
from ..common.reproducibility import resolve_precision
from ..training.joint.batches import JointRows, PairsLoaded, targets_of_pairs
from ..training.joint.modules import build_joint_trainable
from ..training.joint.step import MATCHES, JointForward, JointStep
from ..training.modules import TrainingModules
from .planned import Planned

WRONG_PAIRS = 2  # of each pair, with its first item and with its second


@dataclass(frozen=True, kw_only=True)
class PlannedJointStep(Planned):
    """Planned step of a training of a joint adapter, whose batch is of pairs.

    Attributes:
        num_answers: Answers that are told apart, or None; without an objective that reads them
            they do not count.
    """

    num_answers: int | None

    @property
    def batches_ready(self) -> int:
        """Return those of the shape: chunks are of a batch that is loaded whole."""
        return self.shape.ready

    def modules(self, device: torch.device) -> TrainingModules[JointAdapter, JointObjectives]:
        """Return what is trained, on a device that may be another one."""
        return build_joint_trainable(
            self.table,
            self.options,
            widths=self.shape.widths,
            listed={} if self.num_answers is None else {"answers": self.num_answers},
            objectives=build_joint_objectives(self.table["objective"]).to(device),
            seed=0,
            device=device,
        )

    def train_step(
        self,
        modules: TrainingModules[JointAdapter, JointObjectives],
        images: int,
        device: torch.device,
    ) -> JointStep:
        """Return the step that trains `modules`."""
        del images  # nothing depends on how large a batch is
        modules.adapter.train()
        forward = JointForward(
            modules.adapter,
            modules.objective,
            sides=self.shape.sides,
            dtype=resolve_precision(self.options.precision, self.device),
            device=device,
        )
        return JointStep(forward, modules, self.options)

    def batch(
        self, images: int, device: torch.device, objective: JointObjectives, *, wrong: bool = True
    ) -> PairsLoaded:
        """Return a batch of as many pairs of random features, on the CPU.

        Args:
            images: Images, each of which is in one right pair.
            device: Ignored, as pairs are moved when they are read.
            objective: Says whether wrong pairs and answers are read.
            wrong: Whether there are wrong pairs, if they are read.
        """
        del device
        right = np.arange(images)
        others = np.roll(right, 1)
        of_wrong = np.empty((0, 2), dtype=np.int64)
        if wrong and MATCHES in objective.labels:
            sides = [(right, others), (others, right)]
            of_wrong = np.concatenate([np.stack(side, axis=1) for side in sides])
        first, second = (self.shape.random_rows(side, images) for side in self.shape.sides)
        pairs = np.concatenate([np.stack([right, right], axis=1), of_wrong])
        answers = {}
        if num_answers := self.answers_loaded(objective):
            answers = {
                "answers": torch.zeros(images, num_answers),
                "answer": torch.zeros(images, dtype=torch.int64),
            }
        return PairsLoaded(
            rows=JointRows(right, right, of_wrong),
            first=first,
            second=second,
            pairs=pairs,
            right=right,
            targets=targets_of_pairs(len(pairs), images, answers),
        )

    def answers_loaded(self, objective: JointObjectives) -> int:
        """Return the scores of answers that are loaded with each right pair."""
        return (self.num_answers or 0) if "answers" in objective.objectives else 0
