"""Intervals of measured numbers by drawing the measured items again; arrays in, numbers out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int64

DRAWS = 1000
_BLOCK = 2**22  # drawn rows held at once: 32 MiB
Statistics: TypeAlias = Callable[
    [Int64[np.ndarray, "draws n"]], Mapping[str, Float[np.ndarray, " draws"]]
]
_OUTSIDE = (2.5, 97.5)  # percentiles of a 95 % interval


def mean_interval(
    values: Float[np.ndarray, " n"], *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of `values` over items drawn again.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Args:
        values: One number an item, such as 100 for a hit and 0 for a miss; at least one.
        draws: How often n items are drawn, with replacement.
        seed: Seed of the draws.
    """
    # as many draws at once as fit, whose seed gives the same rows however they are cut
    rows_at_once = max(1, _BLOCK // len(values))
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, rows_at_once):
        count = min(rows_at_once, draws - start)
        rows = random.integers(len(values), size=(count, len(values)))
        means[start : start + count] = values[rows].mean(axis=1)
    low, high = np.percentile(means, _OUTSIDE)
    return float(low), float(high)


@dataclass(frozen=True)
class BootstrapDraws:
    """Draw whole groups of items again, always the same ones: 95 % percentile intervals.

    Several numbers of the same groups can so be added up draw by draw, as a sum of recalls is.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3; groups are
    the clusters of Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.

    Attributes:
        num_groups: Number of groups that are drawn from, with replacement, as many as there are.
        draws: How often that is done.
        seed: Seed of the draws.
    """

    num_groups: int
    draws: int = DRAWS
    seed: int = 0

    def counts(self, size: int) -> Iterator[tuple[slice, Float[np.ndarray, "drawn groups"]]]:
        """Yield which draws, and how often each group is in them; at most `size` at a time."""
        random = np.random.default_rng(self.seed)
        for start in range(0, self.draws, size):
            count = min(size, self.draws - start)
            # one count over all draws at once: each draw has numbers of groups of its own
            chosen = random.integers(self.num_groups, size=(count, self.num_groups))
            chosen += self.num_groups * np.arange(count)[:, None]
            counts = np.bincount(chosen.ravel(), minlength=chosen.size).astype(float)
            yield slice(start, start + count), counts.reshape(chosen.shape)

    def means(
        self, values: Float[np.ndarray, "n s"], groups: Int64[np.ndarray, " n"]
    ) -> Float[np.ndarray, "draws s"]:
        """Return the means of each column of `values` over the items of each draw.

        A draw without any item has no mean: its line is not a number.
        """
        # a draw is then a product with the sums of its groups, and no item is copied
        sums = np.stack(
            [np.bincount(groups, column, minlength=self.num_groups) for column in values.T], axis=1
        )
        sizes = np.bincount(groups, minlength=self.num_groups).astype(float)
        drawn_means = np.empty((self.draws, values.shape[1]))
        for lines, counts in self.counts(max(1, _BLOCK // self.num_groups)):
            items = (counts @ sizes)[:, None]
            drawn_means[lines] = np.where(items > 0, counts @ sums / np.maximum(items, 1), np.nan)
        return drawn_means

    def medians(
        self, values: Int64[np.ndarray, " n"], groups: Int64[np.ndarray, " n"]
    ) -> Float[np.ndarray, " draws"]:
        """Return the median of `values` over the items of each draw; NaN where there is none."""
        order = np.argsort(values, kind="stable")
        ascending, owner = values[order], groups[order]
        drawn_medians = np.empty(self.draws)
        for lines, counts in self.counts(max(1, _BLOCK // max(self.num_groups, len(values)))):
            reached = np.cumsum(counts[:, owner], axis=1)
            total = reached[:, -1]
            # both middle items, which are one where the total is odd
            middle = [
                ascending[np.minimum((reached <= place[:, None]).sum(axis=1), len(values) - 1)]
                for place in ((total - 1) // 2, total // 2)
            ]
            drawn_medians[lines] = np.where(total > 0, (middle[0] + middle[1]) / 2, np.nan)
        return drawn_medians


def interval_of(drawn: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a number from its draws; NaN are left out."""
    # a draw may hold no item of one class, of which nothing can be said
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, _OUTSIDE)
    return float(low), float(high)


def weighted_draws(
    statistics: Statistics,
    groups: Int64[np.ndarray, " n"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " draws"]]:
    """Return several statistics of the same items in each draw.

    The draws of single items are those of `mean_interval`. There are none where all items are of
    one group, which says nothing of others.

    Args:
        statistics: Numbers of many draws at once, each by its name; a draw says how often it holds
            each item.
        groups: Group of each of the n items, from 0 to one less than their number. Whole groups are
            drawn, as many as there are: items of one depend on one another.
        draws: How often that is done, with replacement.
        seed: Seed of the draws.
    """
    num_groups = int(groups.max()) + 1
    if num_groups == 1:
        return {}
    drawn: dict[str, list[Float[np.ndarray, " some"]]] = {}
    for _, counts in BootstrapDraws(num_groups, draws, seed).counts(max(1, _BLOCK // len(groups))):
        for name, values in statistics(counts.astype(np.int64)[:, groups]).items():
            drawn.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in drawn.items()}
