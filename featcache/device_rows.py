"""All features of a store in the memory of a device, gathered there.

Axis names: `n` rows, `total` tokens of all rows of the store, `width` features of one token.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .tokens import Tokens


class DeviceRows:
    """Hold the values of all rows on a device.

    Args:
        parts: The values, shard after shard.
        shape: Tokens of all parts together, and features of one token.
        dtype: Type of the values.
        device: Where to put them.
    """

    def __init__(
        self,
        parts: Iterator[Float[np.ndarray, "tokens width"]],
        *,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.values = torch.empty(shape, dtype=dtype, device=device)
        place = 0
        for part in parts:
            # a copy, as torch takes no arrays that cannot be written to, which memory maps are
            self.values[place : place + len(part)].copy_(torch.from_numpy(np.array(part)))
            place += len(part)

    def pad(self, starts: Int64[np.ndarray, " n"], lengths: Int64[np.ndarray, " n"]) -> Tokens:
        """Return the same as `tokens.pad` of these rows, on the device.

        Args:
            starts: First token of each row, counted through the whole store.
            lengths: Number of tokens of each row.
        """
        device = self.values.device
        longest = int(lengths.max()) if len(lengths) else 0
        within = torch.arange(longest, device=device)
        first = torch.from_numpy(starts).to(device, non_blocking=True)
        mask = within < torch.from_numpy(lengths).to(device, non_blocking=True)[:, None]
        values = self._values_at(first[:, None] + within, mask)
        return Tokens(values, mask)

    def _values_at(self, places: Tensor, mask: Tensor) -> Float[Tensor, "n tokens width"]:
        last = max(0, len(self.values) - 1)
        found = self.values[places.clamp(max=last)]
        return found.masked_fill(~mask[..., None], 0)
