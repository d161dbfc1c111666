"""Scores of answers to questions about pictures: what annotators said in, accuracy out.

Axis names: `questions` questions, `annotated` answers of annotators to all of them, `listed` of
these the distinct ones of each question that the list has, `answers` answers of the list, `images`
images, `kinds` kinds of questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ...featcache.errors import DatasetFormatError
from .answer_vocabulary import UNLISTED, AnswerVocabulary
from .bootstrap import BootstrapDraws, interval_of
from .intervals import drawn_share_interval
from .number import Number

NUM_ANNOTATORS = 10  # of a question of VQA
_SOFT_SCORES = np.array([0.0, 0.3, 0.6, 0.9, 1.0])  # of 0 to 3, and of 4 or more annotators
MOST_KINDS = 256  # of questions that a report tells apart: VQA has 65 question types
_BLOCK = 2**22  # drawn images held at once: 32 MiB

DEFINITIONS = {
    "accuracy": (
        "mean over all questions of the score of the answer that the model gives, percent: where "
        "ten annotators answered, 0, 30, 60, 90 or 100 for an answer that 0, 1, 2, 3 or at least 4 "
        "gave, which is the mean of min(matches / 3, 1) over the ten sets of nine of them; "
        "otherwise 100 for the one answer that is the label, and 0"
    ),
    "form": (
        "answers of the list, of people and of models are compared in the form of the official VQA "
        "evaluation (punctuation, digits, articles, contractions), also where all people wrote the "
        "same, which it then leaves as it is"
    ),
    "unlisted": (
        "percent of questions of whose answers the list has none: whatever a model says, they "
        "count as wrong; num_unlisted is their number"
    ),
    "chance": "what one gets who names answers of the list at random, each as often as any other",
    "interval": (
        "95 %: the score interval (Wilson) of as many single questions as would vary as much as "
        "1000 bootstrap draws of whole images do, whose questions depend on one another"
    ),
    "majority": "what one gets who gives every question the most frequent label of train",
}
AS_WRITTEN = {  # in the place of that of `DEFINITIONS`, where a list does not normalise
    "form": (
        "answers count as those of the list only where they are written as it has them, as VLE "
        "does: an annotator's `two` is not the `2` of the list"
    )
}


def soft_scores(counts: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return the score of an answer by how many of ten annotators gave it: 0, .3, .6, .9, 1.

    The official accuracy is the mean over the ten sets of nine annotators of min(matches / 3, 1).
    Of one that gave it, nine sets have a match: 9 / 10 / 3. Of two, two sets have one and eight
    have both: (2 / 3 + 8 x 2 / 3) / 10. Of four, all sets have three.

    >>> soft_scores(np.arange(6)).tolist()
    [0.0, 0.3, 0.6, 0.9, 1.0, 1.0]

    Source: Antol et al., VQA: Visual Question Answering, ICCV 2015, section 3; GT-Vision-Lab/VQA at
    c4e6a0e, `PythonEvaluationTools/vqaEvaluation/vqaEval.py`. It looks at what is written where
    annotators differ, and leaves an answer as it is where all ten wrote the same; here both sides
    are always normalised, as otherwise `2` would be wrong where all ten wrote `two`.
    """
    scores: np.ndarray = _SOFT_SCORES[np.minimum(counts, len(_SOFT_SCORES) - 1)]
    return scores


@dataclass(frozen=True)
class AnswerTargets:
    """Score of each answer of the list to each question, as rows that hold what is not zero.

    Of VQAv2 a table of 658,000 questions and 3,129 answers would take 8 GB, its rows take
    less than 100 MB.

    Attributes:
        places: Answers that have a score, by their place in the list, question after question and
            ascending within each.
        scores: Their scores, in (0, 1].
        ends: Where each question's end.
        labels: Place of the one answer that is the label of each question, or -1.
        num_answers: Answers of the list.
    """

    places: Int64[np.ndarray, " listed"]
    scores: Float64[np.ndarray, " listed"]
    ends: Int64[np.ndarray, " questions"]
    labels: Int64[np.ndarray, " questions"]
    num_answers: int

    @classmethod
    def of(
        cls,
        vocabulary: AnswerVocabulary,
        annotated: Sequence[str],
        ends: Int64[np.ndarray, " questions"],
        chosen: Sequence[str],
    ) -> "AnswerTargets":
        """Return the targets of questions with their answers.

        A question with ten answers has a soft score for each that the list has; spellings of one
        answer count together where they are normalised. Any other number of them tells nothing of
        how many people would agree: its label has the score 1, as a class.

        Args:
            vocabulary: The list.
            annotated: All answers of all questions, one question after the other.
            ends: Where those of each question end.
            chosen: The one answer that is the label of each question.
        """
        num_questions, num_answers = len(ends), len(vocabulary)
        sizes = np.diff(ends, prepend=0)
        assert len(chosen) == num_questions
        assert int(sizes.sum()) == len(annotated)
        labels = vocabulary.places(chosen)
        places = vocabulary.places(annotated)
        question_of = np.repeat(np.arange(num_questions), sizes)
        is_soft = sizes == NUM_ANNOTATORS
        counted = (places != UNLISTED) & is_soft[question_of]
        soft_keys, counts = np.unique(
            question_of[counted] * num_answers + places[counted], return_counts=True
        )
        single = np.flatnonzero(~is_soft & (labels != UNLISTED))
        keys = np.concatenate([soft_keys, single * num_answers + labels[single]])
        scores = np.concatenate([soft_scores(counts), np.ones(len(single))])
        order = np.argsort(keys, kind="stable")
        question, place = np.divmod(keys[order], num_answers)
        listed = np.bincount(question, minlength=num_questions)
        return cls(place, scores[order], np.cumsum(listed), labels, num_answers)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def unlisted(self) -> Bool[np.ndarray, " questions"]:
        """Return whether the list has none of the answers of each question."""
        is_empty: np.ndarray = np.diff(self.ends, prepend=0) == 0
        return is_empty

    @property
    def chance(self) -> Float64[np.ndarray, " questions"]:
        """Return the mean score of all answers of the list to each question, in [0, 1]."""
        sums = np.bincount(self._question_of(), self.scores, minlength=len(self))
        chances: np.ndarray = sums / self.num_answers
        return chances

    def dense(self, questions: Int64[np.ndarray, " batch"]) -> Float32[np.ndarray, "batch answers"]:
        """Return the scores of all answers of the list to some questions, by their rows."""
        starts = np.concatenate([[0], self.ends])[questions]
        sizes = self.ends[questions] - starts
        rows = np.repeat(np.arange(len(questions)), sizes)
        # of each row's entries the first, and then how far along each is
        along = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        entries = np.repeat(starts, sizes) + along
        table = np.zeros((len(questions), self.num_answers), dtype=np.float32)
        table[rows, self.places[entries]] = self.scores[entries]
        return table

    def take(self, questions: Int64[np.ndarray, " batch"]) -> "AnswerTargets":
        """Return the targets of some questions alone, in this order."""
        starts = np.concatenate([[0], self.ends])[questions]
        sizes = self.ends[questions] - starts
        ends = np.cumsum(sizes)
        entries = np.repeat(starts - (ends - sizes), sizes) + np.arange(int(sizes.sum()))
        return AnswerTargets(
            self.places[entries],
            self.scores[entries],
            ends,
            self.labels[questions],
            self.num_answers,
        )

    def scores_of(
        self, answers: Int64[np.ndarray, " questions"]
    ) -> Float64[np.ndarray, " questions"]:
        """Return the score of one answer to each question, by its place in the list."""
        assert ((answers >= 0) & (answers < self.num_answers)).all(), "places are those of the list"
        if not len(self.places):
            return np.zeros(len(self))
        keys = self._question_of() * self.num_answers + self.places
        asked = np.arange(len(self)) * self.num_answers + answers
        nearest = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        scores: np.ndarray = np.where(keys[nearest] == asked, self.scores[nearest], 0.0)
        return scores

    def _question_of(self) -> Int64[np.ndarray, " listed"]:
        return np.repeat(np.arange(len(self)), np.diff(self.ends, prepend=0))


def majority_answer(labels: Int64[np.ndarray, " questions"]) -> int:
    """Return the most frequent label, of equally frequent ones the first of the list.

    >>> majority_answer(np.array([2, 1, -1, -1, 1, -1]))
    1

    Raises:
        DatasetFormatError: The list has the label of no question.
    """
    listed = labels[labels != UNLISTED]
    if not len(listed):
        raise DatasetFormatError(f"the list has the answer of none of {len(labels):,} questions")
    return int(np.bincount(listed).argmax())


def answer_numbers(
    scores: Float64[np.ndarray, " questions"],
    images: Int64[np.ndarray, " questions"],
    kinds: Mapping[str, Sequence[str]],
    chance: Float64[np.ndarray, " questions"] | None = None,
) -> dict[str, Any]:
    """Return the `accuracy` of all questions, and that of each kind of them by kind.

    Args:
        scores: As of `score_numbers_by_kind`.
        images: As of `score_numbers_by_kind`.
        kinds: Kind of each question, by the name of a table, such as `by_answer_type`.
        chance: As of `score_numbers_by_kind`.

    Raises:
        DatasetFormatError: There are too many kinds in one table.
    """
    numbers: dict[str, Any] = {"accuracy": score_number(scores, images, chance)}
    for name, of_question in kinds.items():
        by_kind = score_numbers_by_kind(scores, images, of_question, chance)
        numbers[name] = {kind: {"accuracy": number} for kind, number in by_kind.items()}
    return numbers


def score_number(
    scores: Float64[np.ndarray, " questions"],
    images: Int64[np.ndarray, " questions"],
    chance: Float64[np.ndarray, " questions"] | None = None,
) -> Number:
    """Return the mean score of questions, percent; arguments as of `score_numbers_by_kind`."""
    return score_numbers_by_kind(scores, images, [""] * len(scores), chance)[""]


def score_numbers_by_kind(
    scores: Float64[np.ndarray, " questions"],
    images: Int64[np.ndarray, " questions"],
    kinds: Sequence[str],
    chance: Float64[np.ndarray, " questions"] | None = None,
) -> dict[str, Number]:
    """Return the mean score of the questions of each kind, percent, in alphabetical order.

    Args:
        scores: Of each question, in [0, 1].
        images: Image of each, from 0 to one less than their number.
        kinds: Kind of each.
        chance: What a random answer to each scores; None where that means nothing.

    Raises:
        DatasetFormatError: There are more than 256 kinds.
    """
    names, kind_of = np.unique(np.array(kinds, dtype=object), return_inverse=True)
    num_images, num_kinds = int(images.max()) + 1, len(names)
    if num_kinds > MOST_KINDS:
        raise DatasetFormatError(
            f"{len(kinds):,} questions are of {num_kinds:,} kinds, such as {names[0][:60]!r} and "
            f"{names[1][:60]!r}; at most {MOST_KINDS} are told apart"
        )
    cells = images * num_kinds + kind_of
    sums, sizes = (
        np.bincount(cells, weights, minlength=num_images * num_kinds).reshape(num_images, num_kinds)
        for weights in (scores, None)
    )
    draws = BootstrapDraws(num_images)
    drawn = np.empty((draws.draws, num_kinds))
    for lines, counts in draws.counts(max(1, _BLOCK // num_images)):
        drawn_sizes = counts @ sizes.astype(float)
        # a draw may have no image with a question of this kind, of which nothing can be said
        drawn[lines] = np.where(drawn_sizes > 0, counts @ sums / np.maximum(drawn_sizes, 1), np.nan)
    numbers = {}
    for place, name in enumerate(names.tolist()):
        members = kind_of == place
        value = 100.0 * float(scores[members].mean())
        numbers[name] = Number(
            value=value,
            num=int(members.sum()),
            interval=drawn_share_interval(
                value,
                100.0 * drawn[:, place],
                groups=int((sizes[:, place] > 0).sum()),
                items=int(members.sum()),
            ),
            chance=None if chance is None else 100.0 * float(chance[members].mean()),
        )
    return numbers


def score_difference(
    scores: Float64[np.ndarray, " questions"],
    others: Float64[np.ndarray, " questions"],
    images: Int64[np.ndarray, " questions"],
) -> Number:
    """Return how much higher the mean of `scores` is than that of `others`, in points.

    Both are of the same questions, so that the interval, the percentiles of bootstrap draws of
    whole images, is narrower than those of either allow.

    >>> score_difference(np.array([1.0, 0.3]), np.array([0.3, 0.3]), np.array([0, 1])).value
    35.0
    """
    differences = scores - others
    draws = BootstrapDraws(int(images.max()) + 1)
    drawn = draws.means(100.0 * differences[:, None], images)[:, 0]
    return Number(
        value=100.0 * float(differences.mean()),
        num=len(differences),
        interval=interval_of(drawn),
        unit="points",
    )
