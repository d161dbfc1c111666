"""Build a timm model from a hub directory, of today's timm or of an older one, and load it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import timm
import timm.models
import torch
from torch import Tensor, nn

from ...errors import WeightsMismatchError, WeightsNotFoundError
from ..card import EncoderCard
from ..weights import OF_TIMM, PARTS, Weights, read_config, weights_in
from ._checks import LIBRARY_ERRORS, check_keys, unreadable

# Names under which files keep classifiers that `num_classes=0` builds no place for.
_CLASSIFIERS = ("head", "head_dist", "fc", "classifier")
# Entries of flat configurations that say nothing of the input: timm before 0.8 wrote them.
_FLAT_REST = ("architecture", "num_features", "global_pool", "labels", "model_args")
_WRAPPED = "timm_model."  # before each name, as transformers saves a model of timm
_COLOURS = 3  # channels of a photo


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """Description of a timm model, as `timm.create_model` takes it.

    Attributes:
        architecture: Name of the architecture; a tag names weights only.
        arguments: Arguments of the architecture, as JSON values; the classifier is left out.
        pretrained: Where preprocessing is described, or None for what timm keeps for the name.
        is_resolved: Whether `pretrained` has the size of the input in any case, as the timm of
            today writes it; models that read any size may be built for another, `img_size`.
    """

    architecture: str
    arguments: dict[str, Any]
    pretrained: dict[str, Any] | None
    is_resolved: bool = False

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Return height and width of the input, where the arguments alone say it."""
        if self.is_resolved:
            return None
        size = self.arguments.get("img_size")
        if isinstance(size, int):
            return size, size
        return None if size is None else (int(size[0]), int(size[1]))


def describe(card: EncoderCard, files: Path | None) -> ModelDescription:
    """Read what a hub directory says of its model; a bare file is one of the card's own model.

    Raises:
        WeightsMismatchError: The configuration describes no model of this version of timm that
            reads photos.
    """
    path = None if files is None else files / "config.json"
    if path is None or not path.is_file():
        description = ModelDescription(architecture=card.model, arguments={}, pretrained=None)
        return _checked(card, description, files or Path("the card"))
    config = read_config(card, path)
    if is_of_transformers(config):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {files} holds a model of transformers, and its card is of timm"
        )
    architecture = config.get("architecture", card.model)
    arguments = config.get("model_args") or {}
    if not isinstance(architecture, str) or not isinstance(arguments, dict):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {path} must hold a name as architecture and a table as "
            f"model_args; found {architecture!r:.60} and {arguments!r:.60}"
        )
    description = ModelDescription(
        architecture=architecture,
        arguments={key: arguments[key] for key in arguments if key != "num_classes"},
        pretrained=_pretrained(card, config, path),
        is_resolved="num_classes" in arguments,  # which older versions did not write there
    )
    return _checked(card, description, path)


def is_of_transformers(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is of a model that transformers builds without timm."""
    is_named = "model_type" in config and config["model_type"] != OF_TIMM
    return is_named and "architecture" not in config


def build(card: EncoderCard, description: ModelDescription, place: Path | None) -> Any:
    """Build the model without its classifier, its weights random.

    Raises:
        WeightsMismatchError: timm does not build the architecture with these arguments.
    """
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in description.arguments.items()
    }
    if description.pretrained is not None:
        arguments["pretrained_cfg"] = description.pretrained
    create: Any = timm.create_model  # Any: a timm model has more than nn.Module knows
    try:
        return create(description.architecture, pretrained=False, num_classes=0, **arguments)
    except LIBRARY_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsMismatchError(
            f"encoder {card.name!r}: timm {timm.__version__} cannot build "
            f"{description.architecture!r} as {place or 'its card'} describes it: {reason:.200}"
        ) from error


def load(model: nn.Module, card: EncoderCard, weights: Weights) -> None:
    """Load the weights, all but those of a classifier.

    Raises:
        WeightsMismatchError: They are not those of the model.
        WeightsNotFoundError: The hub directory holds none.
    """
    expected = model.state_dict()
    classifiers = _classifiers(model)
    state = {
        name: value
        for name, value in _read_state(card, weights).items()
        if name in expected or not _is_within(name, classifiers)
    }
    if card.weights.mapping == "by-order" and set(state).isdisjoint(expected):
        state = _rename_by_order(card, state, expected)
    missing, unexpected = set(expected) - set(state), set(state) - set(expected)
    check_keys(card, weights.origin, missing=missing, unexpected=unexpected)
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise WeightsMismatchError(
                f"encoder {card.name!r} ({card.model}): {name} must have shape "
                f"{tuple(tensor.shape)}, found {tuple(state[name].shape)}"
            )
    model.load_state_dict(state, strict=True)


def _pretrained(card: EncoderCard, config: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """Return the description of the preprocessing in a configuration, nested or flat."""
    nested = config.get("pretrained_cfg")
    if nested is not None and not isinstance(nested, dict):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: pretrained_cfg in {path} is not a table: {nested!r:.60}"
        )
    if nested is None and config.get("model_type") == OF_TIMM:
        return None  # beside the model it has entries of transformers only
    is_nested = "pretrained_cfg" in config
    flat = {key: config[key] for key in config if key not in _FLAT_REST}
    names = {field.name for field in fields(timm.models.PretrainedCfg)}
    unknown = sorted(set((nested if is_nested else flat) or {}) - names)
    if unknown:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: timm {timm.__version__} knows no entry {unknown[0]!r} of a "
            f"pretrained configuration, as {path} has it; update timm, or remove the entry"
        )
    if is_nested:
        return nested
    # not written then: whether the model is built for the size of its input
    registered = timm.get_pretrained_cfg(str(config.get("architecture", card.model)))
    fixed = registered is not None and registered.fixed_input_size and "input_size" in flat
    return {"fixed_input_size": fixed, **flat}


def _checked(card: EncoderCard, description: ModelDescription, place: Path) -> ModelDescription:
    if not timm.is_model(description.architecture):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: this version of timm ({timm.__version__}) has no architecture "
            f"{description.architecture!r}; update timm, or correct "
            f"{'the card' if description.architecture == card.model else place}"
        )
    size = description.arguments.get("img_size")
    if not _is_size(size):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: img_size in {place} must be one number of pixels or two, "
            f"found {size!r:.60}"
        )
    channels = {description.arguments.get("in_chans", _COLOURS)}
    if description.pretrained and "input_size" in description.pretrained:
        size = description.pretrained["input_size"]
        if not isinstance(size, (list, tuple)) or len(size) != 3:
            raise WeightsMismatchError(
                f"encoder {card.name!r}: input_size in {place} must be channels, height and width, "
                f"found {size!r:.60}"
            )
        channels |= {size[0]} if "in_chans" not in description.arguments else set()
    if channels != {_COLOURS}:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the model of {place} reads {min(channels)} channels, photos "
            f"have {_COLOURS}; give weights of a model that reads photos"
        )
    return description


def _is_size(size: object) -> bool:
    if size is None or isinstance(size, int):
        return size is None or size > 0
    edges = size if isinstance(size, (list, tuple)) else ()
    return len(edges) == 2 and all(isinstance(edge, int) and edge > 0 for edge in edges)


def _read_state(card: EncoderCard, weights: Weights) -> dict[str, Tensor]:
    assert weights.files is not None
    place = weights.files
    files = weights_in(card, place) if place.is_dir() else [place]
    if not files:
        raise WeightsNotFoundError(
            f"encoder {card.name!r}: {place} holds none of {', '.join(PARTS)}, nor their parts"
        )
    state: dict[str, Any] = {}
    for path in files:
        if not path.is_file():
            raise WeightsNotFoundError(
                f"encoder {card.name!r}: {path} is not there, one of the parts that the index of "
                "its weights lists; copy the whole directory"
            )
        try:
            state |= timm.models.load_state_dict(str(path), weights_only=True)
        except LIBRARY_ERRORS as error:
            raise unreadable(card, f"weights from {path}", error) from error
    return {
        name.removeprefix(_WRAPPED): value
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def _classifiers(model: Any) -> set[str]:
    """Return the names of the modules that timm or the model itself takes for classifiers."""
    named = model.pretrained_cfg.get("classifier") or ()
    return {*_CLASSIFIERS, *((named,) if isinstance(named, str) else named)}


def _is_within(name: str, modules: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in modules for end in range(1, len(parts)))


def _rename_by_order(
    card: EncoderCard, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Give the first tensors of `state` the names of `expected`; what is left is the classifier."""
    left = len(state) - len(expected)
    if left not in (0, 2):  # weight and bias of the classifier
        raise WeightsMismatchError(
            f"encoder {card.name!r} ({card.model}): its weights are matched by order and must be "
            f"{len(expected)} tensors, or 2 more with a classifier; found {len(state)}"
        )
    return dict(zip(expected, state.values(), strict=False))


def memory_format(model: nn.Module) -> torch.memory_format:
    """Return channels-last for convolutional models, which it makes 1.5 times as fast."""
    is_transformer = any(name.split(".")[-1] == "attn" for name, _ in model.named_modules())
    return torch.contiguous_format if is_transformer else torch.channels_last
