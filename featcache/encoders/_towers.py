"""Which class of transformers reads the images or the texts of a directory."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import transformers

from ..card import EncoderCard
from ..errors import WeightsMismatchError
from ..types import Modality

_PARTS = {  # of the configuration of a model of two towers
    Modality.IMAGE: ("vision_config", "image_config"),
    Modality.TEXT: ("text_config",),
}
_INPUTS = {Modality.IMAGE: "pixel_values", Modality.TEXT: "input_ids"}
# Built without the pooler that holds their final norm, unless asked for.
_WITHOUT_POOLER = ("data2vec-vision",)


@dataclass(frozen=True, kw_only=True)
class Tower:
    """Class that reads one modality of a directory.

    Attributes:
        model_class: Class of transformers with a `from_pretrained`.
        in_pair: Whether the directory holds a tower of the other modality, too.
        in_decoder: Whether the class also has a decoder, of which nothing is read.
        options: Further arguments of `from_pretrained`.
    """

    model_class: Any
    in_pair: bool = False
    in_decoder: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def find_tower(card: EncoderCard, config: Any) -> Tower:
    """Return the class that reads the modality of `card`.

    Raises:
        WeightsMismatchError: The directory is that of a pair whose tower transformers has no class
            for.
    """
    part = next((name for name in _PARTS[card.modality] if name in vars(config)), None)
    if part is not None and is_pair(config):
        name = type(getattr(config, part)).__name__.removesuffix("Config") + "Model"
        model_class = getattr(transformers, name, None)
        if model_class is None:
            raise not_plain(card, type(config).__name__.removesuffix("Config"))
        return Tower(model_class=model_class, in_pair=True)
    if card.modality is Modality.TEXT and config.model_type in _encoders_of_decoders():
        return Tower(model_class=getattr(transformers, _encoders_of_decoders()[config.model_type]))
    options = {"add_pooling_layer": True} if config.model_type in _WITHOUT_POOLER else {}
    return Tower(
        model_class=transformers.AutoModel,
        in_decoder=card.modality is Modality.TEXT and bool(config.is_encoder_decoder),
        options=options,
    )


def is_pair(config: Any) -> bool:
    """Return whether a configuration is that of an image and a text tower."""
    return all(any(name in vars(config) for name in names) for names in _PARTS.values())


def check_input(card: EncoderCard, model: Any) -> None:
    """Refuse a model that is no plain encoder of the card's modality.

    Raises:
        WeightsMismatchError: It reads something else, is a pair, has a decoder, or needs more than
            that one input.
    """
    expected = _INPUTS[card.modality]
    parts = any(name in vars(model.config) for names in _PARTS.values() for name in names)
    if str(model.main_input_name) != expected or parts or has_decoder(model):
        raise not_plain(card, type(model).__name__)
    needed = [
        name
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name != expected
    ]
    if needed:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {type(model).__name__} needs {' and '.join(needed)} beside "
            f"{expected}, as images of several sizes in one batch do; it cannot be read here"
        )


def has_decoder(model: Any) -> bool:
    """Return whether a model is more than the encoder of an encoder and a decoder."""
    return bool(model.config.is_encoder_decoder) and hasattr(model, "decoder")


def not_plain(card: EncoderCard, name: str) -> WeightsMismatchError:
    """Build the error for a model that is not an encoder of the card's modality."""
    return WeightsMismatchError(
        f"encoder {card.name!r} reads {card.modality.value}s, but {name} is not a plain encoder of "
        f"them; give the weights of {card.model}"
    )


def _encoders_of_decoders() -> dict[str, str]:
    """Return the classes that are the encoder alone of an encoder and a decoder, such as T5."""
    from transformers.models.auto import modeling_auto

    names = modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    return {key: name for key, name in names.items() if name.endswith("EncoderModel")}
