"""Vision models of transformers: an image processor, a vision tower and its final norm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import WeightsNotFoundError
from ...modalities.base import PROCESSOR_FILES
from ...tokens import Tokens
from ..base import LAST, Content
from ..card import EncoderCard
from ..exportable import ExportableEncoder, ModelCall
from ..pooling import POOLED, LayerLayout
from ..weights import Weights
from ._checks import LIBRARY_ERRORS, check_layout, has_class_token, unreadable
from ._image_preprocessing import (
    Preprocessing,
    ProcessorPreprocessing,
    TimmPreprocessing,
    all_real,
    channels_first,
    drawn_image,
    final_tokens,
    probe_image,
    scaled_layout,
)
from ._timm_tokens import is_norm, recorded_calls
from ._towers import MASKING
from ._transformers import asks_earlier, hidden_state, last_state, quiet
from ._transformers_encoder import TransformersEncoder

_NORM_NAMES = {"post_layernorm": "post-layernorm"}  # as keys of stores have them
_CLOSE = 1e-5  # difference to a selection of the tokens, relative to their largest value


class VisionEncoder(TransformersEncoder[Tensor]):
    """Read images for `HuggingfaceEncoder`."""

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        super().__init__(card, weights, device=device)
        self._preprocessing = _find_preprocessing(card, self._folder)
        self.companion_names = self._preprocessing.companion_names
        grid = card.layout.grid
        assert grid is not None, "an image card has a grid"
        self._last = LayerLayout(
            width=card.width,
            prefix_tokens=card.layout.prefix_tokens,
            grid=(grid[0], grid[1]),
            first_is_class=has_class_token(self._model),
        )
        images = probe_image(self._preprocessing).to(device)
        self._unmasked = _masking_nothing(self._model, images)
        self._norm_name, self._norm = self._find_norm(images)
        (probe,) = self._forward([images], [LAST], "float32")
        check_layout(card, tokens=probe.shape[1], width=probe.shape[2])

    def _find_norm(self, images: Tensor) -> tuple[str, nn.Module]:
        """Return the norm that the model applies to its pooled vector only, and its name."""
        if self._normalises_in_pooler:
            return "pooler-norm on tokens", self._model.get_submodule("pooler.layernorm")
        prefix = self._last.prefix_tokens
        path = _norm_of_pooled(self._model, images, prefix=prefix, **self._unmasked)
        if path is None:
            return "final-norm", nn.Identity()
        name = _NORM_NAMES.get(path.rpartition(".")[2], path)
        return f"{name} on tokens", self._model.get_submodule(path)

    def _reading_identity(self) -> dict[str, object]:
        return {
            "preprocessing": self._preprocessing.identity(),
            "layer": self._norm_name,
            **({"masked": "nothing"} if self._unmasked else {}),
        }

    def _pooled_identity(self) -> dict[str, object]:
        return self._pooling.identity

    def preprocess(
        self, content: Content, *, item_id: str
    ) -> Float[Tensor, "channels height width"]:
        return self._preprocessing.of_item(content, item_id=item_id)

    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        return self._preprocessing.companions(content)

    def _encode(
        self,
        batch: Sequence[Float[Tensor, "channels height width"]],
        layers: Sequence[int],
        precision: str,
    ) -> list[Tokens]:
        return [all_real(values) for values in self._forward(_stacked(batch), layers, precision)]

    def _probed_layout(self, layer: int) -> LayerLayout:
        images = torch.cat([probe_image(self._preprocessing), drawn_image(self._preprocessing)])
        (values,) = self._forward([images], [layer], "float32")
        if layer == POOLED:
            return LayerLayout(width=values.shape[2])
        constant = bool((values[0, 0] == values[1, 0]).all())
        return replace(scaled_layout(values, self._last), constant_first=constant)

    def portable(self, layer: int = LAST) -> ExportableEncoder:
        self.layout(layer)  # refuses a layer that is not there
        # transformers gives the same where nothing of ours is in between
        is_plain = (
            layer == LAST
            and not self._tower.in_pair
            and not self._unmasked
            and isinstance(self._norm, nn.Identity)
            and isinstance(self._preprocessing, ProcessorPreprocessing)
        )
        pooling = (self._pooling.model,) if layer == POOLED else ()
        return ExportableEncoder(
            model=ModelCall(
                lambda images: self._features([layer], images)[0],
                self._model,
                self._norm,
                *pooling,
            ),
            axes={"pixel_values": {0: "batch"}},
            collate=_stacked,
            transformers_folder=self._folder if is_plain else None,
        )

    def _features(
        self, layers: Sequence[int], *inputs: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch _ _"]]:
        (images,) = inputs
        extra = {name: value.expand(images.shape[0], -1) for name, value in self._unmasked.items()}
        run = self._pooling.run if POOLED in layers else self._model
        output = run(pixel_values=images, output_hidden_states=asks_earlier(layers), **extra)
        features = {LAST: final_tokens(last_state(output, self._model_name), self._norm)}
        if POOLED in layers:
            features[POOLED] = self._pooling.of(output)
        for layer in set(layers) - set(features):
            state = channels_first(hidden_state(output, layer, self._model_name))
            features[layer] = final_tokens(state, nn.Identity())
        return [features[layer] for layer in layers]


def _stacked(batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (torch.stack(list(batch)),)


def _find_preprocessing(card: EncoderCard, folder: Path) -> Preprocessing:
    if any((folder / name).is_file() for name in PROCESSOR_FILES):
        with quiet():
            try:
                return ProcessorPreprocessing(folder)
            except LIBRARY_ERRORS as error:
                raise unreadable(card, f"the image processor in {folder}", error) from error
    if card.backend == "timm":  # the same model, converted: prepared as the card's own
        return TimmPreprocessing.of_architecture(card.model)
    raise WeightsNotFoundError(
        f"encoder {card.name!r}: {folder} has no preprocessor_config.json, which says how images "
        f"are resized and normalised; copy it from hub repository {card.weights.hub}"
    )


@torch.inference_mode()
def _norm_of_pooled(model: Any, images: Tensor, *, prefix: int, **inputs: Any) -> str | None:
    """Return the path of the norm through which the pooled vector goes and no token, or None.

    Its input is the first token or a mean of the tokens that `model` gives, and those come from no
    norm themselves. Before the patches stand `prefix` other tokens.
    """
    with recorded_calls(model, is_norm) as calls:
        last = last_state(model(pixel_values=images, **inputs), type(model).__name__)
    if any(torch.equal(call.after, last) for call in calls):
        return None
    if last.ndim == 4:
        summaries = [last.mean(dim=(2, 3)), last.mean(dim=(1, 2))]
    else:
        summaries = [last[:, 0], last.mean(dim=1), last[:, prefix:].mean(dim=1)]
    scale = last.abs().max()
    for call in calls:
        vector = call.before.reshape(len(last), -1)
        for summary in summaries:
            same_shape = vector.shape == summary.shape
            if same_shape and (vector - summary).abs().max() <= _CLOSE * scale:
                return call.path
    return None


def _masking_nothing(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the inputs by which a model that masks patches at random (ViT-MAE) keeps them all.

    It orders patches by `noise` and keeps the first: of all, in their own order.
    """
    config: Any = model.config
    if config.model_type not in MASKING:
        return {}
    config.mask_ratio = 0.0
    patches = (images.shape[2] // config.patch_size) * (images.shape[3] // config.patch_size)
    return {"noise": torch.arange(patches, device=images.device, dtype=torch.float32)[None]}
