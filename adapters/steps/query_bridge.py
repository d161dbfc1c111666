"""Let learned queries read the tokens of a row through decoder layers."""

import torch
from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..masking import without_padding
from ..step import Step, check_repeats, start_alike


class QueryBridge(Step):
    """Let learned queries read the tokens of a row through decoder layers.

    q_0 = Q, m_s = W x_s + b + p_s, q_l = Layer_l(q_{l-1}, m), Layer_l being self-attention of the
    queries, their cross-attention to the tokens, and two matrices with an activation between them,
    each with a residual and a norm. The result is q_L, `queries` tokens a row.

    Source: PEME, commit 550a968, model.py: 32 queries, out 768, 4 layers of PyTorch's
    `TransformerDecoderLayer` with 8 heads, ReLU and norms after the parts, queries from N(0, 1),
    no positions; the layers stand in a list and are drawn one by one. The idea is the Q-Former of
    Li et al. 2023, arXiv 2301.12597, section 3.1. We differ: padding is no key of the attention.

    Args:
        out: Features of a query and of an output token.
        queries: Number of queries.
        layers: Number of decoder layers.
        heads: Attention heads; a divisor of `out`.
        feedforward: Features between the two matrices of a layer.
        dropout: Probability that a feature is set to zero in training, in [0, 1).
        norm_first: Whether a layer normalises before its parts instead of after them, and once
            after the last; false as published.
        query_spread: Standard deviation of the queries at the start; 1 as published.
        positions: Learned positions p_s of the first tokens, or 0 for none. Images have one for
            each token, so that the queries know the grid.
        alike: Whether all layers start as copies of the first, as those of
            `nn.TransformerDecoder` do; false as published.

    Raises:
        SpecError: An option is out of its range.
    """

    mixes = True

    def __init__(
        self,
        width: int,
        *,
        out: int = 768,
        queries: int = 32,
        layers: int = 4,
        heads: int = 8,
        feedforward: int = 3072,
        dropout: float = 0.1,
        norm_first: bool = True,
        query_spread: float = 0.02,
        positions: int = 0,
        alike: bool = False,
    ) -> None:
        super().__init__(out)
        check_repeats("layers", layers)
        if min(out, queries, layers, heads, feedforward) < 1 or positions < 0:
            raise SpecError("out, queries, layers, heads and feedforward must be positive")
        if out % heads:
            raise SpecError(f"heads must divide out {out}, found {heads}")
        if not 0.0 <= dropout < 1.0:
            raise SpecError(f"dropout must be in [0, 1), found {dropout}")
        if query_spread <= 0:
            raise SpecError(f"query_spread must be positive, found {query_spread}")
        self.project = nn.Linear(width, out)
        self.queries = nn.Parameter(query_spread * torch.randn(queries, out))
        self.positions = nn.Parameter(0.02 * torch.randn(positions, out)) if positions else None
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                out,
                heads,
                dim_feedforward=feedforward,
                dropout=dropout,
                batch_first=True,
                norm_first=norm_first,
            )
            for _ in range(layers)
        )
        if alike:
            start_alike(self.layers)
        # layers that normalise first leave the sum of all residuals without a norm at the end
        self.norm = nn.LayerNorm(out) if norm_first else nn.Identity()

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return `queries` tokens a row."""
        memory = self.project(without_padding(tokens))
        if self.positions is not None:
            place = torch.arange(memory.shape[1], device=memory.device)
            has_position = place < len(self.positions)
            # looked up, not sliced, so that an exported graph takes any number of tokens
            positions = self.positions[place.clamp(max=len(self.positions) - 1)]
            memory = memory + positions * has_position[:, None]
        # not len(tokens), which is a plain number even where the graph is exported for any
        read: torch.Tensor = self.queries.expand(memory.shape[0], -1, -1)
        for layer in self.layers:
            read = layer(read, memory, memory_key_padding_mask=~tokens.mask)
        mask = torch.ones(read.shape[:2], dtype=torch.bool, device=read.device)
        return Tokens(self.norm(read), mask)
