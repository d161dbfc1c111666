"""Answers of a joint run to all questions of a split, from stored features.

Axis names: `questions` questions of the split that have features, `answers` answers of the list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from ...adapters.joint_objective import JointObjectives
from ...featcache.types import IMAGE_TEXT
from ..common.progress import SILENT, Progress
from ..inputs.pairs import BatchRows, PairDataset
from ..metrics.answer_scores import AnswerTargets
from ..metrics.answer_vocabulary import AnswerVocabulary
from ..runs.joint_run import JointRun
from ..training.joint.answers import AnswerLabels, answers_of, questions_of
from ..training.joint.batches import JointRows
from ..training.joint.step import JointForward
from ..training.joint.validation import answer_logits, probabilities, probabilities_of


@dataclass(frozen=True)
class AskedSplit:
    """Questions of a split with their images.

    Attributes:
        stores: Where the features are.
        rows: Row of the image and of the question of each.
        images: Image of each, from 0 to one less than their number.
        places: Place of each among all texts of the split.
    """

    stores: PairDataset
    rows: BatchRows
    images: Int64[np.ndarray, " questions"]
    places: Int64[np.ndarray, " questions"]

    @classmethod
    def of(cls, stores: PairDataset) -> "AskedSplit":
        """Return all questions of a split that have an image and features.

        Raises:
            SpecError: The dataset has no answers.
        """
        answers_of(stores)
        links, _ = stores.links(stores.images)
        _, images = np.unique(links[:, 0], return_inverse=True)
        places = questions_of(stores)[links[:, 1]]
        return cls(stores, BatchRows(links[:, 0], links[:, 1]), images, places)

    def __len__(self) -> int:
        return len(self.places)

    def targets(self, vocabulary: AnswerVocabulary) -> AnswerTargets:
        """Return the score of each answer of a list to each question."""
        return AnswerLabels.of(self.stores, vocabulary).targets.take(self.places)

    def kinds(self) -> dict[str, list[str]]:
        """Return the kind of each question by the name of a table; none where they are not told."""
        answers = answers_of(self.stores)
        tables: dict[str, list[str]] = {}
        for name, of_all in (
            ("by_answer_type", answers.answer_types),
            ("by_question_type", answers.question_types),
        ):
            if of_all is not None:
                every = list(of_all)
                tables[name] = [every[place] for place in self.places.tolist()]
        return tables

    def shuffled(self, seed: int) -> Int64[np.ndarray, " questions"]:
        """Return the row of the image of another question for each, drawn by `seed`.

        Each image stands in for another one, and is the same for all questions of that.
        """
        rows = np.unique(self.rows.first)
        order = np.random.default_rng(seed).permutation(len(rows))
        # each for the next of a random circle, so that none stands for itself
        stand_in = np.empty(len(rows), dtype=np.int64)
        stand_in[order] = np.roll(order, 1)
        shuffled: np.ndarray = rows[stand_in[self.images]]
        return shuffled


@dataclass(frozen=True)
class Predictions:
    """Answers of one run.

    Attributes:
        vocabulary: Answers that it tells apart.
        best: Place in the list of the answer to each question.
        confidence: Probability of it, calibrated on the validation of the run if there was any.
        candidates: The most probable answers to each question with their probabilities, the first
            of equals first; none where they were not asked for.
    """

    vocabulary: AnswerVocabulary
    best: Int64[np.ndarray, " questions"]
    confidence: Float64[np.ndarray, " questions"]
    candidates: Sequence[Sequence[tuple[str, float]]] = ()

    @property
    def words(self) -> list[str]:
        """Return the answer to each question."""
        return [self.vocabulary.answers[place] for place in self.best.tolist()]


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities of the logits of a run.

    Attributes:
        kind: `softmax` or `sigmoid`, as its objective has it.
        temperature: What divides logits before.
        is_measured: Whether a validation says it; else it is 1.
    """

    kind: str
    temperature: float
    is_measured: bool

    @classmethod
    def of(cls, trained: Mapping[str, Any], objectives: JointObjectives) -> "Calibration":
        """Return that of a run by its report and its objectives."""
        recorded = trained.get("calibration", {})
        temperature = float(recorded.get("temperature", 1.0))
        return cls(probabilities_of(objectives), temperature, bool(recorded))


def predict(
    run: JointRun,
    asked: AskedSplit,
    *,
    images: Int64[np.ndarray, " questions"] | None = None,
    num_candidates: int = 0,
    progress: Progress = SILENT,
) -> Predictions:
    """Answer all questions of a split by a run.

    Args:
        run: Its adapter has the head `answers`.
        asked: The questions; their stores are those of the run.
        images: Row of the image that each question is asked about, or None for its own.
        num_candidates: Answers to each question that are told with their probabilities.
        progress: Receives the progress.
    """
    vocabulary = run.joint.answers
    forward = JointForward(
        run.joint.adapter,
        run.joint.objectives,
        sides=IMAGE_TEXT,
        dtype=torch.float32,
        device=run.device,
    )
    first = asked.rows.first if images is None else images
    rows = JointRows(first, asked.rows.second, np.empty((0, 2), dtype=np.int64))
    calibration = Calibration.of(run.trained, run.joint.objectives)
    best = np.empty(len(asked), dtype=np.int64)
    confidence = np.empty(len(asked), dtype=np.float64)
    candidates: list[list[tuple[str, float]]] = [[]] * len(asked) if num_candidates else []
    progress.start("answer questions", len(asked), unit="questions")
    for places, logits in answer_logits(forward, asked.stores, rows):
        best[places] = logits.argmax(axis=1)
        confidence[places] = probabilities(logits, calibration.kind, calibration.temperature).max(
            axis=1
        )
        if num_candidates:
            for place, of_question in zip(places.tolist(), logits, strict=True):
                candidates[place] = top_answers(
                    of_question,
                    vocabulary,
                    kind=calibration.kind,
                    temperature=calibration.temperature,
                    top_k=num_candidates,
                )
        progress.advance(len(places))
    progress.finish()
    return Predictions(vocabulary, best, confidence, candidates)


def top_answers(
    logits: Float32[np.ndarray, " answers"],
    vocabulary: AnswerVocabulary,
    *,
    kind: str,
    temperature: float,
    top_k: int,
) -> list[tuple[str, float]]:
    """Return the most probable answers with their probabilities, the first of equals first."""
    told = probabilities(logits[None], kind, temperature)[0]
    order = np.argsort(-logits, kind="stable")[:top_k]
    return [(vocabulary.answers[place], float(told[place])) for place in order.tolist()]
