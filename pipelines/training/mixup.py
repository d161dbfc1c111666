"""Mixup: which items of a batch are mixed, and the share of each in the mixture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Int64

from ...featcache.settings import Setting, check_settings
from ..inputs.mixed_rows import MixupRows

PARTNERS = ("halves", "shuffled")


@dataclass(frozen=True, kw_only=True)
class MixupOptions:
    """Options of the `[train.mixup]` table of a preset.

    Attributes:
        alpha: Both parameters of the Beta distribution; one share is drawn for every mixture of a
            batch.
        partners: `halves` mixes each image of the first half of a batch with one of the second, so
            that a batch has half as many mixtures as it reads images; `shuffled` mixes each image
            with one drawn from the whole batch, all of them different ones.
    """

    alpha: Annotated[
        float, Setting("Of the Beta distribution of the shares of a mixture; 0: none.", least=0)
    ] = 0.0
    partners: Annotated[
        str, Setting("What each image is mixed with.", choices=PARTNERS, noun="mixup.partners")
    ] = "halves"

    def __post_init__(self) -> None:
        check_settings(self, where="[train.mixup] ")

    def mixtures(self, images: int) -> int:
        """Return how many images a step sees of so many that are read."""
        return images // 2 if self.alpha and self.partners == "halves" else images


def draw_mix(
    firsts: Int64[np.ndarray, " read"],
    seconds_of: Callable[[int], Sequence[int]],
    *,
    options: MixupOptions,
    random: np.random.Generator,
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"], MixupRows]:
    """Return the rows of both sides of a step, and what they are mixed with.

    x = share x_1 + (1 - share) x_2, share ~ Beta(alpha, alpha) drawn once a batch, for both
    sides alike, so that a mixed text, say, still belongs to its mixed image. The n-th text of an
    image is mixed with the n-th of its partner; where one has fewer, they are taken round again, so
    that each text that is read is in a mixture.

    Source: FuseMix, Vouitsis et al. 2024, arXiv 2312.10144, section 4.2 and algorithm 1; fusemix,
    commit 25f83ee, lavis/models/fusion_models/mlp_contrastive_fusion.py: halves, one share a
    batch. There each pair is a row of its own, here one image may have several texts.

    Args:
        firsts: Rows of the first side in the batch, in random order; of an odd number of them
            `halves` leaves the last one out.
        seconds_of: Gives the rows of the second side that are read for one of the first.
        options: How to mix.
        random: Draws share and partners.
    """
    share = float(random.beta(options.alpha, options.alpha))
    half = options.mixtures(len(firsts))
    mixed_rows, partner_rows = firsts[:half], firsts[half : 2 * half]
    # each row is the partner of one, of itself maybe: no feature is in the batch more often
    if options.partners == "shuffled":
        partner_rows = firsts[random.permutation(len(firsts))]
    mixed: list[tuple[int, int, int]] = []
    pairs = zip(mixed_rows.tolist(), partner_rows.tolist(), strict=True)
    for place, (row, partner) in enumerate(pairs):
        row_seconds = seconds_of(row)
        # asked once where a row is its own partner: what is drawn at random would differ
        others = row_seconds if row == partner else seconds_of(partner)
        mixed += [
            (row_seconds[number % len(row_seconds)], others[number % len(others)], place)
            for number in range(max(len(row_seconds), len(others)))
        ]
    seconds, partners, owners = np.array(mixed, dtype=np.int64).T.copy()
    return mixed_rows, seconds, MixupRows(partner_rows, partners, owners, share)
