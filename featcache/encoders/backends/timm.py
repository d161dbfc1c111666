"""Vision models of timm, from its hub directories or from bare weights files."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from ...errors import SpecError
from ...tokens import Tokens
from ...types import Modality
from ..base import LAST, Content, Encoder, without_pooled
from ..card import EncoderCard
from ..exportable import ExportableEncoder, ModelCall
from ..pooling import POOLED, LayerLayout
from ..weights import Weights
from ._checks import check_grid, check_layout, has_class_token, hash_state
from ._image_preprocessing import (
    TimmPreprocessing,
    all_real,
    compute_precision,
    probe_image,
    scaled_layout,
)
from ._timm_models import build, describe, load, memory_format
from ._timm_tokens import FeatureShape, FinalNorm, find_norm, find_shape, in_order


class TimmEncoder(Encoder[Tensor]):
    """Encode images with a timm model: all tokens after its final norm.

    Transformers give prefix tokens, then patches row by row; convolutional models give the cells
    of their last feature map row by row. Models that normalise only their pooled vector (BEiT,
    ConvNeXt) have that norm (`fc_norm`, `head.norm`) applied to every token. Layers before the last
    are blocks of a transformer, but stages of a convolutional model.

    The card's `model` is a timm architecture. Weights are a file, or a timm hub directory whose
    `config.json` then decides architecture and preprocessing.

    Raises:
        WeightsMismatchError: The weights do not fit the model, or the model not the card.
        WeightsNotFoundError: The hub directory holds no weights file.
    """

    modalities = (Modality.IMAGE,)

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        assert weights.files is not None, "a timm card names weights"
        super().__init__(card, weights, device=device)
        description = describe(card, weights.files)
        self._architecture = description.architecture
        self._options = description.arguments
        self._model = build(card, description, weights.files)
        load(self._model, card, weights)
        self._hash = hash_state(self._model.state_dict())
        self._preprocessing = TimmPreprocessing(
            self._model.pretrained_cfg, image_size=description.image_size
        )
        self.companion_names = self._preprocessing.companion_names
        self._memory = memory_format(self._model)
        self._model.eval().requires_grad_(False).to(device).to(memory_format=self._memory)
        self._num_layers, self._intermediate_options = _intermediates_of(self._model)
        self._shape, self._norm = self._find_tokens(card)
        self._layouts = {
            LAST: LayerLayout(
                width=card.width,
                prefix_tokens=card.layout.prefix_tokens,
                grid=self._shape.grid,
                first_is_class=has_class_token(self._model),
            )
        }

    @override
    def identity(self) -> dict[str, object]:
        return {
            "backend": "timm",
            "model": self._architecture.partition(".")[0],  # the tag only names the weights
            "options": self._options,
            "weights": self._hash,
            "preprocessing": self._preprocessing.identity(),
            "final_norm": self._norm.described,
            "precision": self.precision,
        }

    @override
    def preprocess(
        self, content: Content, *, item_id: str
    ) -> Float[Tensor, "channels height width"]:
        return self._preprocessing.of_item(content, item_id=item_id)

    @override
    def encode(self, batch: Sequence[Float[Tensor, "channels height width"]]) -> Tokens:
        return self.encode_layers(batch, [LAST])[0]

    @override
    def encode_layers(
        self, batch: Sequence[Float[Tensor, "channels height width"]], layers: Sequence[int]
    ) -> list[Tokens]:
        return [all_real(features) for features in self._forward(torch.stack(list(batch)), layers)]

    @override
    def layout(self, layer: int = LAST) -> LayerLayout:
        if layer not in self._layouts:
            (values,) = self._forward(probe_image(self._preprocessing), [layer])
            if layer == POOLED:
                return LayerLayout(width=values.shape[2])
            self._layouts[layer] = scaled_layout(values, self._layouts[LAST])
        return self._layouts[layer]

    @override
    def portable(self, layer: int = LAST) -> ExportableEncoder:
        self._check_layers([layer])
        return ExportableEncoder(
            model=ModelCall(lambda images: self._features(images, [layer])[0], self._model),
            axes={"pixel_values": {0: "batch"}},
            collate=lambda batch: (torch.stack(list(batch)),),
        )

    @override
    def compile(self) -> None:
        for name in ("forward_features", "forward_intermediates"):
            if hasattr(self._model, name):
                setattr(self._model, name, torch.compile(getattr(self._model, name)))

    @override
    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        return self._preprocessing.companions(content)

    @torch.inference_mode()
    def _find_tokens(self, card: EncoderCard) -> tuple[FeatureShape, FinalNorm]:
        """Return where the model's tokens lie and its final norm, from one image."""
        image = probe_image(self._preprocessing).to(self._device, memory_format=self._memory)
        what = f"encoder {card.name!r} ({self._architecture})"
        with compute_precision(self._device, self.precision):
            features, norm = find_norm(self._model, image)
            shape = find_shape(
                self._model, features, image=(image.shape[2], image.shape[3]), what=what
            )
            in_order(self._model, image, features, shape, what=what)
        check_layout(card, tokens=shape.prefix_tokens + math.prod(shape.grid), width=shape.width)
        check_grid(card, prefix_tokens=shape.prefix_tokens, grid=shape.grid)
        return shape, norm

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
        by_layer: dict[int, Tensor] = {}
        if not earlier:
            features: Tensor = self._model.forward_features(images)
        else:
            features, blocks = self._model.forward_intermediates(
                images, indices=earlier, norm=False, **self._intermediate_options
            )
            by_layer = dict(zip(earlier, map(_as_tokens, blocks), strict=True))
        by_layer[LAST] = self._norm(self._shape.tokens(features))
        if POOLED in layers:
            # what the model's own head pools, before any classifier
            vectors: Tensor = self._model.forward_head(features, pre_logits=True)
            if vectors.ndim != 2:
                raise without_pooled(self.name)
            by_layer[POOLED] = vectors[:, None]
        return [by_layer[layer] for layer in layers]


def _intermediates_of(model: Any) -> tuple[int, dict[str, bool]]:
    """Return how many layers a timm model can give, and the options that give all their tokens."""
    forward = getattr(model, "forward_intermediates", None)
    if forward is None:
        return 1, {}
    has_prefix = "return_prefix_tokens" in inspect.signature(forward).parameters
    return len(model.feature_info), {"return_prefix_tokens": True} if has_prefix else {}


def _as_tokens(block: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Join a map [batch, width, rows, columns] and its prefix tokens, if any, to tokens."""
    cells, prefix = block if isinstance(block, tuple) else (block, None)
    tokens = cells.flatten(2).transpose(1, 2)
    return tokens.contiguous() if prefix is None else torch.cat([prefix, tokens], dim=1)
