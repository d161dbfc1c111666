"""Tell image patches that belong to what the text names from those that do not."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..joint_objective import JointObjective
from ..objective import at_least_float32


class Pbc(JointObjective):
    """Tell image patches that belong to what the text names from those that do not.

    -log softmax(z)_y with the two logits z of the head `pbc` at a patch, and y = 1 where the label
    `named` is true: where boxes that the text names cover enough of it.

    Worked by hand: z = (0, log 3) gives a patch 3/4, so the loss is log(4/3) = 0.288 where it
    belongs, and log 4 = 1.386 where it does not.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForPBC`. We differ:
    its call has the classes on the last axis, where the loss looks for patches, and raises.
    """

    head = "pbc"
    accuracy = "pbc_accuracy"
    balanced_by = "named"
    labels = ("named",)
    unit = "patches"

    def forward(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return the loss of each patch."""
        return functional.cross_entropy(
            at_least_float32(logits), labels["named"].long(), reduction="none"
        )

    def told(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return 1 for each patch whose kind is told, and 0 for others."""
        return ((logits[:, 1] > logits[:, 0]) == labels["named"]).float()
