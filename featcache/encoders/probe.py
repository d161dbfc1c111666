"""A few items that are the same for every dataset, to try an encoder on."""

from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from ..errors import UnreadableItemError, WeightsMismatchError
from ..modalities import reader_of
from ..tokens import Tokens
from .base import Encoder

_REPEATED = 2  # items; one would do, were it not for batch statistics
_ROUNDING = 1e-3  # of the largest value: sums on a GPU come in any order, masks change everything


def encode_probe(encoder: Encoder[Any]) -> Tokens:
    """Return the last layer's features of the probe as the encoder is now set."""
    reader = reader_of(encoder.modality)
    return encoder.encode([encoder.prepare(item) for item in reader.probe_items()])


def require_repeatable(encoder: Encoder[Any]) -> None:
    """Encode the same items twice, and refuse an encoder that draws anything at random.

    A cache holds one answer for each item. Models that mask patches at random (ViTMAE), or that
    drop some at inference, have no such answer.

    Raises:
        WeightsMismatchError: The features differ by more than rounding.
    """
    reader = reader_of(encoder.modality)
    try:
        prepared = [encoder.prepare(item) for item in reader.probe_items(_REPEATED)]
    except UnreadableItemError:  # what it can make nothing of is in no cache, but in its ledger
        return
    first, second = encoder.encode(prepared), encoder.encode(prepared)
    is_same = first.values.shape == second.values.shape and torch.equal(first.mask, second.mask)
    if is_same:
        ours, other = first.values[first.mask], second.values[second.mask]
        atol = _ROUNDING * float(torch.nan_to_num(ours).abs().max())
        is_same = torch.allclose(ours, other, rtol=0, atol=atol, equal_nan=True)
    if not is_same:
        raise WeightsMismatchError(
            f"encoder {encoder.name!r} encodes the same {reader.singular} twice, "
            "differently: it masks or drops at random, and nothing that it gives can be cached; "
            "choose another encoder, or switch the masking off in its configuration"
        )


def smallest_cosine(exact: Tokens, other: Tokens) -> float:
    """Return the smallest cosine of a token to its self in other features of the same items."""
    first, second = exact.values[exact.mask], other.values[exact.mask]
    cosines = cosine_similarity(first, second, dim=1)
    cosines[(first == second).all(dim=1)] = 1.0  # two tokens of zeros have no angle
    return float(torch.min(cosines))
