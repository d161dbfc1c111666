"""Pool a row to the first token of each side, each behind a matrix and a tanh."""

import torch
from torch import nn

from ...featcache.types import Sides
from ..building import check_spread, start_normal
from ..joint_step import JointStep
from ..joint_tokens import JointTokens


class TanhPool(JointStep):
    """Pool a row to the first token of each side, each behind a matrix and a tanh.

    p = [tanh(P_t t_0 + b_t) ; tanh(P_v v_0 + b_v)], t being the second side (texts) and v the first
    (images): twice the width of a token.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `Pooler`, one a side. No
    difference.

    Args:
        spread: Standard deviation of the matrices at the start; biases are zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    def __init__(self, width: int, sides: Sides, *, spread: float = 0.02) -> None:
        super().__init__(width, sides)
        check_spread(spread)
        self.pooled_width = 2 * width
        self.poolers = nn.ModuleDict({side.value: nn.Linear(width, width) for side in sides})
        start_normal(self, spread)

    def forward(self, rows: JointTokens) -> JointTokens:
        """Return the rows with the vector of each."""
        pooled = [
            torch.tanh(self.poolers[side.value](rows.tokens[side].values[:, 0]))
            for side in reversed(self.sides)
        ]
        return JointTokens(rows.tokens, rows.types, torch.cat(pooled, dim=1))
