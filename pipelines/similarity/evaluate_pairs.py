"""Turn the cosines of graded pairs into numbers with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ...featcache.errors import LightalignError, SpecError, StoreCorruptError
from ..common.progress import SILENT, Progress
from ..metrics.bootstrap import Statistics, interval_of, weighted_draws
from ..metrics.graded_pairs import (
    ValueOrder,
    at_threshold,
    auroc,
    average_precision,
    fit_threshold,
    pearson,
    shares_within,
    spearman,
    tolerance_curve,
)
from ..metrics.intervals import drawn_share_interval
from ..metrics.number import Number
from ..runs.evaluation import Evaluation
from .graded_split import GradedSplit, Scorer
from .text_overlap import GradedTexts, find_shared_pairs, find_trained_texts, with_way_out

DEFINITIONS = {
    "cosine": (
        "of the vectors of both texts: `text`, `first_text` and `second_text` are one tower of the "
        "run for both texts, `across` the first side for the first text and the second side for "
        "the second; `raw ENCODER mean` is the mean over all tokens of the frozen encoder, special "
        "tokens included, `raw ENCODER cls` its first token, without an adapter or a pooler"
    ),
    "interval": (
        "95 % over pairs drawn again, with replacement; pairs that have a text in common, also "
        "through other pairs, are drawn together: the percentiles of the draws, but of accuracy, "
        "precision, recall and `within` the score interval (Wilson) of as many pairs as would vary "
        "as much; percentiles have no width where no draw differs"
    ),
    "chance": (
        "of an accuracy the share of the larger class, of a precision and of AP the share of the "
        "class, of AUROC 50, of a correlation 0"
    ),
    "auroc": "percent of (alike, not alike) pairs of pairs in the right order; a tie counts half",
    "ap": "average precision of finding what is alike, percent: the sum of precision times the "
    "recall that each threshold adds",
    "fixed": "a pair is called alike if its cosine is at least the threshold that was asked for",
    "fitted": "the same, at the threshold that is most accurate on the pairs of split `train`",
    "accuracy": "percent of pairs that are called rightly",
    "precision_0, recall_0, f1_0": "of pairs not alike, percent; 0 where none is called so",
    "precision_1, recall_1, f1_1": "the same of pairs that are alike",
    "spearman": "correlation of the ranks of cosines and grades, times 100; ties share their rank",
    "pearson": "linear correlation of cosines and grades, times 100",
    "within": (
        "percent of the pairs of one bin of grades, scaled to [0, 1], whose cosine is at most 0.2 "
        "from the grade; the curves have every tolerance from 0 to 1"
    ),
}
_HUNDRED_TIMES = ""  # correlations have no unit
_TOLERANCES = np.linspace(0, 1, 100)  # of the published curve
_SHOWN_TOLERANCE = 0.2  # one bin of five
_NUM_WORST = 20
_FEW_GROUPS = 20  # below, a bootstrap interval is too narrow to be believed


@dataclass(frozen=True)
class PairResult:
    """Measurements of one scorer on all pairs."""

    label: str
    cosines: Float64[np.ndarray, " n"]
    metrics: Mapping[str, Any]
    curves: Sequence[Mapping[str, Any]]


class PairEvaluator:
    """Measure how far the cosines of a scorer agree with the grades of a split.

    `train` are the pairs that a threshold is fitted on, or None; they may be those of `split`.
    `threshold` is the fixed one, a cosine.

    Attributes:
        num_groups: Groups of pairs that have no text in common.
        warnings: What was found that has no number.

    Raises:
        SpecError: The pairs are all of one grade.
    """

    def __init__(
        self,
        split: GradedSplit,
        train: GradedSplit | None,
        *,
        threshold: float,
        progress: Progress = SILENT,
    ) -> None:
        if len(np.unique(split.grades)) < 2:
            raise SpecError(
                f"all {len(split)} pairs of the split have the grade {split.grades[0]:g}: there is "
                "nothing to agree with"
            )
        self.split = split
        self.train = train
        self.threshold = threshold
        self.progress = progress
        self.warnings: list[str] = []
        self.num_groups = int(split.groups.max()) + 1
        if self.num_groups < _FEW_GROUPS:
            self.warnings.append(
                f"the intervals rest on {self.num_groups} groups of pairs that have no text in "
                "common: that is too few"
            )

    def __call__(self, scorer: Scorer) -> PairResult:
        """Return the numbers and curves of one scorer."""
        cosines = self.split.cosines(scorer, self.progress)
        if not self.split.scale.binary:
            metrics, curves = self._graded(scorer.label, cosines)
            return PairResult(scorer.label, cosines, metrics, curves)
        return PairResult(scorer.label, cosines, self._binary(scorer, cosines), ())

    def _graded(
        self, label: str, cosines: Float64[np.ndarray, " n"]
    ) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
        grades = self.split.unit_grades
        # sorted once: draws change how often a pair counts, never the order of the values
        rankings = ValueOrder(cosines), ValueOrder(grades)

        def statistics(
            weights: Int64[np.ndarray, "draws n"],
        ) -> dict[str, Float64[np.ndarray, " draws"]]:
            return {
                "spearman": spearman(*rankings, weights),
                "pearson": pearson(cosines, grades, weights),
            }

        chances = {"spearman": 0.0, "pearson": 0.0}
        metrics: dict[str, Any] = self._numbers(label, statistics, chances, unit=_HUNDRED_TIMES)
        bins = tolerance_curve(cosines, grades, _TOLERANCES)
        sizes = {name: num for name, (num, _) in bins.items()}
        within = partial(shares_within, cosines, grades, tolerance=_SHOWN_TOLERANCE)
        numbers = self._numbers(label, within, {}, shares=sizes)
        # a share of a bin rests on the pairs of that bin, not on all
        metrics["within"] = {
            name: replace(number, num=sizes[name]) for name, number in numbers.items()
        }
        lines = {
            f"grade {name} ({num})": {"x": _TOLERANCES.tolist(), "y": shares.tolist()}
            for name, (num, shares) in bins.items()
        }
        curve = {
            "title": f"{label}: cosines within a tolerance of the grade",
            "x_label": "tolerance",
            "y_label": "pairs (%)",
            "lines": lines,
        }
        return metrics, [curve]

    def _binary(self, scorer: Scorer, cosines: Float64[np.ndarray, " n"]) -> dict[str, Any]:
        labels = self.split.unit_grades > 0.5
        ranking = ValueOrder(cosines)
        positives = 100.0 * float(labels.mean())

        def statistics(
            weights: Int64[np.ndarray, "draws n"],
        ) -> dict[str, Float64[np.ndarray, " draws"]]:
            return {
                "auroc": auroc(ranking, labels, weights),
                "ap": average_precision(ranking, labels, weights),
            }

        metrics: dict[str, Any] = self._numbers(
            scorer.label, statistics, {"auroc": 50.0, "ap": positives}
        )
        chances = {
            "accuracy": max(positives, 100.0 - positives),
            "precision_0": 100.0 - positives,
            "precision_1": positives,
        }
        for name, threshold in self._thresholds(scorer, cosines, labels).items():
            called = cosines >= threshold
            shares = {"accuracy": len(labels)}
            for label, said, true in ((0, ~called, ~labels), (1, called, labels)):
                shares |= {
                    f"precision_{label}": int(said.sum()),
                    f"recall_{label}": int(true.sum()),
                }
            statistics = partial(at_threshold, called, labels)
            numbers = self._numbers(scorer.label, statistics, chances, shares=shares)
            metrics[name] = {"threshold": threshold, **numbers}
        return metrics

    def _thresholds(
        self,
        scorer: Scorer,
        cosines: Float64[np.ndarray, " n"],
        labels: Bool[np.ndarray, " n"],
    ) -> dict[str, float]:
        thresholds = {"fixed": self.threshold}
        if self.train is not None:
            thresholds["fitted"] = fit_threshold(
                self.train.cosines(scorer, self.progress), self.train.unit_grades > 0.5
            )
        return thresholds

    def _numbers(
        self,
        label: str,
        statistics: Statistics,
        chances: Mapping[str, float],
        *,
        shares: Mapping[str, int] | None = None,
        unit: str = "%",
    ) -> dict[str, Number]:
        """Return each statistic times 100, with its interval; `shares` says of how many pairs."""
        num = len(self.split)
        drawn = weighted_draws(statistics, self.split.groups)
        numbers = {}
        for name, (value,) in statistics(np.ones((1, num), dtype=np.int64)).items():
            # a correlation with a constant is no number: it is left out, and a warning says so
            if not np.isfinite(value):
                self.warnings.append(f"{label}: no {name}, for all cosines are the same")
                continue
            numbers[name] = Number(
                value=100.0 * float(value),
                num=num,
                interval=self._interval(value, drawn.get(name), (shares or {}).get(name)),
                chance=chances.get(name),
                unit=unit,
            )
        return numbers

    def _interval(
        self, value: float, drawn: Float64[np.ndarray, " draws"] | None, items: int | None
    ) -> tuple[float, float] | None:
        """Return the interval, times 100; None where nothing is known of other pairs."""
        if drawn is None or items == 0 or not np.isfinite(drawn).any():
            return None
        if items is None:
            return interval_of(100.0 * drawn)
        # the pairs of a bin are fewer than all, and so are the groups that they stand for
        groups = max(1, round(items * self.num_groups / len(self.split)))
        return drawn_share_interval(100.0 * float(value), 100.0 * drawn, groups=groups, items=items)


def evaluate_pairs(
    judge: PairEvaluator, scorers: Sequence[Scorer], texts: GradedTexts, evaluation: Evaluation
) -> None:
    """Measure by every scorer, and look for what was fitted or trained on before.

    The worst pairs are those of the first scorer.
    """
    judged = [judge(scorer) for scorer in scorers]
    pairs, train = judge.split, judge.train
    evaluation.metrics = {result.label: result.metrics for result in judged}
    evaluation.curves = [curve for result in judged for curve in result.curves]
    evaluation.failures, unread = worst_pairs(pairs, judged[0].cosines, texts)
    leakage: dict[str, Any] = {}
    shared: list[str] = []
    if train is not None and train.described.split != pairs.described.split:
        leakage, shared = find_shared_pairs(pairs, train, texts)
    trained: list[str] = []
    if evaluation.run is not None:
        count, trained = find_trained_texts(pairs, evaluation.run, judge.progress)
        leakage["num_pairs_with_trained_texts"] = count
    if leakage:
        evaluation.beside["leakage"] = leakage
    evaluation.warn(*pairs.warnings, *shared, *trained, *judge.warnings, *unread)


def worst_pairs(
    split: GradedSplit, cosines: Float64[np.ndarray, " n"], texts: GradedTexts
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the pairs whose cosine ranks farthest from their grade, and warnings.

    Where their texts are not found there are ids alone.
    """
    # by ranks, as cosines and grades have no unit in common
    ones = np.ones((1, len(split)), dtype=np.int64)
    ranks = [ValueOrder(values).ranks(ones)[0] for values in (cosines, split.grades)]
    worst = np.argsort(-np.abs(ranks[0] - ranks[1]), kind="stable")[:_NUM_WORST].tolist()
    warnings = []
    try:
        text_of = texts.of(split, (name for row in worst for name in split.ids[row]))
    except StoreCorruptError:
        # what the home remembers is damaged, and the error says what to do
        raise
    except LightalignError as error:
        text_of = {}
        warnings = [f"worst pairs without their texts: {with_way_out(error, texts.data)}"]
    failures = [
        {
            "query": list(split.ids[row]),
            **({"texts": [text_of[name] for name in split.ids[row]]} if text_of else {}),
            "facts": {"grade": float(split.grades[row]), "cosine": float(cosines[row])},
        }
        for row in worst
    ]
    return failures, warnings
