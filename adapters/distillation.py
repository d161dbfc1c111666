"""Distillation of an ensemble: a student's cosines take on those of its teacher.

Axis names: `n` rows of the first side and `m` of the second, `block` of the first at a time,
`embed` features of an embedding and `taught` of the teacher's.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..featcache.errors import SpecError
from .blocks import in_blocks
from .objective import Loss, Objective, PairBatch, TeacherFeatures, at_least_float32


class Distilled(Objective):
    """Any objective and the divergence of a student's cosines from those of its teacher.

    S = X Y^T are the student's cosines of a batch, T those of its teacher. Of row i,
    p_i = softmax(T_i / t) and q_i = softmax(S_i / t) say which rows of the other side are near it,

    D_first = 1/n sum_i KL(p_i | q_i),

    D_second is the same of the columns, and weight * (D_first + D_second) / 2 is added to the loss.
    Cosines do not depend on how a space is turned, so that the teacher may be of another width.

    Worked by hand: S = [[0, 0], [0, 0]], T = [[1, 0], [0, 1]], t = 1. All rows and columns of p
    have sigmoid(1) = 0.7311 on one place and 0.2689 on the other, of q 1/2 on both, and D is
    0.7311 log 1.4621 + 0.2689 log 0.5379 = 0.1109.

    Source: Yang et al. 2024, CLIP-KD, arXiv 2307.12732, section 3.2, contrastive relational
    distillation. We differ in one fixed temperature for both in the place of two learnt scales.

    Args:
        objective: What is learnt beside; parts of embeddings are its own matter.
        weight: Of the divergence in a loss; at least 0.
        temperature: t, in units of a cosine; positive.

    Raises:
        SpecError: An option is out of its range.
    """

    def __init__(
        self, objective: Objective, *, weight: float = 1.0, temperature: float = 0.05
    ) -> None:
        super().__init__()
        # written so that NaN is neither
        if not (0 <= weight < math.inf and 0 < temperature < math.inf):
            raise SpecError(
                "distillation needs a weight of at least 0 and a positive temperature, found "
                f"{weight} and {temperature}"
            )
        self.objective = objective
        self.weight = weight
        self.temperature = temperature
        self.needs_teacher = objective.needs_teacher
        self.parts, self.contrasted = objective.parts, objective.contrasted
        self.most_logits = objective.most_logits

    def at_bound(self) -> str | None:
        """Return the bound that a number of the objective has run into, in words, or None."""
        return self.objective.at_bound()

    def forward(self, batch: PairBatch) -> Loss:
        """Return the loss; its parts are those of the objective and `distillation`, unweighted."""
        loss = self.objective(batch)
        assert batch.taught is not None, "a student gets the embeddings of its teacher"
        # float32 even under autocast: a cosine is multiplied by 1 / t
        with torch.autocast(batch.first.device.type, enabled=False):
            divergence = self._divergence(batch.first, batch.second, batch.taught)
        total = loss.total + self.weight * divergence
        return Loss(total, {**loss.parts, "distillation": divergence.detach()})

    def _divergence(
        self,
        first: Float[Tensor, "n embed"],
        second: Float[Tensor, "m embed"],
        taught: TeacherFeatures,
    ) -> Float[Tensor, ""]:
        """Return the mean of both directions."""
        forth, back = (
            self._mean(*(at_least_float32(values) for values in each))
            for each in (
                (first, second, taught.first, taught.second),
                (second, first, taught.second, taught.first),
            )
        )
        return (forth + back) / 2

    def _mean(
        self,
        rows: Float[Tensor, "n embed"],
        columns: Float[Tensor, "m embed"],
        taught_rows: Float[Tensor, "n taught"],
        taught_columns: Float[Tensor, "m taught"],
    ) -> Float[Tensor, ""]:
        """Return the mean divergence of the rows, a block of them at a time."""
        scale = 1 / self.temperature

        def block(part: slice) -> Float[Tensor, ""]:
            targets = (scale * (taught_rows[part] @ taught_columns.T)).log_softmax(dim=1)
            logs = (scale * (rows[part] @ columns.T)).log_softmax(dim=1)
            return functional.kl_div(logs, targets, reduction="sum", log_target=True)

        total = rows.new_zeros(())
        for _, divergence in in_blocks(block, len(rows), num_columns=len(columns)):
            total = total + divergence
        return total / len(rows)
