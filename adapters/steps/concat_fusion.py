"""Append a short context to every token's features and project back."""

import torch
from torch import nn

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..context import Context
from ..step import Step


class ConcatFusion(Step):
    """Append a short context to every token's features and project back.

    h_s = x_s + P([x_s ; c_m]), P = Linear, ReLU, Linear: width + context_out features in and
    between, width out. Here c_m = LayerNorm(W e_m + b) has `context_out` features and no hidden
    layer.

    Source: LightCRL DFE-3; lightweightCRL, commit e3421ad, text_image/*/fusion.py. No difference.

    Args:
        context: Features of the learnable vector of a side.
        context_out: Features appended to a token.

    Raises:
        SpecError: A size is not positive.
    """

    def __init__(self, width: int, *, context: int = 3, context_out: int = 10) -> None:
        super().__init__(width)
        self.context = Context(context, hidden=(), width=context_out)
        joint = width + context_out
        self.project = nn.Sequential(nn.Linear(joint, joint), nn.ReLU(), nn.Linear(joint, width))

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the fused tokens."""
        values = tokens.values
        context = self.context(side).expand(*values.shape[:2], -1)
        # one context for all rows and tokens: a view, of which only the joint row is a copy
        joint = torch.cat([values, context], dim=2)  # batch tokens width+context
        return tokens.with_values(values + self.project(joint))
