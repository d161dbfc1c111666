"""Mark texts, so that stores alone tell which of them are the same."""

import hashlib
import unicodedata
from dataclasses import replace

from ..types import Modality, Pairs
from .base import Source

_DIGITS = 12  # 48 bits: of a million texts two different ones have one mark with 0.2 %


def text_mark(text: str) -> str:
    """Return a mark that two texts have in common if they say the same.

    Upper case, white space and the way in which Unicode composes a letter make no difference.
    """
    plain = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def marked_pairs(source: Source, split: str) -> Pairs:
    """Return the pairs of a split with the marks of its texts.

    Raises:
        UnknownNameError: The dataset has no such split.
    """
    pairs = source.pairs(split)
    if not pairs.text_ids:
        return pairs
    texts = {item.id: item.text or "" for item in source.items(split, Modality.TEXT)}
    if texts.keys() != set(pairs.text_ids):
        return pairs
    return replace(pairs, text_marks=tuple(text_mark(texts[name]) for name in pairs.text_ids))
