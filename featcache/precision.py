"""Choose the type of an encoder's matrix products: bfloat16 where it is fast and measured safe."""

from typing import Any

import torch

from .encoder import PRECISIONS, Encoder
from .hardware import has_fast_bfloat16
from .probe import encode_probe, smallest_cosine
from .registry import unknown_name

SAFE_COSINE = 0.999  # below it single tokens begin to point elsewhere (EfficientNet-Lite0: 0.87)


def choose_precision(encoder: Encoder[Any], wanted: str, device: torch.device) -> float | None:
    """Set the precision of `encoder` and return what was measured for it.

    `auto` takes bfloat16 where the device is fast at it and no token of a fixed probe batch (drawn
    scenes or their captions) has a cosine to its float32 self below `SAFE_COSINE`. The probe is the
    same for every dataset, so that all splits of all datasets get the same answer.

    Args:
        encoder: The encoder, in float32.
        wanted: `auto`, `float32` or `bfloat16`.
        device: Where it runs.

    Returns:
        The smallest cosine of a token to its float32 self, or None in float32 without a probe.

    Raises:
        UnknownNameError: There is no such precision.
    """
    if wanted not in {"auto", *PRECISIONS}:
        raise unknown_name("precision", wanted, ["auto", *PRECISIONS])
    if wanted == "float32" or (wanted == "auto" and not has_fast_bfloat16(device)):
        return None
    exact = encode_probe(encoder)
    encoder.precision = "bfloat16"
    cosine = smallest_cosine(exact, encode_probe(encoder))
    encoder.precision = "bfloat16" if wanted == "bfloat16" or cosine >= SAFE_COSINE else "float32"
    return cosine
