"""A batch of token features as tensors: what encoders return and adapters read.

Axis names: `batch` rows, `tokens` positions after padding, `width` features of one token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .types import Features


@dataclass(frozen=True)
class Tokens:
    """Token features, with the mask of the positions that are real.

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

    def take(self, rows: Int64[Tensor, " n"]) -> "Tokens":
        """Return these rows, in the given order; a row may be there several times."""
        return replace(self, values=self.values[rows], mask=self.mask[rows])

    def with_values(self, values: Float[Tensor, "batch tokens width_out"]) -> "Tokens":
        """Return tokens that keep the mask and hold `values`."""
        return Tokens(values, self.mask)

    @property
    def streams(self) -> tuple["Tokens", ...]:
        """Return the tokens of each stream; these alone where a tower reads one."""
        return (self,)


@dataclass(frozen=True)
class StreamTokens(Tokens):
    """Tokens of the same items from several stores, which one tower reads side by side.

    `values` and `mask`, and so `width`, are those of the first stream: whoever knows of one stream
    alone gives a tower of several too few, which it refuses.

    Attributes:
        further: Tokens of the other streams, in order.
    """

    further: tuple[Tokens, ...] = ()

    @classmethod
    def of(cls, streams: Sequence[Tokens]) -> Tokens:
        """Return several streams as one object, or the only one as it is."""
        first, *further = streams
        return cls(first.values, first.mask, tuple(further)) if further else first

    @property
    def streams(self) -> tuple[Tokens, ...]:
        """Return the tokens of each stream."""
        return (Tokens(self.values, self.mask), *self.further)

    def take(self, rows: Int64[Tensor, " n"]) -> Tokens:
        """Return these rows of every stream."""
        return self.of([stream.take(rows) for stream in self.streams])

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Tokens:
        """Return the same on `device`, the values in `dtype` if one is given."""
        return self.of([stream.to(device, dtype) for stream in self.streams])


@dataclass(frozen=True)
class PooledTokens(Tokens):
    """Tokens to which the first steps of a tower have been applied already.

    Attributes:
        num_steps: How many steps.
    """

    num_steps: int

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "PooledTokens":
        """Return the same on `device`, the values in `dtype` if one is given."""
        return PooledTokens(self.values.to(device, dtype), self.mask.to(device), self.num_steps)


def pad_groups(features: Features, num_groups: int) -> tuple[list[Tokens], np.ndarray]:
    """Return `features` in groups of similar length, each padded to its own longest row.

    Captions of 8 to 40 tokens padded together are two thirds padding; in a few groups, little.

    Returns:
        The groups, `num_groups` at most, and the row of `features` that each of their rows is.
    """
    groups = split_by_length(features.lengths, num_groups)
    if len(groups) == 1:
        return [pad(features)], np.arange(len(features))
    return [pad(features.take(rows)) for rows in groups], np.concatenate(groups)


def split_by_length(
    lengths: Int64[np.ndarray, " n"], num_groups: int
) -> list[Int64[np.ndarray, " group"]]:
    """Return the rows in groups of similar length; rows of equal length are one group, in order."""
    order = np.argsort(lengths, kind="stable")
    if len(lengths) == 0 or lengths[order[0]] == lengths[order[-1]]:
        return [order]
    return [rows for rows in np.array_split(order, num_groups) if len(rows)]


def pad(features: Features) -> Tokens:
    """Return `features` as one batch padded to its longest row, in the stored dtype.

    Padding is zero, so that no NaN can come from a masked position.
    """
    lengths = features.lengths
    longest = int(lengths.max()) if len(lengths) else 0
    rows = len(features)
    # rows of one length are a view, without a copy and without a mask to compute
    if rows and int(lengths.min()) == longest:
        values = features.values.reshape(rows, longest, features.width)
        mask = np.ones((rows, longest), dtype=bool)
    else:
        mask = np.arange(longest)[None, :] < lengths[:, None]
        values = np.zeros((rows, longest, features.width), dtype=features.values.dtype)
        values[mask] = features.values
    return Tokens(torch.from_numpy(values), torch.from_numpy(mask))


def join_padded(batches: Sequence[Tokens]) -> Tokens:
    """Return batches one after the other, padded by zeros to the longest row of all."""
    longest = max(batch.mask.shape[1] for batch in batches)
    missing = [longest - batch.mask.shape[1] for batch in batches]
    values = [
        torch.nn.functional.pad(batch.values, (0, 0, 0, count))
        for batch, count in zip(batches, missing, strict=True)
    ]
    masks = [
        torch.nn.functional.pad(batch.mask, (0, count))
        for batch, count in zip(batches, missing, strict=True)
    ]
    return Tokens(torch.cat(values), torch.cat(masks))
