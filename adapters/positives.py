"""Pairs of a batch that belong together, by their numbers.

Axis names: `links` pairs that belong together, `rows` and `columns` of the mask of all pairs.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


@dataclass(frozen=True)
class Positives:
    """Mask of the pairs that belong together, of which only the rows that are asked for are made.

    The mask of 16,384 images and as many texts takes 268 MB and holds 16,384 pairs.

    Attributes:
        rows: Row of each pair, in any order, each pair once.
        columns: Column of each pair.
        shape: Rows and columns of the mask.
    """

    rows: Int64[Tensor, " links"]
    columns: Int64[Tensor, " links"]
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: "PairMask") -> "Positives":
        """Return the pairs of a mask."""
        if isinstance(mask, Positives):
            return mask
        rows, columns = mask.nonzero(as_tuple=True)
        return cls(rows, columns, (mask.shape[0], mask.shape[1]))

    @classmethod
    def diagonal(cls, count: int) -> "Positives":
        """Return the mask by which each row belongs to the column of its number."""
        numbers = torch.arange(count)
        return cls(numbers, numbers, (count, count))

    @property
    def T(self) -> "Positives":
        """Return the mask with rows and columns exchanged."""
        return Positives(self.columns, self.rows, self.shape[::-1])

    def __getitem__(self, part: slice) -> Bool[Tensor, "part columns"]:
        """Return some rows of the mask."""
        asked = self.within(part)
        mask = torch.zeros(asked.shape, dtype=torch.bool, device=self.columns.device)
        mask[asked.rows, asked.columns] = True
        return mask

    def within(self, part: slice) -> "Positives":
        """Return the pairs of some rows, which are counted from the first of them."""
        start, stop, _ = part.indices(self.shape[0])
        if stop - start == self.shape[0]:
            return self
        is_asked = (self.rows >= start) & (self.rows < stop)
        shape = stop - start, self.shape[1]
        return Positives(self.rows[is_asked] - start, self.columns[is_asked], shape)

    def numel(self) -> int:
        """Return the number of all pairs."""
        return self.shape[0] * self.shape[1]

    def to(self, device: torch.device) -> "Positives":
        """Return the same on `device`."""
        return Positives(self.rows.to(device), self.columns.to(device), self.shape)

    def as_mask(self, most_logits: int | None) -> "PairMask":
        """Return this for an objective that has `most_logits`, and the whole mask for others."""
        return self[:] if most_logits is None else self


PairMask: TypeAlias = Bool[Tensor, "rows columns"] | Positives
