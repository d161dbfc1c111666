"""Refine each token by blocks of two matrices around a residual."""

from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step, check_repeats


class ResidualMlp(Step):
    """Refine each token by blocks of two matrices around a residual.

    h <- h + Dropout(W_2 Dropout(GELU(W_1 LayerNorm(h) + b_1)) + b_2), `blocks` times, W_1 giving
    `expansion` times the features; the outer Dropout is there with `drop_twice` only.

    Source: FuseMix, Vouitsis et al. 2024, arXiv 2312.10144, section 4 (4 blocks, expansion 4,
    dropout 0.6, only between the matrices: fusemix, commit 25f83ee), whose blocks are those of
    Tolstikhin et al. 2021, arXiv 2105.01601, figure 1, right half, which drop twice.

    Args:
        blocks: Number of blocks.
        expansion: Features between the two matrices over `width`.
        dropout: Probability that a feature is set to zero in training, in [0, 1).
        drop_twice: Whether that is also done behind the second matrix.

    Raises:
        SpecError: An option is out of its range.
    """

    def __init__(
        self,
        width: int,
        *,
        blocks: int = 4,
        expansion: int = 4,
        dropout: float = 0.1,
        drop_twice: bool = True,
    ) -> None:
        super().__init__(width)
        check_repeats("blocks", blocks)
        if min(blocks, expansion) < 1:
            raise SpecError(f"blocks and expansion must be positive, found {blocks}, {expansion}")
        if not 0.0 <= dropout < 1.0:
            raise SpecError(f"dropout must be in [0, 1), found {dropout}")
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, expansion * width),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(expansion * width, width),
                nn.Dropout(dropout if drop_twice else 0.0),
            )
            for _ in range(blocks)
        )

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the refined tokens."""
        values = tokens.values
        # the residual carries what stands before the norm of a block
        for block in self.blocks:
            values = values + block(values)
        return tokens.with_values(values)
