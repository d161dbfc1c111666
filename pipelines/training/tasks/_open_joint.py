"""A joint task with its data: pairs that are read together, objectives, a validation of pairs."""

from pathlib import Path
from typing import Any

import torch

from ....adapters.joint_adapter import JointAdapter
from ....adapters.joint_checkpoint import load_joint_adapter, save_joint_adapter
from ....adapters.joint_objective import build_joint_objectives
from ....featcache.config import Table
from ....featcache.errors import SpecError
from ....featcache.store.catalog import pairs_path, read_pairs
from ...common.progress import Progress
from ...inputs.pairs import PairDataset
from ...inputs.store_selection import require_there
from ...metrics.answer_vocabulary import AnswerVocabulary
from ..joint.answers import AnswerLabels, choose_vocabulary
from ..joint.batches import JointBatches, JointRows, Negatives, PairsLoaded
from ..joint.dual_similarity import dual_similarity
from ..joint.modules import build_joint_trainable
from ..joint.options import AnswerList, WrongPairs
from ..joint.step import MATCHES, JointForward, JointStep
from ..joint.validation import JointValidation
from ..open_task import OpenTask, Surroundings
from ..options import TrainPlan
from ..training_inputs import TrainingInputs
from .base import Task

_TABLES = ("towers", "joint", "heads", "objective")  # of a preset: what rebuilds the adapter


class OpenJoint(OpenTask[JointRows, PairsLoaded]):
    """Pairs of two stores, and the joint adapter that reads them.

    Args:
        task: Says which labels it needs.
        plan: The resolved training.
        surroundings: Where and how it is trained.
        wrong_pairs: How wrong pairs are drawn, for an objective that reads them.
        answer_list: Which answers are told apart, or None where no questions are answered.
        most_validated: Pairs that validate at most; 0 for all.
        blind: Name of a side that is not looked at, or empty.

    Attributes:
        stores: Stores to train on.
        train_rows: Numbers of the images to train on.
        vocabulary: Answers that the head tells apart, none without the objective `answers`.
        validation: Pairs by which weights are chosen, or None.

    Raises:
        SpecError: Fewer than two images are left to train on, labels are missing, or the preset is
            wrong.
    """

    validation: JointValidation | None = None
    validated_on: str | None = None

    def __init__(
        self,
        task: Task,
        plan: TrainPlan,
        surroundings: Surroundings,
        *,
        wrong_pairs: WrongPairs,
        answer_list: AnswerList | None,
        most_validated: int,
        blind: str = "",
    ) -> None:
        self.plan = plan
        self.wrong_pairs = wrong_pairs
        self.options = plan.options
        self.device = surroundings.device
        self.processes = surroundings.processes
        self.home = surroundings.home
        objectives = build_joint_objectives(plan.table["objective"]).to(self.device)
        self._open_stores(task, surroundings)
        self._list_answers(answer_list)
        has_wrong = MATCHES in objectives.labels
        self._negatives = self._negatives_of(self.stores) if has_wrong else None
        if surroundings.processes.is_first:
            self._choose_validation(task, most_validated)
        self._blind = {"blind": blind} if blind else {}
        self.trainable = build_joint_trainable(
            {**plan.table, **self._blind},
            plan.options,
            widths=plan.stores.widths,
            listed={} if self.vocabulary is None else {"answers": len(self.vocabulary)},
            objectives=objectives,
            seed=surroundings.seed,
            device=self.device,
        )
        forward = self._forward(self.trainable.adapter, surroundings.dtype)
        # of float32 whatever the training has: weights are chosen by small differences
        self._at_rest = self._forward(self.trainable.adapter, torch.float32)
        self.batches = JointBatches(
            self.stores,
            self.train_rows,
            options=plan.options,
            seed=surroundings.seed,
            negatives=self._negatives,
            labels=self.labels,
            processes=self.processes,
        )
        self.train_step = JointStep(
            forward,
            self.trainable,
            plan.options,
            scaler=surroundings.scaler,
            processes=self.processes,
        )

    def _open_stores(self, task: Task, surroundings: Surroundings) -> None:
        plan = self.plan
        inputs = surroundings.inputs or TrainingInputs.open(
            plan, home=self.home, device=self.device, validates=surroundings.processes.is_first
        )
        self.stores, self._split = inputs.stores, inputs.split
        task.check_labels(
            self.stores.pairs, plan.stores.dataset, split=plan.stores.split, validates=False
        )
        self.train_rows, self._held_out = inputs.rows(plan, surroundings.seed)
        if len(self.train_rows) < 2:
            raise SpecError(
                f"{len(self.train_rows)} {self.stores.owner}s of split {plan.stores.split!r} are "
                "left to train on, and two are needed: extract more, or validate on fewer"
            )

    def _list_answers(self, answer_list: AnswerList | None) -> None:
        self.vocabulary: AnswerVocabulary | None = None
        self.labels: AnswerLabels | None = None
        if answer_list is None:
            return
        validating = None
        if self.plan.validation is not None:
            # by its file: every process makes the same list, and the first alone has readers
            pair = self.plan.validation
            validating = read_pairs(pairs_path(self.home, pair.dataset, pair.split, pair.source))
        self.vocabulary = choose_vocabulary(self.stores, self.train_rows, validating, answer_list)
        self.labels = AnswerLabels.of(self.stores, self.vocabulary)
        if self.labels.num_unlisted == len(self.labels):
            raise SpecError(
                f"none of {len(self.labels):,} questions of split {self.plan.stores.split!r} has "
                f"an answer that is in the list of {len(self.vocabulary):,}: take "
                "--set task.vocabulary=train"
            )

    def _choose_validation(self, task: Task, most: int) -> None:
        labels, negatives, split = self.labels, self._negatives, self._split
        if split is not None:
            task.check_labels(
                split.pairs, split.pair.dataset, split=split.pair.split, validates=True
            )
            if negatives is not None:
                negatives = self._negatives_of(split)
            if self.vocabulary is not None:
                labels = AnswerLabels.of(split, self.vocabulary)
        self.validation = JointValidation.choose(
            split, self.stores, self._held_out, negatives=negatives, labels=labels, most=most
        )
        self.validated_on = self.validation.name if self.validation else None

    def _negatives_of(self, stores: PairDataset) -> Negatives:
        wrong_pairs, similarity = self.wrong_pairs, None
        if wrong_pairs.run:
            similarity = dual_similarity(
                self.home,
                wrong_pairs.run,
                stores,
                adapter_sha256=wrong_pairs.adapter_sha256,
                scale=wrong_pairs.scale,
                device=self.device,
            )
        return Negatives(stores, similarity, hard=wrong_pairs.hard)

    def _forward(self, adapter: JointAdapter, dtype: torch.dtype) -> JointForward:
        return JointForward(
            adapter,
            self.trainable.objective,
            sides=self.plan.stores.sides,
            dtype=dtype,
            device=self.device,
        )

    @property
    def notes(self) -> list[str]:
        """Return what is to know of the stores, and of answers that are in no list."""
        listed = (
            [] if self.vocabulary is None else [f"{len(self.vocabulary):,} answers are told apart"]
        )
        notes = [*self.stores.notes, *listed, *self._warnings_of_answers()]
        return list(dict.fromkeys(notes))

    @property
    def warnings(self) -> list[str]:
        """Return what a report says of the pairs."""
        return list(dict.fromkeys([*self.stores.warnings, *self._warnings_of_answers()]))

    def _warnings_of_answers(self) -> list[str]:
        lines = []
        for where, labels in self._labels_by_place():
            count = labels.num_unlisted
            if count:
                lines.append(
                    f"{count:,} of {len(labels):,} questions of {where} have no answer that is in "
                    "the list; they count as wrong"
                )
        return lines

    def _labels_by_place(self) -> list[tuple[str, AnswerLabels]]:
        places = []
        if self.labels is not None:
            places.append((f"split {self.stores.pair.split!r}", self.labels))
        validating = None if self.validation is None else self.validation.labels
        if validating is not None and validating is not self.labels:
            assert self.validation is not None
            places.append((f"split {self.validation.stores.pair.split!r}", validating))
        return places

    def check_features(self) -> list[str]:
        """Return nothing: a joint adapter reads all tokens."""
        return []

    def require_there(self) -> None:
        """Pass if the stores to train on, and those that validate, are still there.

        Raises:
            StoreNotFoundError: One was removed meanwhile.
        """
        require_there((self.plan.stores, self.plan.validation))

    def initialise(self, progress: Progress) -> None:
        """Do nothing: the weights that were drawn are those to begin with."""
        del progress

    def describe(self, batch: PairsLoaded) -> str:
        """Return a few ids of the second side: `texts such as ['q3', 'q8']`."""
        ids = [self.stores.second.ids[row] for row in batch.rows.second[:3].tolist()]
        return f"{self.plan.stores.sides[1].modality.value}s such as {ids}"

    def validate(self) -> dict[str, Any]:
        """Return the loss and the accuracies; nothing where no pairs validate here."""
        return {} if self.validation is None else self.measure(self.validation)

    def measure(self, validation: JointValidation) -> dict[str, float]:
        """Return the loss and the accuracies of pairs that are not trained on."""
        return validation.measure(self._at_rest)

    def save(self, folder: Path) -> None:
        """Save the adapter with its heads, and the answers that they tell apart."""
        table = self._table
        if self.vocabulary is not None:
            table["answers"] = {
                "listed": list(self.vocabulary.answers),
                "normalise": self.vocabulary.normalise,
            }
        save_joint_adapter(folder, self.trainable.adapter, self.trainable.objective, table=table)

    def finish(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Return how probabilities of answers are calibrated, by the best weights and validation.

        The temperature divides logits before they are made probabilities. Without a question whose
        answers the list has there is none: no probability of any would be right.
        """
        if self.validation is None or self.vocabulary is None:
            return {}
        if not self.validation.has_listed:
            progress.note("no question of the validation has an answer that is in the list")
            return {}
        progress.note("calibrating probabilities on the validation")
        adapter, _, _ = load_joint_adapter(folder)
        forward = self._forward(adapter.to(self.device), torch.float32)
        return {"calibration": self.validation.calibrate(forward)}

    @property
    def _table(self) -> Table:
        return {**{key: self.plan.table[key] for key in _TABLES}, **self._blind}

    def report(self) -> dict[str, Any]:
        """Return how many images and pairs are trained on, and how many answers there are."""
        answers: dict[str, Any] = {}
        if self.vocabulary is not None:
            answers = {
                "num_answers": len(self.vocabulary),
                "num_unlisted": {
                    where: labels.num_unlisted for where, labels in self._labels_by_place()
                },
            }
        return {
            "num_images": len(self.train_rows),
            "num_pairs": self.batches.course.rows,
            "num_links_lost": self.stores.num_links_lost,
            "residency": self.stores.residency,
            "encoders_frozen": True,
            **answers,
        }
