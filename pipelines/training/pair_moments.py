"""Add up what a linear method needs of the vectors of all training pairs."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int64

from ...adapters.solver import Moments
from ..common.progress import Progress
from ..inputs.pairs import PairDataset, partner_links

ROWS = 1024  # images whose pairs are added up at a time
VectorsOf: TypeAlias = Callable[[Int64[np.ndarray, " n"]], Float[np.ndarray, "n features"]]


def pair_moments(
    stores: PairDataset,
    rows: Int64[np.ndarray, " images"],
    vectors: Sequence[VectorsOf],
    *,
    widths: Sequence[int],
    averages: bool,
    progress: Progress,
) -> Moments:
    """Return the moments of the pairs of some images.

    Args:
        stores: Who belongs to whom.
        rows: Numbers of the images.
        vectors: What gives the vectors of some rows of the first side, and of the second.
        widths: Features of a vector of either side.
        averages: Whether an image makes one pair, with the mean of the vectors of its texts.
        progress: Receives the progress.
    """
    moments = Moments(*widths)
    starts = range(0, len(rows), ROWS)
    for start in progress.track(starts, "pairs", len(starts), unit="blocks"):
        firsts = stores.all_firsts(rows[start : start + ROWS])
        partners = [np.array(stores.seconds_of[row]) for row in firsts.tolist()]
        # a text of several images is embedded once and counts with each
        seconds = np.unique(np.concatenate(partners))
        first, second = (of(side) for of, side in zip(vectors, (firsts, seconds), strict=True))
        together = partner_links(partners, seconds)[:].numpy()
        if averages:
            shares = together / together.sum(axis=1, keepdims=True)
            second, together = shares @ second, np.eye(len(firsts), dtype=np.bool_)
        moments.add(first, second, together)
    return moments
