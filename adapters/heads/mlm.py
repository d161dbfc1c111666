"""Score what a masked word was, by the fused token at its place."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ...featcache.errors import SpecError
from ..building import check_spread, start_normal
from ..head import Head, HeadInputs


class Mlm(Head):
    """Score what a masked token was, by the fused token at its place.

    W_2 LayerNorm(gelu(W_1 h + b_1)) + b_2: one logit a token of the list.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForMLM`: a matrix to
    the width of the text encoder, then the head of DeBERTa, a matrix, GELU, LayerNorm, and the
    word embeddings as W_2. We differ: one matrix where those are two, and W_2 is its own and of
    the tokens of the training texts alone, as cached features come without word embeddings.

    Args:
        hidden: Features between the two matrices; those of a token if 0.
        spread: Standard deviation of both matrices at the start; biases are zero.

    Raises:
        SpecError: An option is out of its range.
    """

    reads: ClassVar[str] = "text"
    list_name = "tokens"

    def __init__(self, inputs: HeadInputs, *, hidden: int = 0, spread: float = 0.02) -> None:
        super().__init__()
        if hidden < 0:
            raise SpecError(f"hidden must be at least 0, found {hidden}")
        check_spread(spread)
        self.num_outputs = inputs.listed["tokens"]
        width = hidden or inputs.token_width
        self.layers = nn.Sequential(
            nn.Linear(inputs.token_width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, self.num_outputs),
        )
        start_normal(self, spread)

    def forward(self, vectors: Float[Tensor, "units width"]) -> Float[Tensor, "units outputs"]:
        """Return a logit of each token of the list."""
        logits: Tensor = self.layers(vectors)
        return logits
