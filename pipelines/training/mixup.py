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
    images: Int64[np.ndarray, " read"],
    texts_of: Callable[[int], Sequence[int]],
    *,
    options: MixupOptions,
    random: np.random.Generator,
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"], MixupRows]:
    """Return the images and texts of a step, and what they are mixed with.

    x = share x_1 + (1 - share) x_2, share ~ Beta(alpha, alpha) drawn once a batch, for images and
    texts alike, so that a mixed text still belongs to its mixed image. The n-th text of an image
    is mixed with the n-th of its partner; where one has fewer, they are taken round again, so that
    each text that is read is in a mixture.

    Source: FuseMix, Vouitsis et al. 2024, arXiv 2312.10144, section 4.2 and algorithm 1; fusemix,
    commit 25f83ee, lavis/models/fusion_models/mlp_contrastive_fusion.py: halves, one share a
    batch. There each pair is a row of its own, here one image may have several texts.

    Args:
        images: Images of the batch, by row number, in random order; of an odd number of them
            `halves` leaves the last one out.
        texts_of: Gives the texts of an image that are read, by row number.
        options: How to mix.
        random: Draws share and partners.
    """
    share = float(random.beta(options.alpha, options.alpha))
    half = options.mixtures(len(images))
    first, second = images[:half], images[half : 2 * half]
    # each image is the partner of one, of itself maybe: no feature is in the batch more often
    if options.partners == "shuffled":
        second = images[random.permutation(len(images))]
    mixed: list[tuple[int, int, int]] = []
    for place, (image, partner) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        image_texts = texts_of(image)
        # asked once where an image is its own partner: texts drawn at random would differ
        others = image_texts if image == partner else texts_of(partner)
        mixed += [
            (image_texts[number % len(image_texts)], others[number % len(others)], place)
            for number in range(max(len(image_texts), len(others)))
        ]
    texts, partners, owners = np.array(mixed, dtype=np.int64).T.copy()
    return first, texts, MixupRows(second, partners, owners, share)
