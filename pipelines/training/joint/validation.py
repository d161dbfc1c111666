"""Validation of a joint adapter on pairs that it is not trained on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy import special
from torch import Tensor

from ....adapters.joint_objective import JointObjectives
from ....featcache.errors import DivergedError
from ...inputs.pairs import PairDataset
from ...metrics.answer_vocabulary import UNLISTED
from ...metrics.calibration import (
    calibration_number,
    sigmoid_temperature,
    softmax_temperature,
)
from .answers import AnswerLabels
from .batches import JointRows, Negatives, load_pairs
from .step import JointForward, PairLosses

_PAIRS_AT_ONCE = 256  # whose activations are in memory
_CALIBRATED = 10_000  # questions


@dataclass(frozen=True)
class JointValidation:
    """Pairs by which weights are chosen, with wrong pairs that stay the same.

    Attributes:
        stores: Where their features are.
        rows: Right pairs, and wrong ones drawn with one seed.
        labels: Targets of the answers to questions, or None.
        name: What they are, for reports.
    """

    stores: PairDataset
    rows: JointRows
    labels: AnswerLabels | None
    name: str

    @classmethod
    def choose(
        cls,
        split: PairDataset | None,
        stores: PairDataset,
        held_out: Int64[np.ndarray, " n"],
        *,
        negatives: Negatives | None,
        labels: AnswerLabels | None,
        most: int,
    ) -> "JointValidation | None":
        """Return pairs of a split of its own, else of the held-out images, else none.

        Args:
            split: Stores of that split, or None.
            stores: Stores that are trained on.
            held_out: Numbers of images of these that are not trained on.
            negatives: Draws wrong partners from all pairs that validate, or None for none.
            labels: Targets of the pairs that validate, or None.
            most: Pairs at most, spread over all; 0 for all.
        """
        images = held_out if split is None else split.images
        if not len(images):
            return None
        owner = stores if split is None else split
        links, _ = owner.links(np.sort(images))
        name = (
            f"{len(images)} held-out {owner.owner}s of split {owner.pair.split!r}"
            if split is None
            else f"split {owner.pair.split!r}"
        )
        if 0 < most < len(links):
            links = links[np.linspace(0, len(links) - 1, most).astype(np.int64)]
            name = f"{most:,} pairs of {name}"
        wrong = np.empty((0, 2), dtype=np.int64)
        if negatives is not None:
            # of all pairs at once, and the same ones in every epoch
            wrong = negatives.draw(links[:, 0], links[:, 1], np.random.default_rng(0))
        return cls(owner, JointRows(links[:, 0], links[:, 1], wrong), labels, name)

    @property
    def num_read(self) -> int:
        """Return how many pairs are read, right and wrong ones."""
        return len(self.rows) + len(self.rows.wrong)

    @property
    def has_listed(self) -> bool:
        """Return whether any question that calibrates has an answer, or a label, of the list."""
        if self.labels is None:
            return False
        rows = self.sample(_CALIBRATED).rows
        targets = self.labels.targets.take(self.labels.questions[rows.second])
        # a label alone counts where one answer is right, and no other has its place
        return bool((targets.labels != UNLISTED).any())

    def sample(self, most: int) -> "JointValidation":
        """Return so many right pairs at most, spread over all, without wrong ones."""
        count = min(most, len(self.rows))
        spread = np.linspace(0, len(self.rows) - 1, count).astype(np.int64)
        rows = JointRows(self.rows.first[spread], self.rows.second[spread], self.rows.wrong[:0])
        return replace(self, rows=rows)

    @torch.no_grad()
    def measure(self, forward: JointForward) -> dict[str, float]:
        """Return the loss, and what each objective measures; the adapter is at rest meanwhile.

        That is the accuracy of `JointObjective.told` in percent: of `answers` the mean soft score
        of the answer with the highest logit over all questions, of `itm` the mean of the shares of
        right and of wrong pairs that are told (balanced accuracy; chance is 50).

        Raises:
            DivergedError: The loss is not finite.
        """
        was_training = forward.adapter.training
        forward.adapter.eval()
        scores = _Scores()
        for right, wrong in self._blocks():
            batch = load_pairs(self.stores, self.rows, right, wrong, labels=self.labels)
            for chunk in forward.chunks(batch, 0):
                scores.add(chunk, forward.objectives)
        forward.adapter.train(was_training)
        numbers = scores.table(forward.objectives)
        if not math.isfinite(numbers["loss"]):
            # a logit that is no number says no to everything, which looks like chance
            raise DivergedError(
                f"the loss is {numbers['loss']} on {self.name}: lower train.learning_rate"
            )
        return numbers

    @torch.no_grad()
    def calibrate(self, forward: JointForward) -> dict[str, Any]:
        """Return the temperature of probabilities of answers, and their calibration with it.

        Of more than 10,000 questions as many are looked at, spread over all. Only where
        `has_listed`.
        """
        assert self.labels is not None, "the training lists answers"
        rows = self.sample(_CALIBRATED).rows
        logits = np.empty((len(rows), self.labels.targets.num_answers), dtype=np.float32)
        for read, block in answer_logits(forward, self.stores, rows):
            logits[read] = block
        targets = self.labels.targets.take(self.labels.questions[rows.second])
        kind = probabilities_of(forward.objectives)
        temperature = (
            softmax_temperature(logits, targets.labels)
            if kind == "softmax"
            else sigmoid_temperature(logits, targets)
        )
        best = logits.argmax(axis=1)
        scores = targets.scores_of(best)
        errors = {
            name: calibration_number(probabilities(logits, kind, divisor).max(axis=1), scores)
            for name, divisor in (("before", 1.0), ("after", temperature))
        }
        return {
            "probabilities": kind,
            "temperature": temperature,
            "questions": len(rows),
            **{f"calibration_error_{name}": number.value for name, number in errors.items()},
        }

    def _blocks(self) -> Iterator[tuple[Int64[np.ndarray, " right"], Int64[np.ndarray, "wrong 2"]]]:
        """Yield places of right pairs, and wrong pairs, some at a time."""
        none = np.empty(0, dtype=np.int64)
        for start in range(0, len(self.rows), _PAIRS_AT_ONCE):
            stop = min(start + _PAIRS_AT_ONCE, len(self.rows))
            yield np.arange(start, stop), self.rows.wrong[:0]
        for start in range(0, len(self.rows.wrong), _PAIRS_AT_ONCE):
            yield none, self.rows.wrong[start : start + _PAIRS_AT_ONCE]


def probabilities_of(objectives: JointObjectives) -> str:
    """Return what makes probabilities of logits of answers, as their objective has it.

    That is `softmax` where one answer is right, and `sigmoid` where each has a score.
    """
    learnt = objectives.objectives["answers"]
    return "softmax" if getattr(learnt, "loss", "soft") == "single" else "sigmoid"


def probabilities(
    logits: Float32[np.ndarray, "n answers"], kind: str, temperature: float
) -> Float32[np.ndarray, "n answers"]:
    """Return probabilities of answers by `softmax` or by `sigmoid` of logits / temperature."""
    scaled = logits / np.float32(temperature)
    made: np.ndarray = (
        special.softmax(scaled, axis=1) if kind == "softmax" else special.expit(scaled)
    )
    return made


def answer_logits(
    forward: JointForward, stores: PairDataset, rows: JointRows
) -> Iterator[tuple[Int64[np.ndarray, " block"], Float32[np.ndarray, "block answers"]]]:
    """Yield the logits of answers to right pairs, some at a time, with their places in `rows`.

    The adapter is at rest meanwhile.
    """
    was_training = forward.adapter.training
    forward.adapter.eval()
    with torch.no_grad():
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            right = np.arange(start, min(start + _PAIRS_AT_ONCE, len(rows)))
            batch = load_pairs(stores, rows, right, rows.wrong[:0], labels=None)
            yield batch.right, forward.logits(batch, "answers").cpu().numpy()
    forward.adapter.train(was_training)


class _Scores:
    """Sums over units, by objective."""

    def __init__(self) -> None:
        self.losses: dict[str, tuple[float, int]] = {}
        self.told: dict[str, dict[bool, tuple[float, int]]] = {}  # by what balances them

    def add(self, chunk: PairLosses, objectives: JointObjectives) -> None:
        """Add the losses of some pairs, and how right what is said of them is."""
        for name, losses in chunk.losses.items():
            objective, labels = objectives.named[name], chunk.targets[name].labels
            self.losses[name] = _added(self.losses.get(name), losses)
            told = objective.told(chunk.logits[name].cpu(), labels)
            everything = torch.ones(len(told), dtype=torch.bool)
            kinds = labels[objective.balanced_by] if objective.balanced_by else everything
            sums = self.told.setdefault(name, {})
            for kind in (True, False):
                if (kinds == kind).any():
                    sums[kind] = _added(sums.get(kind), told[kinds == kind])

    def table(self, objectives: JointObjectives) -> dict[str, float]:
        """Return the loss and the accuracies."""
        means = {name: total / count for name, (total, count) in self.losses.items()}
        numbers = {"loss": sum(objectives.weights[name] * mean for name, mean in means.items())}
        for name, sums in self.told.items():
            shares = [total / count for total, count in sums.values()]
            # of one kind alone the other is not told
            kinds = 2 if objectives.named[name].balanced_by else 1
            numbers[objectives.named[name].accuracy] = 100 * sum(shares) / kinds
        return numbers


def _added(before: tuple[float, int] | None, values: Tensor) -> tuple[float, int]:
    total, count = before or (0.0, 0)
    return total + float(values.double().sum()), count + len(values)
