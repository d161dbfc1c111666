"""Targets of the answers to questions, by the row of each question in its store."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from ....featcache.answers import Answers as PeoplesAnswers
from ....featcache.errors import SpecError
from ....featcache.links import Links
from ....featcache.types import Modality
from ...inputs.pairs import PairDataset
from ...metrics.answer_scores import NUM_ANNOTATORS, AnswerTargets
from ...metrics.answer_vocabulary import AnswerVocabulary, all_answers, frequent_answers
from .options import AnswerList


@dataclass(frozen=True, eq=False)
class AnswerLabels:
    """Targets of the questions of a split.

    Attributes:
        answers: What people answered.
        targets: Score of each answer of the list to each of all questions of the split.
        questions: Place of the question of each row of the store of texts.
    """

    answers: PeoplesAnswers
    targets: AnswerTargets
    questions: Int64[np.ndarray, " rows"]

    @classmethod
    def of(cls, stores: PairDataset, vocabulary: AnswerVocabulary) -> "AnswerLabels":
        """Return the targets of the questions that stores hold.

        Raises:
            SpecError: The dataset has no answers.
        """
        answers = answers_of(stores)
        targets = AnswerTargets.of(vocabulary, answers.given, answers.ends, answers.chosen)
        return cls(answers, targets, questions_of(stores))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_unlisted(self) -> int:
        """Return how many questions have no answer that is in the list."""
        return int(self.targets.unlisted.sum())

    def soft(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n answers"]:
        """Return the score of each answer to the questions of some rows, in [0, 1]."""
        return self.targets.dense(self.questions[rows])

    def single(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the place in the list of the label of some rows, -1 for one that is not in it."""
        labels: np.ndarray = self.targets.labels[self.questions[rows]]
        return labels


def questions_of(stores: PairDataset) -> Int64[np.ndarray, " rows"]:
    """Return the place among all texts of the split of each row of the store of texts."""
    rows = stores.second.rows_of(stores.pairs.ids_of(Modality.TEXT))
    questions = np.full(len(stores.second), -1, dtype=np.int64)
    is_stored = rows >= 0
    questions[rows[is_stored]] = np.flatnonzero(is_stored)
    return questions


def answers_of(stores: PairDataset) -> PeoplesAnswers:
    """Return what people answered to the questions of stores.

    Raises:
        SpecError: The dataset has no answers.
    """
    if stores.pairs.answers is None:
        raise SpecError(
            f"split {stores.pair.split!r} of {stores.pair.dataset} has no answers: take a dataset "
            "of questions, such as daquar, or another split of it"
        )
    return stores.pairs.answers


def choose_vocabulary(
    stores: PairDataset,
    trained: Int64[np.ndarray, " images"],
    validation: Links | None,
    answer_list: AnswerList,
) -> AnswerVocabulary:
    """Return the list of answers that a training tells apart.

    Args:
        stores: Stores that are trained on.
        trained: Numbers of the images of these that are trained on.
        validation: Links of the split that validates, whose labels count for `frequent`; or None.
        answer_list: Which list it is.

    Raises:
        SpecError: The dataset has no answers, or no official list.
        DatasetFormatError: The list is empty, too long, or has an answer twice.
    """
    answers, way = answers_of(stores), answer_list.way
    if way == "auto":
        sizes = np.diff(answers.ends, prepend=0)
        way = "frequent" if len(sizes) and (sizes == NUM_ANNOTATORS).all() else "train"
        way = "official" if answers.vocabulary is not None else way
    if way == "official":
        if answers.vocabulary is None:
            raise SpecError(
                f"dataset {stores.pair.dataset} has no official list of answers: take "
                "--set task.vocabulary=train"
            )
        return AnswerVocabulary(tuple(answers.vocabulary), answer_list.normalise)
    if way == "frequent":
        of_validation = (
            () if validation is None or validation.answers is None else (validation.answers.chosen)
        )
        return frequent_answers(
            [*answers.chosen, *of_validation],
            least_count=answer_list.least_count,
            normalise=answer_list.normalise,
        )
    links, _ = stores.links(np.sort(trained))
    labels = questions_of(stores)[links[:, 1]]
    chosen = list(answers.chosen)
    return all_answers(
        [chosen[place] for place in sorted(set(labels.tolist()))], normalise=answer_list.normalise
    )
