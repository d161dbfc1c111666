"""Let both sides read themselves and each other, in two stacks of layers."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.types import Sides
from ..attention import Attention
from ..building import check_spread, start_normal
from ..joint_step import JointStep
from ..joint_tokens import JointTokens
from ..masking import without_padding
from ..step import check_repeats

NORMS = ("post", "pre")
_EPSILON = 1e-12  # of BERT's norms


class CoAttention(JointStep):
    """Let both sides read themselves and each other, in two stacks of layers.

    Each side has a stack of its own. In every layer both sides read what the other one was before
    the layer: with t the tokens of a side, o those of the other, and Drop a dropout,

    t' = LN(t + Drop(SA(t))), t'' = LN(t' + Drop(CA(t', o))), t_next = LN(t'' + Drop(FFN(t''))),

    SA being attention to the tokens of the same side, CA to those of the other, and
    FFN(x) = W_2 gelu(W_1 x + b_1) + b_2. With norm = "pre" it is t' = t + Drop(SA(LN(t))),
    t'' = t' + Drop(CA(LN(t'), LN(o))), t_next = t'' + Drop(FFN(LN(t''))), and one more norm behind
    the last layer. Padding and empty box slots are no keys.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `BertCrossLayer`, whose
    blocks are BERT's: norms after the parts, epsilon 1e-12, gelu by the error function, dropout
    behind each part and on the probabilities of attention. The design is METER's, Dou et al. 2022,
    arXiv 2111.02387, section 3.1. With norm = "post" no difference.

    Args:
        layers: Layers of each stack.
        heads: Attention heads; a divisor of the width.
        feedforward: Features between the two matrices of a layer.
        dropout: Probability that a feature or an attention is set to zero in training, in [0, 1).
        norm: `post` as published, `pre` for layers that normalise before their parts.
        spread: Standard deviation of all matrices at the start; biases are zero.

    Raises:
        SpecError: An option is out of its range.
    """

    def __init__(
        self,
        width: int,
        sides: Sides,
        *,
        layers: int = 6,
        heads: int = 12,
        feedforward: int = 3072,
        dropout: float = 0.1,
        norm: str = "post",
        spread: float = 0.02,
    ) -> None:
        super().__init__(width, sides)
        check_repeats("layers", layers)
        if min(layers, heads, feedforward) < 1:
            raise SpecError("layers, heads and feedforward must be positive")
        if not 0.0 <= dropout < 1.0:
            raise SpecError(f"dropout must be in [0, 1), found {dropout}")
        if norm not in NORMS:
            raise SpecError(f"norm must be one of {NORMS}, found {norm!r}")
        check_spread(spread)
        layer = _PreNormLayer if norm == "pre" else _PostNormLayer
        self.stacks = nn.ModuleDict(
            {
                side.value: nn.ModuleList(
                    layer(width, heads=heads, feedforward=feedforward, dropout=dropout)
                    for _ in range(layers)
                )
                for side in sides
            }
        )
        # layers that normalise first leave the sum of all residuals without a norm at the end
        self.norms = nn.ModuleDict(
            {
                side.value: nn.LayerNorm(width, _EPSILON) if norm == "pre" else nn.Identity()
                for side in sides
            }
        )
        start_normal(self, spread)

    def forward(self, rows: JointTokens) -> JointTokens:
        """Return the rows with fused tokens."""
        first, second = self.sides
        masks = {side: rows.tokens[side].mask for side in self.sides}
        values = {side: without_padding(rows.tokens[side]) for side in self.sides}
        stacks = (self.stacks[side.value] for side in self.sides)
        for of_first, of_second in zip(*stacks, strict=True):
            # both read the old pair: what the first has become is not for this layer
            values = {
                first: of_first(values[first], values[second], masks[first], masks[second]),
                second: of_second(values[second], values[first], masks[second], masks[first]),
            }
        tokens = {
            side: rows.tokens[side].with_values(self.norms[side.value](values[side]))
            for side in self.sides
        }
        return JointTokens(tokens, rows.types, rows.pooled)


class _Layer(nn.Module):
    """Parts of a layer of one side, without the way in which they are joined."""

    def __init__(self, width: int, *, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.to_own = Attention(width, heads=heads, dropout=dropout)
        self.own_norm = nn.LayerNorm(width, _EPSILON)
        self.to_other = Attention(width, heads=heads, dropout=dropout)
        self.other_norm = nn.LayerNorm(width, _EPSILON)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)
        self.feedforward_norm = nn.LayerNorm(width, _EPSILON)
        self.dropout = nn.Dropout(dropout)

    def _feedforward(
        self, values: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        mapped: Tensor = self.contract(functional.gelu(self.expand(values)))
        return mapped


class _PostNormLayer(_Layer):
    def forward(
        self,
        values: Float[Tensor, "batch tokens width"],
        other: Float[Tensor, "batch others width"],
        mask: Bool[Tensor, "batch tokens"],
        other_mask: Bool[Tensor, "batch others"],
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the tokens of a side behind the layer."""
        drop = self.dropout
        values = self.own_norm(values + drop(self.to_own(values, values, mask)))
        values = self.other_norm(values + drop(self.to_other(values, other, other_mask)))
        normed: Tensor = self.feedforward_norm(values + drop(self._feedforward(values)))
        return normed


class _PreNormLayer(_Layer):
    def __init__(self, width: int, *, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__(width, heads=heads, feedforward=feedforward, dropout=dropout)
        self.key_norm = nn.LayerNorm(width, _EPSILON)

    def forward(
        self,
        values: Float[Tensor, "batch tokens width"],
        other: Float[Tensor, "batch others width"],
        mask: Bool[Tensor, "batch tokens"],
        other_mask: Bool[Tensor, "batch others"],
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the tokens of a side behind the layer."""
        drop = self.dropout
        normed = self.own_norm(values)
        values = values + drop(self.to_own(normed, normed, mask))
        keys = self.key_norm(other)
        values = values + drop(self.to_other(self.other_norm(values), keys, other_mask))
        left: Tensor = values + drop(self._feedforward(self.feedforward_norm(values)))
        return left
