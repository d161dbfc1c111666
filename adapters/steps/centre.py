"""Move the features of the training rows to mean zero and bring them to one spread."""

import torch
from jaxtyping import Float
from torch import Tensor

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import FittedStep

_SMALL = 1e-12  # of a variance; features that never vary stay as they are


class Centre(FittedStep):
    """Move the features of the training rows to mean zero and bring them to one spread.

    h_s = (x_s - m) / d_g, m the mean of each feature over the training rows and d_g the root of the
    mean variance of the features of block g. Both are fixed before the first step, so that a row
    never depends on others later on. Features keep their sizes relative to one another: dividing
    each by its own deviation would blow up those that hardly vary.

    Source: this project; centring before a shared space as in CCA (Hotelling 1936).

    Args:
        blocks: Blocks of one width that are brought to one spread each, such as the summaries of
            `concat-pool`.

    Raises:
        SpecError: `width` has no such blocks.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, *, blocks: int = 1) -> None:
        super().__init__(width)
        if blocks < 1 or width % blocks:
            raise SpecError(f"blocks must divide the {width} features, found {blocks}")
        self.blocks = blocks
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    @torch.no_grad()
    def fit(self, mean: Float[Tensor, " width"], variance: Float[Tensor, " width"]) -> None:
        """Take the mean and the spread of the training rows."""
        self.mean.copy_(mean)
        by_block = variance.reshape(self.blocks, -1).mean(dim=1)
        # by the block, not by the feature: dividing by tiny deviations would blow noise up
        spread = torch.where(by_block > _SMALL, by_block, 1.0).sqrt()
        self.spread.copy_(spread.repeat_interleave(len(variance) // self.blocks))

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the moved tokens."""
        return tokens.with_values((tokens.values - self.mean) / self.spread)
