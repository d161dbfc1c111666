"""Precision and compilation of an encoder: float32 or bfloat16, eager or compiled by torch.

Either choice is measured on the probe items before it is taken.
"""

from typing import Any

import torch

from ..errors import CompileError
from ..hardware import has_fast_bfloat16
from ..registry import unknown_name
from .base import PRECISIONS, Encoder
from .probe import encode_probe, smallest_cosine

SAFE_COSINE = 0.999  # below it single tokens begin to point elsewhere (EfficientNet-Lite0: 0.87)
SAME_COSINE = 0.9999  # of float32 rounded otherwise; a wrong kernel is far below


def choose_precision(encoder: Encoder[Any], precision: str, device: torch.device) -> float | None:
    """Set the precision of `encoder` and return what was measured for it.

    `auto` takes bfloat16 where the device is fast at it and no token of a fixed probe batch (drawn
    scenes or their captions) has a cosine to its float32 self below `SAFE_COSINE`. The probe is the
    same for every dataset, so that all splits of all datasets get the same answer.

    Returns:
        The smallest cosine of a token to its float32 self, or None in float32 without a probe.

    Raises:
        UnknownNameError: There is no such precision.
    """
    if precision not in {"auto", *PRECISIONS}:
        raise unknown_name("precision", precision, ["auto", *PRECISIONS])
    if precision == "float32" or (precision == "auto" and not has_fast_bfloat16(device)):
        return None
    exact = encode_probe(encoder)
    encoder.precision = "bfloat16"
    cosine = smallest_cosine(exact, encode_probe(encoder))
    if precision == "auto" and not cosine >= SAFE_COSINE:
        encoder.precision = "float32"
    return cosine


def compile_encoder(encoder: Encoder[Any]) -> float:
    """Compile the encoder's model and return what that did to the features of the probe.

    Compiled kernels round otherwise, as another batch size does, so that compiling is no part of a
    store's key.

    Returns:
        The smallest cosine of a token to its self without compiling.

    Raises:
        SpecError: The encoder has nothing to compile.
        CompileError: Compiling fails on this machine, or changes the features.
    """
    exact = encode_probe(encoder)
    encoder.compile()
    try:
        compiled = encode_probe(encoder)
    except Exception as error:  # the compilers behind torch raise errors of all kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CompileError(
            f"encoder {encoder.name!r} cannot be compiled on this machine ({reason}): "
            "leave --compile out"
        ) from error
    cosine = smallest_cosine(exact, compiled)
    if not cosine >= SAME_COSINE:
        raise CompileError(
            f"encoder {encoder.name!r} gives other features when it is compiled (smallest cosine "
            f"of a token to its self: {cosine:.5f}): leave --compile out"
        )
    return cosine
