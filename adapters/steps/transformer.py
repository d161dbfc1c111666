"""Mix the tokens of a row by a transformer encoder around an outer residual."""

import torch
from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..masking import without_padding
from ..step import Step, check_repeats, start_alike

ACTIVATIONS = ("gelu", "relu")


class Transformer(Step):
    """Mix the tokens of a row by a transformer encoder around an outer residual.

    z = h + TEnc(LayerNorm(h)), TEnc being `layers` encoder layers without a norm after the last.

    Source: LightCRL, lightweightCRL, commit e3421ad, text_image/*/fusion.py, with layers = 1,
    heads = 4 and PyTorch's defaults; the layer is Vaswani et al. 2017, arXiv 1706.03762, section
    3.1. We differ: padding is no key of the attention, and there is no template layer, which in
    the published model is trained by nothing and saved with every checkpoint. With several
    layers each is drawn on its own, while `nn.TransformerEncoder` starts all as copies, as with
    `alike`.

    Args:
        layers: Number of encoder layers.
        heads: Attention heads; a divisor of `width`.
        feedforward: Features between the two matrices of a layer.
        dropout: Probability that a feature is set to zero in training, in [0, 1).
        activation: `relu` or `gelu`, between the two matrices of a layer.
        norm_first: Whether a layer normalises before its parts instead of after them.
        masked: Whether padding is left out; false as published.
        alike: Whether all layers start as copies of the first; true as published.

    Raises:
        SpecError: An option is out of its range.
    """

    mixes = True

    def __init__(
        self,
        width: int,
        *,
        layers: int = 1,
        heads: int = 4,
        feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        masked: bool = True,
        alike: bool = False,
    ) -> None:
        super().__init__(width)
        check_repeats("layers", layers)
        if min(layers, heads, feedforward) < 1:
            raise SpecError("layers, heads and feedforward must be positive")
        if width % heads:
            raise SpecError(f"heads must divide the width {width}, found {heads}")
        if not 0.0 <= dropout < 1.0:
            raise SpecError(f"dropout must be in [0, 1), found {dropout}")
        if activation not in ACTIVATIONS:
            raise SpecError(f"activation must be one of {ACTIVATIONS}, found {activation!r}")
        self.masked = masked
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                dim_feedforward=feedforward,
                dropout=dropout,
                activation=activation,
                batch_first=True,
                norm_first=norm_first,
            )
            for _ in range(layers)
        )
        # nn.TransformerEncoder deep-copies one layer, as fusion.py has it
        if alike:
            start_alike(self.layers)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mixed tokens."""
        values = without_padding(tokens) if self.masked else tokens.values
        padding = ~tokens.mask if self.masked else None
        mixed: torch.Tensor = self.norm(values)
        for layer in self.layers:
            mixed = layer(mixed, src_key_padding_mask=padding)
        # the residual is of the tokens before the norm: the encoder adds to what it was given
        return tokens.with_values(values + mixed)
