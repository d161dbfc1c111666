"""The two layers that most heads of VLE are."""

from jaxtyping import Float
from torch import Tensor, nn

from ..building import check_spread, start_normal
from ..head import Head


class TwoLayers(Head):
    """Score a vector by W_2 gelu(LayerNorm(W_1 x + b_1)) + b_2, W_1 being square.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `vqa_classifier` and the
    heads of PBC and VCR. No difference.

    Args:
        width: Features of x.
        num_outputs: Logits.
        spread: Standard deviation of both matrices at the start; biases are zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    def __init__(self, width: int, num_outputs: int, *, spread: float) -> None:
        super().__init__()
        check_spread(spread)
        self.num_outputs = num_outputs
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, num_outputs)
        )
        start_normal(self, spread)

    def forward(self, vectors: Float[Tensor, "units width"]) -> Float[Tensor, "units outputs"]:
        """Return the logits of each vector."""
        logits: Tensor = self.layers(vectors)
        return logits
