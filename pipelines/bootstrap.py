"""Intervals of measured numbers by drawing the measured items again; arrays in, numbers out."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int64, Shaped

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
    rows_at_once = max(1, _BLOCK // len(values))
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, rows_at_once):
        count = min(rows_at_once, draws - start)
        rows = random.integers(len(values), size=(count, len(values)))
        means[start : start + count] = values[rows].mean(axis=1)
    low, high = np.percentile(means, _OUTSIDE)
    return float(low), float(high)


def statistic_interval(
    statistic: Callable[[Int64[np.ndarray, " n"]], float],
    num_items: int,
    *,
    groups: Shaped[np.ndarray, " n"] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of any statistic over items drawn again.

    Args:
        statistic: Number of some of the items, by their rows; rows may come more than once. Draws
            for which it is not a number, as an AUROC of one class, are left out.
        num_items: Number n of items.
        groups: Group of each item; whole groups are drawn, as items of one depend on one another.
            None draws single items.
        draws: How often items are drawn, with replacement.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)
    members = None
    if groups is not None:
        _, group_of = np.unique(groups, return_inverse=True)
        order = np.argsort(group_of, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(group_of))[:-1])
    found = []
    for _ in range(draws):
        if members is None:
            rows = random.integers(num_items, size=num_items)
        else:
            drawn = random.integers(len(members), size=len(members))
            rows = np.concatenate([members[group] for group in drawn])
        found.append(statistic(rows))
    kept = np.array(found)[np.isfinite(found)]
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.percentile(kept, _OUTSIDE)
    return float(low), float(high)


def weighted_intervals(
    statistics: Statistics,
    num_items: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile interval of several statistics over the same items drawn again.

    The draws are those of `mean_interval`. What is not a number in every draw has no interval.

    Args:
        statistics: Numbers of many draws at once, each by its name; a draw says how often it holds
            each item. Draws for which one is not a number are left out.
        num_items: Number n of items; at least one.
        draws: How often n items are drawn, with replacement.
        seed: Seed of the draws.
    """
    draws_at_once = max(1, _BLOCK // num_items)
    random = np.random.default_rng(seed)
    found: dict[str, list[Float[np.ndarray, " some"]]] = {}
    for start in range(0, draws, draws_at_once):
        count = min(draws_at_once, draws - start)
        rows = random.integers(num_items, size=(count, num_items))
        flat = (rows + num_items * np.arange(count)[:, None]).ravel()
        weights = np.bincount(flat, minlength=count * num_items).reshape(count, num_items)
        for name, values in statistics(weights).items():
            found.setdefault(name, []).append(values)
    intervals = {}
    for name, parts in found.items():
        values = np.concatenate(parts)
        kept = values[np.isfinite(values)]
        if len(kept):
            low, high = np.percentile(kept, _OUTSIDE)
            intervals[name] = (float(low), float(high))
    return intervals
