"""Vision models of timm, from its hub directories or from bare weights files."""

import inspect
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import timm.models
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from ..card import EncoderCard
from ..encoder import LAST, Content, Encoder, without_pooled
from ..errors import SpecError, WeightsMismatchError, WeightsNotFoundError
from ..kinds import POOLED, LayerLayout
from ..portable import ModelCall, Portable
from ..tokens import Tokens
from ..types import Modality
from ..weights import Weights, read_config
from ._checks import check_keys, check_layout, hash_state
from ._images import (
    TimmPreprocessing,
    all_real,
    compute_precision,
    final_tokens,
    geometry_companions,
    geometry_names,
    probe_image,
    scaled_layout,
)

# Names under which files keep classifiers that `num_classes=0` builds no place for.
_CLASSIFIERS = ("head", "head_dist", "fc", "classifier")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmEncoder(Encoder[Tensor]):
    """Encode images with a timm model: all tokens after its final norm.

    Transformers give prefix tokens, then patches row by row; convolutional models give the cells
    of their last feature map row by row. Models that normalise only their pooled vector (BEiT)
    have that norm (`fc_norm`) applied to every token.

    Args:
        card: Card of the encoder; `model` is a timm architecture.
        weights: Weights file, or timm hub directory whose `config.json` then decides
            architecture and preprocessing.
        device: Where the model runs.

    Raises:
        WeightsMismatchError: The weights do not fit the model, or the model not the card.
        WeightsNotFoundError: The hub directory holds no weights file.
    """

    modality = Modality.IMAGE

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        assert weights.files is not None, "a timm card names weights"
        self.name = card.name
        self.width = card.width
        self.tokens_per_item = card.layout.tokens_per_item
        self._device = device
        self._architecture, options = _describe(card, weights.files)
        build: Any = timm.create_model  # Any: a timm model has more than nn.Module knows
        self._model = build(self._architecture, pretrained=False, num_classes=0, **options)
        _load(self._model, card, weights)
        self._options = {key: options[key] for key in options if key != "pretrained_cfg"}
        self._hash = hash_state(self._model.state_dict())
        self._norm = _norm_of_tokens(self._model)
        size = options.get("img_size")
        self._preprocessing = TimmPreprocessing(
            self._model.pretrained_cfg, image_size=size if isinstance(size, int) else None
        )
        self.companion_names = geometry_names(self._preprocessing)
        self._memory = _memory_format(self._model)
        self._model.eval().requires_grad_(False).to(device).to(memory_format=self._memory)
        self._num_layers, self._intermediate_options = _intermediates_of(self._model)
        grid = card.layout.grid
        assert grid is not None, "an image card has a grid"
        self._layouts = {
            LAST: LayerLayout(
                width=card.width,
                prefix_tokens=card.layout.prefix_tokens,
                grid=(grid[0], grid[1]),
            )
        }
        (probe,) = self._forward(probe_image(self._preprocessing), [LAST])
        check_layout(card, tokens=probe.shape[1], width=probe.shape[2])

    def identity(self) -> dict[str, object]:
        """Return ALL that changes the numbers, as JSON values."""
        return {
            "backend": "timm",
            "model": self._architecture.partition(".")[0],  # the tag only names the weights
            "options": self._options,
            "weights": self._hash,
            "preprocessing": self._preprocessing.identity(),
            "final_norm": "norm" if isinstance(self._norm, nn.Identity) else "fc-norm on tokens",
            "precision": self.precision,
        }

    def preprocess(
        self, content: Content, *, item_id: str
    ) -> Float[Tensor, "channels height width"]:
        """Resize, crop and normalise one decoded image.

        Raises:
            UnreadableItemError: Resized it would be too large.
        """
        assert isinstance(content, Image.Image)
        return self._preprocessing.of_item(content, item_id=item_id)

    def encode(self, batch: Sequence[Float[Tensor, "channels height width"]]) -> Tokens:
        """Return all tokens of `batch`, float32 on the CPU."""
        return self.encode_layers(batch, [LAST])[0]

    def encode_layers(
        self, batch: Sequence[Float[Tensor, "channels height width"]], layers: Sequence[int]
    ) -> list[Tokens]:
        """Return all tokens of several layers; -1 is after the final norm.

        Layers before it are blocks of a transformer, but stages of a convolutional model.

        Raises:
            SpecError: The model has no such layer.
        """
        return [all_real(found) for found in self._forward(torch.stack(list(batch)), layers)]

    def layout(self, layer: int = LAST) -> LayerLayout:
        """Return which tokens `layer` returns, from one forward pass for layers before the last.

        Raises:
            SpecError: The model has no such layer, or its tokens form no grid.
        """
        if layer not in self._layouts:
            (values,) = self._forward(probe_image(self._preprocessing), [layer])
            if layer == POOLED:
                return LayerLayout(width=values.shape[2])
            self._layouts[layer] = scaled_layout(values, self._layouts[LAST])
        return self._layouts[layer]

    def portable(self, layer: int = LAST) -> Portable:
        """Return the model up to `layer`; it takes `pixel_values` as `preprocess` gives them.

        Raises:
            SpecError: The model has no such layer.
        """
        self._check_layers([layer])
        return Portable(
            model=ModelCall(lambda images: self._features(images, [layer])[0], self._model),
            axes={"pixel_values": {0: "batch"}},
            collate=lambda batch: (torch.stack(list(batch)),),
        )

    def compile(self) -> None:
        """Have the model compiled by torch.compile when it next runs."""
        for name in ("forward_features", "forward_intermediates"):
            if hasattr(self._model, name):
                setattr(self._model, name, torch.compile(getattr(self._model, name)))

    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        """Return where in the image the patches lie; see `featcache/geometry.py`."""
        assert isinstance(content, Image.Image)
        return geometry_companions(self._preprocessing, content)

    @torch.inference_mode()
    def _forward(
        self, images: Float[Tensor, "batch channels height width"], layers: Sequence[int]
    ) -> list[Float[Tensor, "batch _ _"]]:
        self._check_layers(layers)
        images = images.to(self._device, memory_format=self._memory)
        with compute_precision(self._device, self.precision):
            return self._features(images, layers)

    def _check_layers(self, layers: Sequence[int]) -> None:
        if POOLED in layers and not hasattr(self._model, "forward_head"):
            raise without_pooled(self.name)
        for layer in layers:
            if layer != POOLED and not -self._num_layers <= layer < 0:
                raise SpecError(
                    f"encoder {self.name!r} ({self._architecture}) has layers -1 to "
                    f"{-self._num_layers}, found {layer}"
                )

    def _features(
        self, images: Float[Tensor, "batch channels height width"], layers: Sequence[int]
    ) -> list[Float[Tensor, "batch _ _"]]:
        earlier = sorted({layer for layer in layers if layer not in (LAST, POOLED)})
        found: dict[int, Tensor] = {}
        if not earlier:
            features: Tensor = self._model.forward_features(images)
        else:
            features, intermediates = self._intermediates(images, earlier)
            found = dict(zip(earlier, intermediates, strict=True))
        found[LAST] = final_tokens(features, self._norm)
        if POOLED in layers:
            found[POOLED] = self._pooled(features)
        return [found[layer] for layer in layers]

    def _pooled(self, features: Tensor) -> Float[Tensor, "batch one width"]:
        """Return what the model's own head pools, before any classifier."""
        vectors: Tensor = self._model.forward_head(features, pre_logits=True)
        if vectors.ndim != 2:
            raise without_pooled(self.name)
        return vectors[:, None]

    def _intermediates(
        self, images: Float[Tensor, "batch channels height width"], layers: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the model's features, and tokens of blocks (or stages, where it has no tokens)."""
        features, found = self._model.forward_intermediates(
            images, indices=list(layers), norm=False, **self._intermediate_options
        )
        return features, [_as_tokens(one) for one in found]


def _intermediates_of(model: Any) -> tuple[int, dict[str, bool]]:
    """Return how many layers a timm model can give, and the options that give all their tokens."""
    forward = getattr(model, "forward_intermediates", None)
    if forward is None:
        return 1, {}
    has_prefix = "return_prefix_tokens" in inspect.signature(forward).parameters
    return len(model.feature_info), {"return_prefix_tokens": True} if has_prefix else {}


def _as_tokens(found: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Join a map [batch, width, rows, columns] and its prefix tokens, if any, to tokens."""
    cells, prefix = found if isinstance(found, tuple) else (found, None)
    tokens = cells.flatten(2).transpose(1, 2)
    return tokens.contiguous() if prefix is None else torch.cat([prefix, tokens], dim=1)


def _describe(card: EncoderCard, files: Path) -> tuple[str, dict[str, Any]]:
    """Return the architecture and the further options of `timm.create_model`."""
    architecture, options = card.model, {}
    if (files / "config.json").is_file():
        config = read_config(card, files / "config.json")
        architecture = str(config.get("architecture", card.model))
        options = dict(config.get("model_args", {}))
        if "pretrained_cfg" in config:
            options["pretrained_cfg"] = config["pretrained_cfg"]
    if not timm.is_model(architecture):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: this version of timm ({timm.__version__}) has no architecture "
            f"{architecture!r}; update timm, or correct {files if files.is_dir() else 'the card'}"
        )
    return architecture, options


def _load(model: nn.Module, card: EncoderCard, weights: Weights) -> None:
    assert weights.files is not None
    expected = model.state_dict()
    state = _read_state(card, weights)
    state = {name: value for name, value in state.items() if not _is_classifier(name, expected)}
    if card.weights.mapping == "by-order" and set(state).isdisjoint(expected):
        state = _rename_by_order(card, state, expected)
    check_keys(
        card,
        weights.origin,
        missing=set(expected) - set(state),
        unexpected=set(state) - set(expected),
    )
    _check_shapes(card, state, expected)
    model.load_state_dict(state, strict=True)


def _read_state(card: EncoderCard, weights: Weights) -> dict[str, Tensor]:
    assert weights.files is not None
    path = weights.files
    if path.is_dir():
        found = [path / name for name in _HUB_FILES if (path / name).is_file()]
        if not found:
            raise WeightsNotFoundError(
                f"encoder {card.name!r}: {path} holds none of {', '.join(_HUB_FILES)}"
            )
        path = found[0]
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsMismatchError(
            f"encoder {card.name!r}: cannot read weights from {path}: {reason}"
        ) from error
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _is_classifier(name: str, expected: Mapping[str, Tensor]) -> bool:
    return name not in expected and name.split(".")[0] in _CLASSIFIERS


def _rename_by_order(
    card: EncoderCard, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Give the first tensors of `state` the names of `expected`; what is left is the classifier.

    Raises:
        WeightsMismatchError: There are fewer tensors, or more than a classifier is left.
    """
    left = len(state) - len(expected)
    if left not in (0, 2):  # weight and bias of the classifier
        raise WeightsMismatchError(
            f"encoder {card.name!r} ({card.model}): its weights are matched by order and must be "
            f"{len(expected)} tensors, or 2 more with a classifier; found {len(state)}"
        )
    return dict(zip(expected, state.values(), strict=False))


def _check_shapes(
    card: EncoderCard, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise WeightsMismatchError(
                f"encoder {card.name!r} ({card.model}): {name} must have shape "
                f"{tuple(tensor.shape)}, found {tuple(state[name].shape)}"
            )


def _norm_of_tokens(model: nn.Module) -> nn.Module:
    """Return `fc_norm` where the model leaves its tokens without a norm, else the identity."""
    modules = dict(model.named_children())
    bare = isinstance(modules.get("norm"), nn.Identity)
    return modules["fc_norm"] if bare and "fc_norm" in modules else nn.Identity()


def _memory_format(model: nn.Module) -> torch.memory_format:
    """Return channels-last for convolutional models, which it makes 1.5 times as fast."""
    is_transformer = any(name.split(".")[-1] == "attn" for name, _ in model.named_modules())
    return torch.contiguous_format if is_transformer else torch.channels_last
