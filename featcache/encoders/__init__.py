"""Frozen encoders: found by name, loaded with checked weights, run on prepared items.

`base` is the contract, a card says what is known of an encoder before any of its files are there,
and `loading` builds one of the `backends` from it. The rest decides how an encoder computes and
what of its tokens is kept.
"""

from typing import TYPE_CHECKING

from ..exports import lazy_exports

if TYPE_CHECKING:
    from .base import Encoder
    from .card import EncoderCard
    from .loading import open_encoder
    from .pooling import FeaturePooling
    from .references import find_card
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Encoder": "base",
            "EncoderCard": "card",
            "FeaturePooling": "pooling",
            "find_card": "references",
            "open_encoder": "loading",
        },
    )

__all__ = ["Encoder", "EncoderCard", "FeaturePooling", "find_card", "open_encoder"]
