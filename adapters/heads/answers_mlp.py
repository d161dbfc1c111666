"""Score each answer of a list by two matrices with a ReLU between them, as OneEncoder does."""

from jaxtyping import Float
from torch import Tensor, nn

from ...featcache.errors import SpecError
from ..head import Head, HeadInputs


class AnswersMlp(Head):
    """Score each answer of a list by two matrices with a ReLU between them, as OneEncoder does.

    W_2 Dropout(ReLU(W_1 p + b_1)) + b_2 with the vector p of the row.

    Source: OneEncoder, commit 91edf3d, the nine scripts of visual question answering, with hidden =
    512 and dropout 0.5. No difference.

    Args:
        hidden: Features between the two matrices.
        dropout: Probability that one of them is set to zero in training, in [0, 1).

    Raises:
        SpecError: An option is out of its range.
    """

    list_name = "answers"

    def __init__(self, inputs: HeadInputs, *, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        if hidden < 1:
            raise SpecError(f"hidden must be positive, found {hidden}")
        if not 0.0 <= dropout < 1.0:
            raise SpecError(f"dropout must be in [0, 1), found {dropout}")
        self.num_outputs = inputs.listed["answers"]
        self.layers = nn.Sequential(
            nn.Linear(inputs.pooled_width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, self.num_outputs),
        )

    def forward(self, vectors: Float[Tensor, "units width"]) -> Float[Tensor, "units outputs"]:
        """Return a logit of each answer."""
        logits: Tensor = self.layers(vectors)
        return logits
