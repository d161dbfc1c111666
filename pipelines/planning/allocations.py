"""Tensors that a computation makes, for any number of rows, from those of few."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64
from torch import Tensor

from ...featcache.encoders.memory import LiveTensors
from ...featcache.errors import SpecError

ROWS = (2, 3, 4)  # in sequence, for differences; a single row takes ways of its own through torch


@dataclass(frozen=True)
class Allocations:
    """Tensors that a computation makes, in order, for any number of rows.

    Bytes are kept as those at 2 rows, their first differences and their second ones, from which
    those at n rows follow without rounding: b + d (n - 2) + e (n - 2) (n - 3) / 2.

    Attributes:
        differences: b, d and e of each tensor, as far as they were measured.
        ends: How many tensors have been made when each is freed.
        is_gradient: Whether it becomes the gradient of a weight.
        is_loss: Whether it is made by the objective, or for the gradient of its loss.
        is_block: Whether it is one of those whose logits are made in blocks where they are many.
    """

    differences: Int64[np.ndarray, "order tensors"]
    ends: Int64[np.ndarray, " tensors"]
    is_gradient: Bool[np.ndarray, " tensors"]
    is_loss: Bool[np.ndarray, " tensors"]
    is_block: Bool[np.ndarray, " tensors"]

    @classmethod
    def recorded(
        cls,
        live: LiveTensors,
        gradients: Iterable[Tensor] = (),
        loss: slice = slice(0),
        blocks: Iterable[slice] = (),
    ) -> "Allocations":
        """Return those of one size."""
        count = len(live.sizes)
        is_gradient, is_loss, is_block = np.zeros((3, count), dtype=bool)
        is_gradient[[n for g in gradients if (n := live.number_of(g)) is not None]] = True
        is_loss[loss] = True
        for block in blocks:
            is_block[block] = True
        ends = np.array([count if end is None else end for end in live.ends], dtype=np.int64)
        return cls(np.array([live.sizes], dtype=np.int64), ends, is_gradient, is_loss, is_block)

    @classmethod
    def fitted(cls, recordings: "Sequence[Allocations]") -> "Allocations":
        """Return what recordings of 2, 3 and perhaps 4 rows tell of all others.

        Raises:
            SpecError: They made other tensors, as with so many captions that even few images have
                logits in blocks.
        """
        if len({len(recording.ends) for recording in recordings}) > 1:
            raise SpecError(
                "a step of this many texts is made in other parts at every size, and so no larger "
                "one can be planned: lower the captions"
            )
        sizes = np.concatenate([recording.differences for recording in recordings])
        orders = [np.diff(sizes, n=order, axis=0)[0] for order in range(len(sizes))]
        return replace(recordings[-1], differences=np.array(orders))

    def num_bytes(self, rows: int) -> Int64[np.ndarray, " tensors"]:
        """Return the bytes of each tensor for so many rows."""
        more = rows - ROWS[0]
        factors = np.array([1, more, more * (more - 1) // 2])
        num_bytes: Int64[np.ndarray, " tensors"] = (
            factors[: len(self.differences)] @ self.differences
        )
        return num_bytes

    def at_peak(self, num_bytes: Int64[np.ndarray, " tensors"]) -> Int64[np.ndarray, " tensors"]:
        """Return the bytes of each tensor that is there when most is, and 0 for the others."""
        numbers = np.arange(len(num_bytes))
        changes = np.append(num_bytes, 0)
        np.subtract.at(changes, self.ends, num_bytes)
        peak = int(np.argmax(np.cumsum(changes)))
        return num_bytes * ((numbers <= peak) & (peak < self.ends))
