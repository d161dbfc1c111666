"""The learnable context of a modality, which the fusions mix into every token."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.types import Modality

SIGMA_LOW, SIGMA_HIGH = 0.1, 0.6  # as published; no reason is given there


class DirectContext(nn.Module):
    """Give each modality a learnable vector of `width` features, and nothing else.

    Source: OneEncoder, commit 60b2b62 (its first release); the start, N(0, 1), is our choice.

    Args:
        width: Features of the vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict(
            {modality.value: nn.Parameter(torch.randn(width)) for modality in Modality}
        )

    def forward(self, modality: Modality) -> Float[Tensor, " width"]:
        """Return the vector of `modality`."""
        vector: Tensor = self.vectors[modality.value]
        return vector


class Context(nn.Module):
    """Give each modality a learnable vector and map it to `width` features.

    c_m = LayerNorm(MLP(e_m)), the MLP shared by the modalities: Linear, then (ReLU, Linear) for
    each further size, without dropout. e_m starts as N(0, sigma_m), sigma_m drawn once per
    modality from U(0.1, 0.6), so that the modalities start apart. A module holds the vectors of
    all modalities; those of a modality that it never meets get no gradient.

    Source: lightweightCRL, commit e3421ad, text_image/*/fusion.py. There the modality is a float
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
        sizes = (size, *hidden, width)
        if min(sizes) < 1:
            raise SpecError(f"the sizes of a context must be positive, found {list(sizes)}")
        self.vectors = nn.ParameterDict()
        for modality in Modality:
            sigma = torch.empty(()).uniform_(SIGMA_LOW, SIGMA_HIGH)
            self.vectors[modality.value] = nn.Parameter(sigma * torch.randn(size))
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        layers[-1] = nn.LayerNorm(width)  # in place of the ReLU after the last Linear
        self.layers = nn.Sequential(*layers)

    def forward(self, modality: Modality) -> Float[Tensor, " width"]:
        """Return c_m, the context vector of `modality`."""
        context: Tensor = self.layers(self.vectors[modality.value])
        return context
