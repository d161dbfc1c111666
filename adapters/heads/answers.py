"""Score each answer of a list by two matrices, as VLE does."""

from jaxtyping import Float
from torch import Tensor, nn

from ..building import check_spread, start_normal
from ..head import Head, HeadInputs
from ..joint_tokens import Joint


class Answers(Head):
    """Score each answer of a list by two matrices, as VLE does.

    W_2 gelu(LayerNorm(W_1 p + b_1)) + b_2 with the vector p of the row, W_1 being square.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `vqa_classifier`. No
    difference.

    Args:
        spread: Standard deviation of both matrices at the start; biases are zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    needs_answers = True

    def __init__(self, inputs: HeadInputs, *, spread: float = 0.02) -> None:
        super().__init__()
        assert inputs.num_answers is not None, "build_head refuses a list that is not there"
        check_spread(spread)
        self.num_outputs = inputs.num_answers
        width = inputs.pooled_width
        self.layers = nn.Sequential(
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Linear(width, self.num_outputs),
        )
        start_normal(self, spread)

    def forward(self, joint: Joint) -> Float[Tensor, "batch outputs"]:
        """Return a logit of each answer."""
        logits: Tensor = self.layers(joint.pooled)
        return logits
