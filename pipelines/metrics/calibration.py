"""How far probabilities of answers are to be believed; logits and what was right in, numbers out.

Axis names: `n` questions, `answers` answers of the list, `bins` bins of confidence.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy import optimize, special

from ...featcache.errors import DatasetFormatError
from .answer_scores import AnswerTargets
from .answer_vocabulary import UNLISTED
from .number import Number

NUM_BINS = 15  # of confidence, as in the paper
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100.0
_BLOCK = 2**22  # logits read at once: 32 MiB of float64

DEFINITIONS = {
    "calibration_error": (
        "expected calibration error, percent: over 15 bins of equal width of the confidence, that "
        "is the probability of the answer given, the mean of how far the mean confidence of a bin "
        "is from its mean score, weighted by its questions; 0 is perfect. It has no interval, as "
        "that of questions drawn again is larger than that of the questions themselves"
    ),
    "temperature": (
        "what logits are divided by before they become probabilities, from 0.01 to 100; the one "
        "whose loss on the validation questions is lowest. It changes no answer"
    ),
}


def sigmoid_temperature(logits: Float[np.ndarray, "n answers"], targets: AnswerTargets) -> float:
    """Return the temperature of probabilities that are told of each answer alone.

    It minimises `sigmoid_loss`, which is convex in 1 / temperature: where its slope, the sum over
    answers of z (sigmoid(z / T) - y), is zero, or else at the nearest bound.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2, with the
    loss of soft targets.

    Args:
        logits: Of every answer of the list, for each question; finite.
        targets: Of the same questions, at least one.
    """
    wanted = _target_logits(logits, targets)

    def slope(inverse: float) -> float:
        sums = (float((block * special.expit(inverse * block)).sum()) for block in _blocks(logits))
        return math.fsum(sums) - wanted

    return _temperature(slope)


def softmax_temperature(
    logits: Float[np.ndarray, "n answers"], labels: Int64[np.ndarray, " n"]
) -> float:
    """Return the temperature of probabilities that are told of one answer among all.

    It minimises `softmax_loss`, which is convex in 1 / temperature: where its slope, the sum over
    questions of the mean logit under the probabilities minus that of the label, is zero, or else
    at the nearest bound.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.

    Args:
        logits: Of every answer of the list, for each question; finite.
        labels: Place of the right answer to each, or -1 for one that the list lacks: of such
            questions no probability is right, and they are left out.

    Raises:
        DatasetFormatError: The list has the answer to no question.
    """
    listed = _listed(logits, labels)
    # below the largest logit of each question, so that those that are all alike have no slope
    wanted = float((_label_logits(logits, labels) - logits.max(axis=1)[listed]).sum())

    def slope(inverse: float) -> float:
        below = (block - block.max(axis=1, keepdims=True) for block in _blocks(logits, listed))
        sums = (float((block * special.softmax(inverse * block, axis=1)).sum()) for block in below)
        return math.fsum(sums) - wanted

    return _temperature(slope)


def sigmoid_loss(
    logits: Float[np.ndarray, "n answers"], targets: AnswerTargets, temperature: float = 1.0
) -> float:
    """Return the binary cross entropy, summed over answers, mean over questions, in nats.

    sum log(1 + exp(z / T)) - y z / T. Of logit 0 and target 0.3 it is log 2.
    """
    softplus = (float(np.logaddexp(0, block / temperature).sum()) for block in _blocks(logits))
    return (math.fsum(softplus) - _target_logits(logits, targets) / temperature) / len(logits)


def softmax_loss(
    logits: Float[np.ndarray, "n answers"],
    labels: Int64[np.ndarray, " n"],
    temperature: float = 1.0,
) -> float:
    """Return the cross entropy of the labels, mean over the questions that have one, in nats.

    >>> round(softmax_loss(np.array([[0.0, 0.0, 0.0, 0.0]]), np.array([2])) / math.log(2), 9)
    2.0

    Raises:
        DatasetFormatError: The list has the answer to no question.
    """
    listed = _listed(logits, labels)
    totals = (
        float(special.logsumexp(block / temperature, axis=1).sum())
        for block in _blocks(logits, listed)
    )
    wanted = float(_label_logits(logits, labels).sum()) / temperature
    return (math.fsum(totals) - wanted) / len(listed)


@dataclass(frozen=True)
class Reliability:
    """Questions by the confidence of their answers; bins without a question are left out.

    Attributes:
        confidence: Mean confidence of each bin, in [0, 1].
        score: Mean score, in [0, 1].
        count: Number of questions.
    """

    confidence: Float64[np.ndarray, " bins"]
    score: Float64[np.ndarray, " bins"]
    count: Int64[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """Return the expected calibration error, in [0, 1]: sum n_b / n |s_b - c_b|."""
        return float(np.average(np.abs(self.score - self.confidence), weights=self.count))


def reliability(
    confidences: Float[np.ndarray, " n"], scores: Float64[np.ndarray, " n"]
) -> Reliability:
    """Return questions in 15 bins of equal width, each with its upper end.

    Two right answers of confidence .9 and .92, and one of .3 that is wrong: the first two share a
    bin that is .09 too low, the last is .3 too high: 2 / 3 x .09 + 1 / 3 x .3.

    >>> bins = reliability(np.array([0.9, 0.92, 0.3]), np.array([1.0, 1.0, 0.0]))
    >>> bins.count.tolist(), round(bins.error, 9)
    ([1, 2], 0.16)

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2, with the
    score of an answer in the place of right or wrong.

    Args:
        confidences: Probability of the answer to each question, in [0, 1].
        scores: Score of that answer, in [0, 1].
    """
    assert ((confidences >= 0) & (confidences <= 1)).all(), "a confidence is a probability"
    ends = np.arange(1, NUM_BINS + 1) / NUM_BINS
    bin_of = np.searchsorted(ends, confidences.astype(float))
    count = np.bincount(bin_of, minlength=NUM_BINS)
    filled = count > 0
    means = [
        np.bincount(bin_of, values, minlength=NUM_BINS)[filled] / count[filled]
        for values in (confidences, scores)
    ]
    return Reliability(means[0], means[1], count[filled])


def calibration_number(
    confidences: Float[np.ndarray, " n"], scores: Float64[np.ndarray, " n"]
) -> Number:
    """Return the expected calibration error, percent; arguments as of `reliability`."""
    return Number(value=100.0 * reliability(confidences, scores).error, num=len(scores))


def _temperature(slope: Callable[[float], float]) -> float:
    """Return the temperature at which the slope of a convex loss of 1 / T changes its sign."""
    least, most = math.log(1 / MOST_TEMPERATURE), math.log(1 / LEAST_TEMPERATURE)
    slopes = slope(math.exp(least)), slope(math.exp(most))
    if slopes == (0.0, 0.0):
        return 1.0  # all logits are alike, and the loss with any temperature
    if slopes[0] >= 0:
        return MOST_TEMPERATURE
    if slopes[1] <= 0:
        return LEAST_TEMPERATURE
    root: float = optimize.brentq(lambda place: slope(math.exp(place)), least, most, xtol=1e-10)
    return math.exp(-root)


def _blocks(
    logits: Float[np.ndarray, "n answers"], rows: Int64[np.ndarray, " rows"] | None = None
) -> Iterator[Float64[np.ndarray, "_ answers"]]:
    """Yield some rows of logits in double precision, a bounded number at once."""
    at_once = max(1, _BLOCK // logits.shape[1])
    num_rows = len(logits) if rows is None else len(rows)
    for start in range(0, num_rows, at_once):
        part = slice(start, start + at_once)
        yield (logits[part] if rows is None else logits[rows[part]]).astype(np.float64)


def _target_logits(logits: Float[np.ndarray, "n answers"], targets: AnswerTargets) -> float:
    """Return the sum of all logits, each times its target."""
    assert len(logits) == len(targets) > 0
    assert logits.shape[1] == targets.num_answers
    questions = np.repeat(np.arange(len(targets)), np.diff(targets.ends, prepend=0))
    return float((logits[questions, targets.places].astype(np.float64) * targets.scores).sum())


def _label_logits(
    logits: Float[np.ndarray, "n answers"], labels: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " listed"]:
    listed = np.flatnonzero(labels != UNLISTED)
    of_labels: np.ndarray = logits[listed, labels[listed]].astype(np.float64)
    return of_labels


def _listed(
    logits: Float[np.ndarray, "n answers"], labels: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " listed"]:
    assert len(logits) == len(labels)
    listed = np.flatnonzero(labels != UNLISTED)
    if not len(listed):
        raise DatasetFormatError(f"the list has the answer to none of {len(labels):,} questions")
    return listed
