"""Classes of transformers that read the images or the texts of a directory."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from ...errors import WeightsMismatchError
from ...types import Modality
from ..card import EncoderCard

# Of a model of two towers: names of each in the configuration and in the model, and its method.
CONFIGS = {Modality.IMAGE: ("vision_config", "image_config"), Modality.TEXT: ("text_config",)}
HALVES = {Modality.IMAGE: ("vision_model", "image_model"), Modality.TEXT: ("text_model",)}
VERBS = {Modality.IMAGE: "get_image_features", Modality.TEXT: "get_text_features"}
OTHER = {Modality.IMAGE: Modality.TEXT, Modality.TEXT: Modality.IMAGE}
# Their towers have classes of their own, which read a whole directory.
_WITH_TOWER_CLASSES = ("clip", "siglip")
_INPUTS = {Modality.IMAGE: "pixel_values", Modality.TEXT: "input_ids"}
_NOT_OF_ONE_IMAGE = {  # by an entry of the configuration
    "num_frames": "reads videos, not single images",
    "num_detection_tokens": "ends in the queries of a detector, which are no patches of an image",
}
MASKING = ("vit_mae",)  # these leave patches out at random, unless told not to
# Built without the pooler that holds their final norm, unless asked for.
_WITHOUT_POOLER = ("data2vec-vision",)
# Their encoder's class is not built where the configuration has a decoder, too.
_BUILT_ALONE = ("t5gemma",)


@dataclass(frozen=True, kw_only=True)
class Tower:
    """Class that reads one modality of a directory.

    Attributes:
        model_class: Class of transformers with a `from_pretrained`.
        in_pair: Whether the directory holds a tower of the other modality, too.
        halves: Names of which one is the tower within the class, or none if the class is the tower.
        in_decoder: Whether the class also has a decoder, of which nothing is read.
        beside_decoder: Whether the directory may hold one that the class has not.
        options: Further arguments of `from_pretrained`.
    """

    model_class: Any
    in_pair: bool = False
    halves: tuple[str, ...] = ()
    in_decoder: bool = False
    beside_decoder: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def find_tower(card: EncoderCard, config: Any) -> Tower:
    """Return the class that reads the modality of `card`.

    Raises:
        WeightsMismatchError: The directory is that of a pair whose tower transformers has no class
            for.
    """
    if is_pair(config):
        return _tower_of_pair(card, config)
    if card.modality is Modality.TEXT and config.model_type in _encoders_of_decoders():
        name = _encoders_of_decoders()[config.model_type]
        alone = {"is_encoder_decoder": False} if config.model_type in _BUILT_ALONE else {}
        return Tower(model_class=getattr(transformers, name), beside_decoder=True, options=alone)
    options = {"add_pooling_layer": True} if config.model_type in _WITHOUT_POOLER else {}
    return Tower(
        model_class=transformers.AutoModel,
        in_decoder=card.modality is Modality.TEXT and bool(config.is_encoder_decoder),
        options=options,
    )


def _tower_of_pair(card: EncoderCard, config: Any) -> Tower:
    part = next(name for name in CONFIGS[card.modality] if name in vars(config))
    if config.model_type in _WITH_TOWER_CLASSES:
        name = type(getattr(config, part)).__name__.removesuffix("Config") + "Model"
        return Tower(model_class=getattr(transformers, name), in_pair=True)
    model_class = modeling_auto.MODEL_MAPPING.get(type(config), None)
    # a model that talks of images has both configurations, but not these
    if not all(hasattr(model_class, verb) for verb in VERBS.values()):
        raise not_plain(card, type(config).__name__.removesuffix("Config"))
    halves = HALVES[card.modality]
    return Tower(model_class=transformers.AutoModel, in_pair=True, halves=halves)


def is_pair(config: Any) -> bool:
    """Return whether a configuration is that of an image and a text tower."""
    return all(any(name in vars(config) for name in names) for names in CONFIGS.values())


def check_input(card: EncoderCard, model: Any, *, of_pair: bool = False) -> None:
    """Refuse a model that is no plain encoder of the card's modality.

    What half of a pair reads, `of_pair`, is told by its place.

    Raises:
        WeightsMismatchError: It reads something else, is a pair, has a decoder, needs more than
            that one input, or its tokens are not those of the item alone.
    """
    expected = _INPUTS[card.modality]
    parts = any(name in vars(model.config) for names in CONFIGS.values() for name in names)
    reads = expected if of_pair else str(model.main_input_name)
    has_decoder = bool(model.config.is_encoder_decoder) and hasattr(model, "decoder")
    if reads != expected or parts or has_decoder:
        raise not_plain(card, type(model).__name__)
    for name, reason in _NOT_OF_ONE_IMAGE.items():
        if card.modality is Modality.IMAGE and hasattr(model.config, name):
            raise WeightsMismatchError(f"encoder {card.name!r}: {type(model).__name__} {reason}")
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


def encoder_of(card: EncoderCard, model: Any) -> Any:
    """Return the encoder of a model that also has a decoder.

    Raises:
        WeightsMismatchError: It reads no texts.
    """
    if str(model.main_input_name) != _INPUTS[card.modality]:
        raise not_plain(card, type(model).__name__)
    encoder = model.get_encoder()
    if not hasattr(encoder, "config"):
        encoder.config = model.config
    return encoder


def unused_positions(model: nn.Module) -> int:
    """Return how many positions no token has, as those that begin after the padding id leave."""
    paddings = [
        module.padding_idx
        for name, module in model.named_modules()
        if "position" in name and isinstance(module, nn.Embedding)
    ]
    return max((index + 1 for index in paddings if index is not None), default=0)


def not_plain(card: EncoderCard, name: str) -> WeightsMismatchError:
    """Build the error for a model that is not an encoder of the card's modality."""
    return WeightsMismatchError(
        f"encoder {card.name!r} reads {card.modality.value}s, but {name} is not a plain encoder of "
        f"them; give the weights of {card.model}"
    )


def _encoders_of_decoders() -> dict[str, str]:
    """Return the classes that are the encoder alone of an encoder and a decoder, such as T5."""
    names = modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    return {key: name for key, name in names.items() if name.endswith("EncoderModel")}
