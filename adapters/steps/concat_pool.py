"""Join several summaries of the tokens of each row."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..masking import one_token, without_padding
from ..step import Step

SUMMARIES = ("mean", "max", "min", "deviation", "cls")
_SMALL = 1e-6  # under the root of the variance, whose gradient at zero is infinite


class ConcatPool(Step):
    """Join several summaries of the tokens of each row.

    h = [f_1(x) ; f_2(x) ; ...], the f being, feature by feature over the real tokens, their mean,
    their maximum, their minimum, their standard deviation sqrt(mean((x_s - mean)^2) + 1e-6), or the
    first of them. With `unit` each f is divided by its length and multiplied by the root of the
    width, so that no summary outweighs another, whatever an encoder's scale.

    Source: this project; the pooled pairs of Howard and Ruder 2018, arXiv 1801.06146, section
    3.3, with the deviation besides.

    Args:
        summaries: Some of `mean`, `max`, `min`, `deviation` and `cls`, each once, in the order
            wanted.
        unit: Whether all summaries are brought to one length.

    Raises:
        SpecError: A summary is unknown or named twice, or none is named.
    """

    mixes = True
    exact = True
    fixed = True

    def __init__(
        self, width: int, *, summaries: tuple[str, ...] = ("mean", "max"), unit: bool = False
    ) -> None:
        super().__init__(width * len(summaries))
        if not summaries or len(set(summaries)) < len(summaries) or set(summaries) - {*SUMMARIES}:
            raise SpecError(
                f"summaries must be some of {list(SUMMARIES)}, each once, found {list(summaries)}"
            )
        self.summaries = summaries
        self.unit = unit

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one token a row."""
        summaries = _summaries(self.summaries, tokens)
        if self.unit:
            root = math.sqrt(tokens.width)
            summaries = [root * functional.normalize(summary, dim=1) for summary in summaries]
        return one_token(torch.cat(summaries, dim=1))


def _summaries(names: tuple[str, ...], tokens: Tokens) -> list[Float[Tensor, "batch width"]]:
    """Return the summaries of these names, each pass over the tokens made once."""
    values = without_padding(tokens)
    padding = None if values is tokens.values else ~tokens.mask[:, :, None]
    lengths = tokens.mask.sum(dim=1, keepdim=True)  # batch 1
    mean = values.sum(dim=1) / lengths
    summaries = []
    for name in names:
        if name == "mean":
            summaries.append(mean)
        elif name == "cls":
            summaries.append(values[:, 0])
        elif name == "deviation":
            apart = _without(padding, values - mean[:, None], 0.0)
            summaries.append((apart.square().sum(dim=1) / lengths + _SMALL).sqrt())
        elif name == "max":
            summaries.append(_without(padding, values, -torch.inf).amax(dim=1))
        else:
            summaries.append(_without(padding, values, torch.inf).amin(dim=1))
    return summaries


def _without(
    padding: Bool[Tensor, "batch tokens 1"] | None,
    values: Float[Tensor, "batch tokens width"],
    other: float,
) -> Float[Tensor, "batch tokens width"]:
    """Return the values with `other` where there is padding."""
    return values if padding is None else values.masked_fill(padding, other)
