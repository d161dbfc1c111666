"""Intervals of shares in closed form; hits and misses in, percent out.

Drawing items again claims no width where all of them, or none, are hits: these never do.

Axis names: `n` items, `seeds` repetitions.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Shaped
from scipy import stats

_NORMAL = 1.959963984540054  # 97.5 % quantile of the normal distribution


def share_interval(hits: Shaped[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the 95 % score interval, percent, of the share of hits among n single items.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z the 97.5 % quantile of
    the normal distribution.

    >>> np.round(share_interval(np.array([1, 0, 0])), 1).tolist()
    [6.1, 79.2]

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, Journal
    of the American Statistical Association 22, 1927, 209-212.

    Args:
        hits: Zero or false for a miss, else a hit, of items that do not depend on one another; at
            least one.
    """
    low, high = _score_interval(np.count_nonzero(hits) / len(hits), float(len(hits)))
    return 100.0 * low, 100.0 * high


def drawn_share_interval(
    share: float, drawn: Float64[np.ndarray, " draws"], *, groups: int, items: int
) -> tuple[float, float]:
    """Return the 95 % interval, percent, of a share of items that depend on one another in groups.

    The score interval of p (1 - p) / v items, v the variance of the share over bootstrap draws of
    whole groups: so many single items would vary as much. The draws' own percentiles are too narrow
    where hits, or misses, are few: of 100 items with a true share of 1 % they cover it in 63 % of
    cases, this in 93 %.

    Source: Kish, Survey Sampling, 1965, section 8.2, for the number of items that counts.

    Args:
        share: The share, percent.
        drawn: The share in each draw, percent; draws that are not a number are left out.
        groups: Number of groups, which counts where no draw differs.
        items: Number of items, the most that counts.
    """
    part = share / 100
    # variance of one item that is hit or not; over that of the mean it is the items that count
    single = part * (1 - part)
    variance = float(np.nanvar(drawn)) / 1e4
    counted = single / variance if single > 0 and variance > 0 else float(groups)
    low, high = _score_interval(part, min(float(items), counted))
    return 100.0 * low, 100.0 * high


def class_mean_interval(hits: Sequence[Shaped[np.ndarray, " _"]]) -> tuple[float, float]:
    """Return the 95 % interval, percent, of the mean over classes of their shares of hits.

    m - sqrt(sum (p_c - l_c)^2) / C to m + sqrt(sum (u_c - p_c)^2) / C, p_c the share of class c,
    l_c and u_c the ends of its score interval, m the mean of the C shares. How many items a class
    has is taken as given.

    Source: Zou and Donner, Construction of confidence limits about effect measures: a general
    approach, Statistics in Medicine 27, 2008, 1693-1702, for a sum of independent shares.

    Args:
        hits: Of each class, as of `share_interval`.
    """
    # the distances from the shares to their ends add up as standard errors would
    shares = np.array(
        [100.0 * np.count_nonzero(class_hits) / len(class_hits) for class_hits in hits]
    )
    ends = np.array([share_interval(class_hits) for class_hits in hits])
    below, above = np.linalg.norm(ends - shares[:, None], axis=0) / len(hits)
    middle = shares.mean()
    return max(0.0, float(middle - below)), min(100.0, float(middle + above))


def paired_interval(
    hits: Shaped[np.ndarray, " n"], others: Shaped[np.ndarray, " n"]
) -> tuple[float, float]:
    """Return the 95 % interval, points, of how much larger one share of hits is than another.

    d -+ z sqrt((a + b - d^2) / (n + 2)) with a = (A + 1) / (n + 2), b = (B + 1) / (n + 2) and
    d = a - b: A items are hit by the first alone, B by the second alone.

    Source: Bonett and Price, Adjusted Wald Confidence Interval for a Difference of Binomial
    Proportions Based on Paired Data, Journal of Educational and Behavioral Statistics 37, 2012,
    479-488.

    Three of four items are hit by the first alone, none by the second alone: a = 4 / 6, b = 1 / 6,
    and 0.5 - 1.96 sqrt((5 / 6 - 0.25) / 6) is the lower end.

    >>> np.round(paired_interval(np.array([1, 1, 1, 0]), np.zeros(4)), 1).tolist()
    [-11.1, 100.0]

    Args:
        hits: As of `share_interval`.
        others: Of the same items.
    """
    first, second = hits != 0, others != 0
    num = len(first) + 2
    gained, lost = (
        (np.count_nonzero(changed) + 1) / num for changed in (first & ~second, second & ~first)
    )
    middle = gained - lost
    half = _NORMAL * math.sqrt((gained + lost - middle**2) / num)
    # the middle is drawn towards zero, so that the measured difference may lie outside
    value = float(first.mean() - second.mean())
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return 100.0 * min(value, low), 100.0 * max(value, high)


def repeated_interval(hits: Float64[np.ndarray, "seeds n"]) -> tuple[float, float]:
    """Return the 95 % interval, percent, of a share over repetitions and items, both at random.

    m - sqrt((t s / sqrt(S))^2 + (m - l)^2) and upwards alike: s is the standard deviation of the S
    shares of the repetitions, t the 97.5 % quantile of Student's distribution of S - 1 degrees of
    freedom, l the lower end of the score interval of m. As hits on one item depend on one another,
    that interval counts m (1 - m) / v items, v the variance of the mean of the n items: between n
    and n S of them, and one where there is but one. A bootstrap over a handful of repetitions would
    be too narrow: it can draw none but those few.

    Source: Zou and Donner, as of `class_mean_interval`; Kish, Survey Sampling, 1965, section 8.2,
    for the number of items that counts.

    Args:
        hits: 1 where repetition i is right about item j, else 0.
    """
    num_seeds, count = hits.shape
    share = float(hits.mean())
    # of the repetitions' mean by item: the more they agree, the less each adds
    variance = float(hits.mean(axis=0).var())
    single = share * (1 - share)
    counted = float(count)
    if count > 1 and single > 0:
        counted *= min(num_seeds, single / variance) if variance > 0 else num_seeds
    low, high = _score_interval(share, counted)
    of_seeds = 0.0
    if num_seeds > 1:
        quantile = float(stats.t.ppf(0.975, num_seeds - 1))
        of_seeds = quantile * float(hits.mean(axis=1).std(ddof=1)) / math.sqrt(num_seeds)
    return (
        100.0 * max(0.0, share - math.hypot(of_seeds, share - low)),
        100.0 * min(1.0, share + math.hypot(of_seeds, high - share)),
    )


def deviation_interval(values: Float64[np.ndarray, " seeds"]) -> tuple[float, float]:
    """Return the 95 % interval of the standard deviation of what `values` are drawn from.

    s sqrt((S - 1) / q), q the 97.5 % and the 2.5 % quantile of chi-squared of S - 1 degrees.

    >>> [round(end, 2) for end in deviation_interval(np.array([1.0, 2.0, 3.0]))]
    [0.52, 6.28]
    """
    degrees = len(values) - 1
    low, high = (
        float(values.std(ddof=1) * np.sqrt(degrees / stats.chi2.ppf(share, degrees)))
        for share in (0.975, 0.025)
    )
    return low, high


def _score_interval(share: float, count: float) -> tuple[float, float]:
    shrunk = 1 + _NORMAL**2 / count
    middle = (share + _NORMAL**2 / (2 * count)) / shrunk
    spread = share * (1 - share) / count + (_NORMAL / (2 * count)) ** 2
    half = _NORMAL * math.sqrt(spread) / shrunk
    # without rounding, the share lies within
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
