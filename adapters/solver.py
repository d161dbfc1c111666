"""The contracts of training-free methods: pairs in, the content of each tower's slot out.

A linear method needs sums over all pairs and gives one linear map a side; a method of anchors
needs some pairs themselves.

Axis names: `n` pairs, `first` and `second` features of the two sides, `out` of an embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64

from ..featcache.registry import Registry
from .options import build_part


class Moments:
    """Sums over pairs of vectors that a linear method needs, in float64.

    Args:
        first: Features of the first vector of a pair.
        second: Features of the second.

    Attributes:
        count: Pairs so far.
    """

    def __init__(self, first: int, second: int) -> None:
        self.count = 0
        self._first = first
        self._sum = np.zeros(first + second)
        self._products = np.zeros((first + second, first + second))

    def add(
        self,
        first: Float[np.ndarray, "n first"],
        second: Float[np.ndarray, "m second"],
        together: Bool[np.ndarray, "n m"],
    ) -> None:
        """Add the pairs that `together` marks; each vector may be in several."""
        ours, theirs = first.astype(np.float64), second.astype(np.float64)
        # pairs as a matrix of ones: no vector is copied for each of its pairs
        pairs = together.astype(np.float64)
        by_first, by_second = pairs.sum(axis=1), pairs.sum(axis=0)
        cut = self._first
        self.count += int(together.sum())
        self._sum[:cut] += by_first @ ours
        self._sum[cut:] += by_second @ theirs
        across = ours.T @ (pairs @ theirs)
        self._products[:cut, :cut] += ours.T @ (by_first[:, None] * ours)
        self._products[:cut, cut:] += across
        self._products[cut:, :cut] += across.T
        self._products[cut:, cut:] += theirs.T @ (by_second[:, None] * theirs)

    def mapped(
        self, first: Float64[np.ndarray, "a first"], second: Float64[np.ndarray, "b second"]
    ) -> "Moments":
        """Return the moments of `first` x and `second` y of the same pairs."""
        cut, moments = self._first, Moments(len(first), len(second))
        moments.count = self.count
        moments._sum = np.concatenate([first @ self._sum[:cut], second @ self._sum[cut:]])
        halves = np.concatenate([first @ self._products[:cut], second @ self._products[cut:]])
        moments._products = np.concatenate(
            [halves[:, :cut] @ first.T, halves[:, cut:] @ second.T], axis=1
        )
        return moments

    @property
    def means(self) -> tuple[Float64[np.ndarray, " first"], Float64[np.ndarray, " second"]]:
        """Return the mean of the first vectors and that of the second."""
        mean = self._sum / self.count
        return mean[: self._first], mean[self._first :]

    @property
    def scatters(
        self,
    ) -> tuple[
        Float64[np.ndarray, "first first"],
        Float64[np.ndarray, "first second"],
        Float64[np.ndarray, "second second"],
    ]:
        """Return sums of products of centred vectors: first-first, first-second, second-second."""
        mean = self._sum / self.count
        centred = self._products - self.count * np.outer(mean, mean)
        cut = self._first
        return centred[:cut, :cut], centred[:cut, cut:], centred[cut:, cut:]


@dataclass(frozen=True)
class LinearMap:
    """Affine map y = weight x + bias.

    Attributes:
        weight: Matrix.
        bias: What is added.
        weights: Of the features of y's direction, in [0, 1], or None where there are none.
    """

    weight: Float64[np.ndarray, "out features"]
    bias: Float64[np.ndarray, " out"]
    weights: Float64[np.ndarray, " out"] | None = None

    @classmethod
    def centred(
        cls, weight: Float64[np.ndarray, "out features"], mean: Float64[np.ndarray, " features"]
    ) -> "LinearMap":
        """Return weight (x - mean)."""
        return cls(weight, -weight @ mean)


class Solver:
    """Training-free method, of one of the two kinds below.

    A subclass takes its options keyword-only, with types and defaults in the signature: a preset's
    `[fit]` table names `part` and any of them.
    """


class LinearSolver(Solver, ABC):
    """Find the two maps from the moments of all training pairs; images are the first side.

    Attributes:
        weighs: Whether the maps come with weights, for which the slot must be a `weighted-unit`.
        by_kernel: Whether the vectors are kernel values, for which the slot must be a `kernel-map`.
        averages: Whether an image makes one pair, with the mean of the vectors of its texts.
    """

    weighs: ClassVar[bool] = False
    by_kernel: ClassVar[bool] = False
    averages: bool = False

    @abstractmethod
    def solve(self, moments: Moments, out: int) -> tuple[LinearMap, LinearMap]:
        """Return the map of the first side and that of the second, to `out` features each.

        Raises:
            SpecError: `out` is none that the method can give.
        """


class AnchorSolver(Solver, ABC):
    """Make the anchors of both towers from some training pairs, images first."""

    @abstractmethod
    def anchors(
        self, first: Float[np.ndarray, "n first"], second: Float[np.ndarray, "n second"]
    ) -> tuple[Float64[np.ndarray, "n first"], Float64[np.ndarray, "n second"]]:
        """Return an anchor of each tower for each of the `n` pairs."""


SOLVERS = Registry("solver", f"{__package__}.solvers", Path(__file__).parent / "solvers", Solver)


def build_solver(table: Mapping[str, Any], *, where: str = "[fit]") -> Solver:
    """Build the solver that a preset's table names, by its `part` and options of that part.

    Raises:
        SpecError: The table names no part, or an option is unknown, missing or wrong.
        UnknownNameError: No solver has this name.
    """
    return build_part(SOLVERS, table, where=where, example="cca")
