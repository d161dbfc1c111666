"""A batch of token features as tensors: what encoders return and adapters read.

Axis names: `batch` rows, `tokens` positions after padding, `width` features of one token.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .types import Features


@dataclass(frozen=True)
class Tokens:
    """Hold token features with the mask that says which positions are real.

    Attributes:
        values: Features; what stands at masked positions is undefined.
        mask: True where a token is real; every row has at least one.
    """

    values: Float[Tensor, "batch tokens width"]
    mask: Bool[Tensor, "batch tokens"]

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def width(self) -> int:
        """Return the number of features of one token."""
        return self.values.shape[2]

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Tokens":
        """Return the same tokens on `device`, the values in `dtype` if one is given."""
        return Tokens(self.values.to(device, dtype), self.mask.to(device))

    def with_values(self, values: Float[Tensor, "batch tokens width_out"]) -> "Tokens":
        """Return tokens that keep the mask and hold `values`."""
        return Tokens(values, self.mask)


def pad_groups(features: Features, num_groups: int) -> tuple[list[Tokens], np.ndarray]:
    """Return `features` in groups of similar length, each padded to its own longest row.

    Captions of 8 to 40 tokens padded together are two thirds padding; in a few groups, little.

    Args:
        features: Rows of any lengths.
        num_groups: Largest number of groups; rows of equal length are one.

    Returns:
        The groups, and the row of `features` that each of their rows is, group after group.
    """
    lengths = features.lengths
    order = np.argsort(lengths, kind="stable")
    if len(lengths) == 0 or lengths[order[0]] == lengths[order[-1]]:
        return [pad(features)], np.arange(len(lengths))
    groups = [features.take(rows) for rows in np.array_split(order, num_groups) if len(rows)]
    return [pad(group) for group in groups], order


def pad(features: Features) -> Tokens:
    """Return `features` as one batch padded to its longest row, in the stored dtype.

    Padding is zero, so that no NaN can come from a masked position.
    """
    lengths = features.lengths
    longest = int(lengths.max()) if len(lengths) else 0
    rows = len(features)
    if rows and int(lengths.min()) == longest:
        values = features.values.reshape(rows, longest, features.width)
        mask = np.ones((rows, longest), dtype=bool)
    else:
        mask = np.arange(longest)[None, :] < lengths[:, None]
        values = np.zeros((rows, longest, features.width), dtype=features.values.dtype)
        values[mask] = features.values
    return Tokens(torch.from_numpy(values), torch.from_numpy(mask))
