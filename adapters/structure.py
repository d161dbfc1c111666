"""The regulariser of STRUCTURE: embeddings keep the neighbours that the frozen features have.

Axis names: `n` rows of a batch, `block` of them at a time.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ..featcache.errors import SpecError
from ..featcache.registry import unknown_name

# Similarities held at once: 48 MiB in float32, as many as the logits of `clip`, for the same reason
BLOCK = 3 * 2**22
LEVEL_WEIGHTS = ("equal", "inverse")


class Structure:
    """Divergence of the neighbourhoods among embeddings from those among frozen features.

    Rows are divided by their lengths, and their mean over the batch is subtracted. Of these,
    P = softmax(X X^T / t) of the features and Q = softmax(Z Z^T / t) of the embeddings, row by row,
    are the steps of random walks among the rows; level l compares walks of l steps,

    R = 1/L sum_l w_l mean over rows of JS(P^l, Q^l),  JS(p, q) = KL(p | m) / 2 + KL(q | m) / 2,

    m = (p + q) / 2. Of both sides an objective adds weight * (R_first + R_second) / 2.

    Worked by hand: features (1, 0) and (0, 1), embeddings (1, 0) and (-1, 0), t = 1. Centred, the
    similarities are 1/2 and -1/2, then 1 and -1: all rows of P have sigmoid(1) = 0.7311 on
    themselves, of Q sigmoid(2) = 0.8808, and R = 0.0183.

    Source: Groeger et al. 2025, arXiv 2506.16895 (weight 10, one level, t = 0.05, rise over 1,000
    steps). We differ in leaving out the margin below which it counts a divergence as zero.

    Args:
        weight: Of the regulariser in a loss; at least 0. Their lambda.
        levels: L, the longest walk; at least 1.
        temperature: t, in units of a cosine; positive.
        warmup: Steps over which the weight rises from 0; at least 0.
        level_weights: `equal` for w_l = 1, `inverse` for w_l = 1 / l.

    Raises:
        SpecError: An option is out of its range.
        UnknownNameError: There are no such weights of levels.
    """

    def __init__(
        self,
        *,
        weight: float = 10.0,
        levels: int = 1,
        temperature: float = 0.05,
        warmup: int = 1000,
        level_weights: str = "equal",
    ) -> None:
        if weight < 0 or temperature <= 0 or levels < 1 or warmup < 0:
            raise SpecError(
                "[objective.structure] weight and warmup must be at least 0, levels at least 1 and "
                f"temperature positive, found {weight}, {warmup}, {levels} and {temperature}"
            )
        if level_weights not in LEVEL_WEIGHTS:
            raise unknown_name("level_weights", level_weights, LEVEL_WEIGHTS)
        self.weight = weight
        self.temperature = temperature
        self.warmup = warmup
        self.weights = [1 / level if level_weights == "inverse" else 1.0
                        for level in range(1, levels + 1)]  # fmt: skip

    def weight_at(self, step: int | None) -> float:
        """Return the weight after so many steps of a training, or its highest outside of one."""
        if step is None or step + 1 >= self.warmup:
            return self.weight
        return self.weight * (step + 1) / self.warmup

    def divergence(
        self, features: Float[Tensor, "n features"], embeddings: Float[Tensor, "n embed"]
    ) -> Float[Tensor, ""]:
        """Return R of one side, in [0, log 2].

        The similarities of a large batch are made block by block, and made again for the gradient.
        """
        sides = _centred(features), _centred(embeddings)
        count = len(features)
        total = embeddings.new_zeros(())
        for part in _blocks(count):
            if part == slice(0, count):
                return self._sum(part, *sides) / count
            block = checkpoint(self._sum, part, *sides, use_reentrant=False)
            total = total + block
        return total / count

    def _sum(
        self,
        part: slice,
        features: Float[Tensor, "n features"],
        embeddings: Float[Tensor, "n embed"],
    ) -> Float[Tensor, ""]:
        """Return the sum of the divergences of a block of rows."""
        walks = [self._step(side[part], side) for side in (features, embeddings)]
        total = embeddings.new_zeros(())
        for number, weight in enumerate(self.weights):
            if number:
                walks = [
                    self._onward(walk, side)
                    for walk, side in zip(walks, (features, embeddings), strict=True)
                ]
            total = total + weight * _jensen_shannon(*walks)
        return total / len(self.weights)

    def _step(
        self, rows: Float[Tensor, "block width"], side: Float[Tensor, "n width"]
    ) -> Float[Tensor, "block n"]:
        return functional.softmax(rows @ side.T / self.temperature, dim=1)

    def _onward(
        self, walk: Float[Tensor, "block n"], side: Float[Tensor, "n width"]
    ) -> Float[Tensor, "block n"]:
        """Return the walks of one more step, by whose matrix only a block is there at a time."""

        def through(part: slice) -> Float[Tensor, "block n"]:
            return walk[:, part] @ self._step(side[part], side)

        parts = _blocks(len(side))
        if len(parts) == 1:
            return through(parts[0])
        total = torch.zeros_like(walk)
        for part in parts:
            total = total + checkpoint(through, part, use_reentrant=False)
        return total


def _blocks(count: int) -> list[slice]:
    size = max(1, BLOCK // count)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _centred(values: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    units = functional.normalize(values, dim=1)
    return units - units.mean(dim=0)


def _jensen_shannon(
    first: Float[Tensor, "block n"], second: Float[Tensor, "block n"]
) -> Float[Tensor, ""]:
    """Return the divergence of both, row by row, summed."""
    # a softmax may underflow, and the logarithm of zero has no gradient
    least = torch.finfo(second.dtype).tiny
    p, q = first.to(second.dtype).clamp(min=least), second.clamp(min=least)
    log_mean = ((p + q) / 2).log()
    return (p * (p.log() - log_mean) + q * (q.log() - log_mean)).sum() / 2
