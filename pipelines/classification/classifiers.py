"""Classifiers on frozen features: arrays in, scores of classes out.

Axis names: `n` rows to train on, `m` rows to score, `width` features, `classes` classes.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int64
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from ...featcache.errors import SpecError
from ..inputs.labelled_images import hold_out
from ..metrics.ranks import label_ranks
from ..metrics.vectors import unit

_BLOCK_COSINES = 2**25  # held at once: 128 MiB
_MOST_LETTERS = 120  # of a solver's message: what is wrong comes first, then advice


@dataclass(frozen=True)
class Examples:
    """Features of images with their classes.

    Attributes:
        labels: Class of each row, in [0, `num_classes`).
        num_classes: Classes of the dataset, whether or not a row is of each.
    """

    features: Float32[np.ndarray, "n width"]
    labels: Int64[np.ndarray, " n"]
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int64[np.ndarray, " some"]) -> "Examples":
        """Return some of the rows."""
        return Examples(self.features[rows], self.labels[rows], self.num_classes)


def scaling(
    features: Float32[np.ndarray, "n width"],
) -> tuple[Float32[np.ndarray, " width"], float]:
    """Return the mean row, and one number that makes the mean variance of a feature 1 behind it.

    Shift and scale change nothing that a linear classifier can say, only the unit of its penalty
    and of its steps, which so is the same for features of any length.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    # float64: the sums of a million rows lose digits in float32
    variance = features.var(axis=0, dtype=np.float64).mean()
    return mean.astype(np.float32), float(1.0 / np.sqrt(variance)) if variance > 0 else 1.0


class Classifier(ABC):
    """Learn from examples and score others, by one option that is chosen.

    Attributes:
        candidates: Its values, in the order in which they are tried.
        default: Its value where nothing can be held out to choose by.
        notes: Values of the option at which something went not quite well, by what it was.
    """

    option: ClassVar[str]

    def __init__(self, candidates: Sequence[float], *, default: float) -> None:
        self.candidates = tuple(candidates)
        self.default = default
        self.notes: dict[str, list[float]] = {}

    @abstractmethod
    def scores(
        self, train: Examples, features: Float32[np.ndarray, "m width"], value: float
    ) -> Float32[np.ndarray, "m classes"]:
        """Return the scores of each class, minus infinity where a class is out of question."""

    def fits(self, value: float, num_rows: int) -> bool:
        """Return whether the option can have this value with so many rows."""
        del value, num_rows
        return True

    def loss(
        self, scores: Float32[np.ndarray, "m classes"], labels: Int64[np.ndarray, " m"]
    ) -> float:
        """Return what is lower the better the scores are, among values as often right."""
        del scores, labels
        return 0.0


class LogisticClassifier(Classifier):
    """Logistic regression on scaled features, solved by L-BFGS.

    min_W,b |W|^2 / 2 + C sum_i CE(W s (x_i - m) + b, y_i), m and s by `scaling` of the rows that
    are trained on.

    Source: scikit-learn's LogisticRegression; the probe of Radford et al. 2021, arXiv 2103.00020,
    appendix A.3, which neither shifts nor scales, and tries more values.
    `candidates` are values of C, from strong to weak regularisation.
    """

    option = "C"

    def __init__(self, candidates: Sequence[float], *, most_steps: int = 1000) -> None:
        super().__init__(candidates, default=candidates[len(candidates) // 2])
        self.most_steps = most_steps

    def scores(
        self, train: Examples, features: Float32[np.ndarray, "m width"], value: float
    ) -> Float32[np.ndarray, "m classes"]:
        """Return the logits, those of two classes half a difference on either side of zero."""
        mean, scale = scaling(train.features)
        model = LogisticRegression(C=value, max_iter=self.most_steps)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit((train.features - mean) * scale, train.labels)
        for warning in caught:
            self._note(str(warning.message), value, num_steps=int(np.max(model.n_iter_)))
        logits = model.decision_function((features - mean) * scale)
        # scikit-learn gives two classes one column, that of the second against the first
        if logits.ndim == 1:
            logits = np.stack([-logits, logits], axis=1) / 2
        scores = np.full((len(features), train.num_classes), -np.inf, dtype=np.float32)
        scores[:, model.classes_] = logits
        return scores

    def loss(
        self, scores: Float32[np.ndarray, "m classes"], labels: Int64[np.ndarray, " m"]
    ) -> float:
        """Return the mean cross-entropy, nats."""
        logits = scores.astype(np.float64)
        right = logits[np.arange(len(labels)), labels]
        return float((logsumexp(logits, axis=1) - right).mean())

    def _note(self, message: str, value: float, *, num_steps: int) -> None:
        if num_steps >= self.most_steps:
            reason = f"the solver stopped after {self.most_steps} steps, short of its tolerance"
        else:
            reason = f"the solver says {' '.join(message.split())[:_MOST_LETTERS]!r}"
        self.notes.setdefault(reason, []).append(value)


class NeighbourClassifier(Classifier):
    """Let the k nearest training images vote, by cosine.

    Among classes of as many votes the first wins, as in scikit-learn. Those without a vote follow
    in the order of their nearest image, so that the second answer of one neighbour is no guess; a
    class without a training image is out of question.
    `candidates` are values of k, in rising order.
    """

    option = "neighbours"

    def __init__(self, candidates: Sequence[int]) -> None:
        super().__init__([float(count) for count in candidates], default=1.0)

    def fits(self, value: float, num_rows: int) -> bool:
        """Return whether there are at least `value` rows to be neighbours."""
        return value <= num_rows

    def scores(
        self, train: Examples, features: Float32[np.ndarray, "m width"], value: float
    ) -> Float32[np.ndarray, "m classes"]:
        """Return the votes, less up to half a one to keep an order; without any a cosine - 2."""
        # on rows of one length the order by distance is the order by cosine
        index = NearestNeighbors(n_neighbors=int(value), algorithm="brute", metric="euclidean")
        trained, asked = unit(train.features), unit(features)
        index.fit(trained)
        nearest = index.kneighbors(asked, return_distance=False)
        votes = np.zeros((len(features), train.num_classes), dtype=np.float32)
        rows = np.repeat(np.arange(len(features)), nearest.shape[1])
        np.add.at(votes, (rows, train.labels[nearest].ravel()), 1.0)
        order = np.arange(train.num_classes, dtype=np.float32) / (2 * train.num_classes)
        return np.where(votes > 0, votes - order, _nearest_of_class(train, trained, asked) - 2)


def _nearest_of_class(
    train: Examples, trained: Float32[np.ndarray, "n width"], asked: Float32[np.ndarray, "m width"]
) -> Float32[np.ndarray, "m classes"]:
    """Return the largest cosine to an image of each class, minus infinity where there is none."""
    by_class = np.argsort(train.labels, kind="stable")
    classes, starts = np.unique(train.labels[by_class], return_index=True)
    nearest = np.full((len(asked), train.num_classes), -np.inf, dtype=np.float32)
    size = max(1, _BLOCK_COSINES // len(trained))
    ordered = trained[by_class].T
    for start in range(0, len(asked), size):
        cosines = asked[start : start + size] @ ordered
        nearest[start : start + size, classes] = np.maximum.reduceat(cosines, starts, axis=1)
    return nearest


@dataclass(frozen=True)
class Choice:
    """Value of a classifier's option, chosen by accuracy on a held-out part.

    Attributes:
        tried: Top-1 accuracy of each tried value on the held-out part, percent.
        num_held: Images of that part.
    """

    value: float
    tried: dict[float, float]
    num_held: int


def choose(classifier: Classifier, train: Examples, *, share: float, seed: int) -> Choice:
    """Choose the option of a classifier by a held-out part of the training images.

    All are tried: the strongest penalties answer with the largest class, and so are equally often
    right. Of the best by top-1 that of the lowest `loss` wins, then the first. Where no class has
    two images nothing can be held out: the default is taken.
    No other images are looked at; `share` and `seed` are those of `hold_out`.

    Raises:
        SpecError: No value fits so few images.
    """
    remaining, held = hold_out(train.labels, share=share, seed=seed)
    if not len(held):
        return Choice(classifier.default, {}, 0)
    rest, part = train.take(remaining), train.take(held)
    values = [value for value in classifier.candidates if classifier.fits(value, len(rest))]
    if not values:
        raise SpecError(
            f"{len(rest)} training images are too few for {classifier.option} of "
            f"{list(classifier.candidates)}"
        )
    tried: dict[float, float] = {}
    losses: dict[float, float] = {}
    for value in values:
        scores = classifier.scores(rest, part.features, value)
        hits = label_ranks(scores, part.labels) == 1
        tried[value] = float(100.0 * hits.mean())
        losses[value] = classifier.loss(scores, part.labels)
    # accuracies on few held-out images are often equal: then the lower loss decides
    best = max(values, key=lambda value: (tried[value], -losses[value]))
    return Choice(best, tried, len(held))


def draw_shots(
    labels: Int64[np.ndarray, " n"], names: Sequence[str], *, shots: int, seed: int
) -> Int64[np.ndarray, " drawn"]:
    """Return the places of so many images of each class, drawn at random.

    With one seed, fewer shots are among more.
    A class without any image is left out.

    Raises:
        SpecError: A class has fewer images.
    """
    random = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(labels).tolist():
        places = random.permutation(np.flatnonzero(labels == label))
        if len(places) < shots:
            raise SpecError(
                f"class {names[label]!r} has {len(places)} training images, {shots} shots are "
                "asked for: name fewer by --shots"
            )
        drawn.append(places[:shots])
    return np.concatenate(drawn)
