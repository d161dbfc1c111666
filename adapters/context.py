"""The learnable context of a side, which the fusions mix into every token."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.types import IMAGE_TEXT, Side
from .step import check_repeats

SIGMA_LOW, SIGMA_HIGH = 0.1, 0.6  # as published; no reason is given there


class DirectContext(nn.Module):
    """Learnable vector of `width` features for each side, and nothing else.

    A vector starts as N(0, sigma), sigma drawn once per side from U(0.1, 0.6).

    Source: OneEncoder, commit 60b2b62 (its first release), text_image.py.

    Args:
        width: Features of the vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vectors = _first_vectors(width)

    def forward(self, side: Side) -> Float[Tensor, " width"]:
        """Return the vector of `side`."""
        vector: Tensor = self.vectors[side.value]
        return vector


class Context(nn.Module):
    """Learnable vector for each side, mapped to `width` features.

    c_m = LayerNorm(MLP(e_m)), the MLP shared by the sides: Linear, then (ReLU, Linear) for
    each further size, without dropout. e_m starts as N(0, sigma_m), sigma_m drawn once per side
    from U(0.1, 0.6), so that the sides start apart. A module holds the vectors of both; that of a
    side that it never meets gets no gradient.

    Source: lightweightCRL, commit e3421ad, text_image/*/fusion.py. There the side is a float
    id that selects through a `where`; here it selects the vector by name.

    Args:
        size: Features of e_m.
        hidden: Sizes of the hidden layers, in order; may be empty.
        width: Features of c_m.

    Raises:
        SpecError: A size is not positive.
    """

    def __init__(self, size: int, *, hidden: tuple[int, ...], width: int) -> None:
        super().__init__()
        check_repeats("the number of hidden layers", len(hidden))
        sizes = (size, *hidden, width)
        if min(sizes) < 1:
            raise SpecError(f"the sizes of a context must be positive, found {list(sizes)}")
        self.vectors = _first_vectors(size)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        layers[-1] = nn.LayerNorm(width)  # in place of the ReLU after the last Linear
        self.layers = nn.Sequential(*layers)

    def forward(self, side: Side) -> Float[Tensor, " width"]:
        """Return c_m, the context vector of `side`."""
        context: Tensor = self.layers(self.vectors[side.value])
        return context


def _first_vectors(size: int) -> nn.ParameterDict:
    vectors = nn.ParameterDict()
    for side in IMAGE_TEXT:
        sigma = torch.empty(()).uniform_(SIGMA_LOW, SIGMA_HIGH)
        vectors[side.value] = nn.Parameter(sigma * torch.randn(size))
    return vectors


def name_vectors(module: nn.Module, sides: Sequence[Side]) -> None:
    """Name the vectors of every context within `module` after `sides`, in order.

    They are made for images and texts, whose names old checkpoints have.
    """
    for part in module.modules():
        if isinstance(part, Context | DirectContext):
            names = [side.value for side in sides]
            part.vectors = nn.ParameterDict(zip(names, part.vectors.values(), strict=True))
