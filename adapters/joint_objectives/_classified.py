"""The loss of objectives that have one right output a unit."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..joint_objective import JointObjective
from ..objective import at_least_float32


class Classified(JointObjective):
    """Score the right output of a unit above the others: -log softmax(z)_y.

    z are all logits of a unit, those of its rows one behind the other, and y is the label, the only
    one that a subclass names. Without a right output, y = -1, the loss is 0.

    Worked by hand: z = (0, log 3) gives y = 1 the loss log(4/3) = 0.288, and y = 0 log 4 = 1.386.
    """

    def forward(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return the loss of each unit."""
        # float32 even under autocast
        return functional.cross_entropy(
            self._by_unit(at_least_float32(logits)),
            self._right(labels),
            ignore_index=-1,
            reduction="none",
        )

    def told(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return 1 for each unit whose right output has the highest logit, and 0 for others."""
        return (self._by_unit(logits).argmax(dim=1) == self._right(labels)).float()

    def _by_unit(self, logits: Float[Tensor, "rows outputs"]) -> Float[Tensor, "units all"]:
        return logits.reshape(-1, self.rows_per_unit * logits.shape[1])

    def _right(self, labels: Mapping[str, Tensor]) -> Tensor:
        (name,) = self.labels
        return labels[name].long()
