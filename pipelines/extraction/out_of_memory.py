"""Encode in parts where the memory is too small for a batch."""

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch

from ...featcache.encoders.base import Encoder
from ...featcache.errors import OutOfMemoryError
from ...featcache.memory_errors import lack_of_memory
from ...featcache.tokens import Tokens, join_padded


def encode_within_memory(
    encoder: Encoder[Any],
    prepared: Sequence[Any],
    layers: Sequence[int],
    fitting: MutableMapping[str, int],
) -> list[Tokens]:
    """Return the features of several layers, in parts where memory is too small for all at once.

    How many items fit is in `fitting`, by encoder; it is lowered here, so that each size fails but
    once.

    Raises:
        OutOfMemoryError: One item does not fit.
    """
    size = fitting[encoder.name]
    if len(prepared) > size:
        parts = [prepared[first : first + size] for first in range(0, len(prepared), size)]
        encoded = [encode_within_memory(encoder, part, layers, fitting) for part in parts]
        return [join_padded(of_layer) for of_layer in zip(*encoded, strict=True)]
    try:
        return encoder.encode_layers(prepared, layers)
    # torch has an error of its own for a GPU, and raises RuntimeError on a CPU
    except (MemoryError, RuntimeError) as error:
        if lack_of_memory(error) is None:
            raise
        if len(prepared) == 1:
            raise OutOfMemoryError(
                f"encoder {encoder.name!r} lacks the memory for one item: "
                f"{str(error).splitlines()[0]}"
            ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    fitting[encoder.name] = len(prepared) // 2
    return encode_within_memory(encoder, prepared, layers, fitting)
