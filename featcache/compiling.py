"""Compile an encoder with torch.compile, and see that it still gives the same features."""

from typing import Any

from .encoder import Encoder
from .errors import CompileError
from .probe import encode_probe, smallest_cosine

SAME_COSINE = 0.9999  # of float32 rounded otherwise; a wrong kernel is far below


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
