"""A few items that are the same for every dataset, to try an encoder on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from .encoder import Encoder
from .sources.shapes import ShapesSource
from .tokens import Tokens
from .types import Item, Modality

PROBE_ITEMS = 8


def probe_items(modality: Modality, count: int = PROBE_ITEMS) -> Sequence[Item]:
    """Return drawn scenes, or their captions."""
    assert modality in (Modality.IMAGE, Modality.TEXT)
    source = ShapesSource(Path(), train=1, val=1, test=count)
    return source.items("test", modality)[:count]


def encode_probe(encoder: Encoder[Any]) -> Tokens:
    """Return the last layer's features of the probe as the encoder is now set."""
    return encoder.encode([encoder.prepare(item) for item in probe_items(encoder.modality)])


def smallest_cosine(exact: Tokens, other: Tokens) -> float:
    """Return the smallest cosine of a token to its self in other features of the same items."""
    first, second = exact.values[exact.mask], other.values[exact.mask]
    cosines = cosine_similarity(first, second, dim=1)
    cosines[(first == second).all(dim=1)] = 1.0  # two tokens of zeros have no angle
    return float(torch.min(cosines))
