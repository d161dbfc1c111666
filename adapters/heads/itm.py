"""Score whether the two items of a row belong together."""

from jaxtyping import Float
from torch import Tensor, nn

from ..building import check_spread, start_normal
from ..head import Head, HeadInputs


class Itm(Head):
    """Score whether the two items of a row belong together.

    Two logits a row, W p + b with the vector p of the row: of no match, and of a match.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `ITMHead`, whose label 1
    is a match. No difference.

    Args:
        spread: Standard deviation of W at the start; b is zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    def __init__(self, inputs: HeadInputs, *, spread: float = 0.02) -> None:
        super().__init__()
        check_spread(spread)
        self.num_outputs = 2
        self.score = nn.Linear(inputs.pooled_width, 2)
        start_normal(self, spread)

    def forward(self, vectors: Float[Tensor, "units width"]) -> Float[Tensor, "units outputs"]:
        """Return the logits of no match and of a match."""
        logits: Tensor = self.score(vectors)
        return logits
