"""Fresh features as a store holds them; what an export computes in its graph, too.

Axis names: `tokens` any axes before the last, `width` features of a token.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from .stored_types import INT8_LARGEST, storage

_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_FLOAT32_LARGEST = torch.finfo(torch.float32).max
_NEXT_BELOW = 1 - 2.0**-24  # times a float32: the next one towards zero


@dataclass(frozen=True)
class StoredForm:
    """Features in the type that a store holds them in.

    Attributes:
        dtype: Stored type.
        values: Features in it; of `int8` whole numbers.
        scales: Factor of each token, of `int8` only.
    """

    dtype: str
    values: Shaped[Tensor, "*tokens width"]
    scales: Float[Tensor, "*tokens 1"] | None = None

    def arrays(
        self,
    ) -> tuple[Shaped[np.ndarray, "*tokens width"], Float32[np.ndarray, "*tokens"] | None]:
        """Return the arrays of a shard: features, and their scales if the type has any."""
        # NumPy has no bfloat16, whose bits are stored
        values = self.values.view(torch.int16) if self.dtype == "bfloat16" else self.values
        scales = None if self.scales is None else self.scales[..., 0].numpy()
        return values.numpy().view(storage(self.dtype)), scales

    def floats(self) -> Float[Tensor, "*tokens width"]:
        """Return the values as a reader gives them: `float16` as it is, all others as float32."""
        if self.dtype == "float16":
            return self.values
        values = self.values.to(torch.float32)
        return values if self.scales is None else values * self.scales


def as_stored(values: Float[Tensor, "*tokens width"], dtype: str) -> StoredForm:
    """Return float32 features as a store of `dtype` holds them.

    Whether they fit is for `finite_tokens` to say: what does not comes out infinite or NaN.
    """
    if dtype != "int8":
        return StoredForm(dtype, values.to(_TYPES[dtype]))
    scales = values.abs().amax(dim=-1, keepdim=True) / INT8_LARGEST
    # the quotient of the largest float32 is rounded up: 127 times it would be infinite
    fits = scales * INT8_LARGEST <= _FLOAT32_LARGEST
    scales = torch.where(fits, scales, scales * _NEXT_BELOW)
    whole = torch.round(values / torch.where(scales > 0, scales, 1.0))
    return StoredForm(dtype, whole.clamp(-INT8_LARGEST, INT8_LARGEST).to(torch.int8), scales)
