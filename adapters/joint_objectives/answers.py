"""Score the right answers of a question above all others of the list."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ...featcache.errors import SpecError
from ..joint_objective import JointObjective
from ..objective import at_least_float32

LOSSES = ("soft", "single")
_MATCHES = "matches"  # a label of pairs, where negatives are among them


class Answers(JointObjective):
    """Score the right answers of a question above all others of the list.

    With the logits z of the head `answers`, one for each answer a of the list: with loss = "soft"

    -sum_a (y_a log sigmoid(z_a) + (1 - y_a) log(1 - sigmoid(z_a))),

    y being the label `answers`, scores in [0, 1]; with loss = "single" -log softmax(z)_c, c being
    the label `answer`, and 0 for a question whose answer is in no list (c = -1). A pair that is
    known not to match has no answer: where the label `matches` is there and false, the loss is 0.

    Worked by hand, two answers and z = (0, 0): with y = (1, 0.3) each answer costs log 2 whatever
    its score, together 1.386; with c = 1 it is log 2 = 0.693.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForVQA`, whose mean
    over answers times their number is that sum; with loss = "single" OneEncoder, commit 91edf3d,
    the nine scripts of visual question answering. We differ: a question without a listed answer
    is no row there.

    Args:
        loss: `soft` or `single`.

    Raises:
        SpecError: There is no such loss.
    """

    head = "answers"
    accuracy = "accuracy"

    def __init__(self, *, loss: str = "soft") -> None:
        super().__init__()
        if loss not in LOSSES:
            raise SpecError(f"[objective].answers.loss must be one of {LOSSES}, found {loss!r}")
        self.loss = loss
        self.labels = ("answers",) if loss == "soft" else ("answer",)

    def forward(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return the loss of each pair."""
        scores = at_least_float32(logits)  # even under autocast
        if self.loss == "soft":
            targets = labels["answers"].to(scores.dtype)
            losses = functional.binary_cross_entropy_with_logits(
                scores, targets, reduction="none"
            ).sum(dim=1)
        else:
            losses = functional.cross_entropy(
                scores, labels["answer"], ignore_index=-1, reduction="none"
            )
        if _MATCHES in labels:
            losses = torch.where(labels[_MATCHES], losses, 0.0)
        return losses

    def told(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return the score of the answer with the highest logit, the label `answers` of it."""
        best = logits.argmax(dim=1)
        scores: Tensor = labels["answers"][torch.arange(len(best)), best]
        return scores
