"""Vision and text models of transformers, from hub directories."""

from typing import Any

import torch

from ...types import Modality
from ..base import Encoder
from ..card import EncoderCard
from ..weights import Weights
from ._text import TextEncoder
from ._transformers_encoder import TransformersEncoder
from ._vision import VisionEncoder

_CLASSES: dict[Modality, type[TransformersEncoder[Any]]] = {
    Modality.IMAGE: VisionEncoder,
    Modality.TEXT: TextEncoder,
}


class HuggingfaceEncoder(TransformersEncoder[Any]):
    """Encode images or texts with a transformers model: all tokens after its final norm.

    Vision models that normalise only their pooled vector (CLIP, BEiT, ConvNeXt) have that norm
    applied to every token; a model that has no final norm gives its last output. Of a directory of
    two towers it is the one of the card's modality, of one with a decoder the encoder. ViT-MAE
    masks nothing. Texts keep their special tokens, are cut at the card's `max_tokens`, and padding
    is masked. Images have no `geometry` where their processor does more than resize, crop the
    centre and pad by its settings, as that of ConvNeXT does: it would tell wrong places.
    """

    modalities = tuple(_CLASSES)

    @classmethod
    def build(cls, card: EncoderCard, weights: Weights, *, device: torch.device) -> Encoder[Any]:
        """Return the encoder of the card's modality, of this backend's card or of `timm`'s.

        Raises:
            WeightsMismatchError: The files are not a complete model, or not that of the card.
            WeightsNotFoundError: The tokenizer or the image processor is missing.
        """
        return _CLASSES[card.modality](card, weights, device=device)
