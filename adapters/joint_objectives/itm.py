"""Tell pairs that belong together from pairs that do not."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..joint_objective import JointObjective
from ..objective import at_least_float32


class Itm(JointObjective):
    """Tell pairs that belong together from pairs that do not.

    -log softmax(z)_y with the two logits z of the head `itm`, and y = 1 where the label `matches`
    is true.

    Worked by hand: z = (0, log 3) gives a match 3/4, so the loss is log(4/3) = 0.288 where it is
    one, and log 4 = 1.386 where it is none.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForITM`. No
    difference.
    """

    head = "itm"
    accuracy = "itm_accuracy"
    balanced_by = "matches"
    labels = ("matches",)

    def forward(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return the loss of each pair."""
        # float32 even under autocast
        return functional.cross_entropy(
            at_least_float32(logits), labels["matches"].long(), reduction="none"
        )

    def told(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return 1 for each pair whose kind is told, and 0 for others."""
        return ((logits[:, 1] > logits[:, 0]) == labels["matches"]).float()
