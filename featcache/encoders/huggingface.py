"""Vision and text models of transformers, from hub directories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ..card import EncoderCard
from ..encoder import LAST, Content, Encoder
from ..errors import WeightsNotFoundError
from ..kinds import LayerLayout
from ..portable import ModelCall, Portable
from ..tokens import Tokens
from ..types import Modality
from ..weights import Weights
from ._checks import check_layout, hash_state
from ._halves import Half, asks_earlier, check_input, hidden_state
from ._images import (
    Preprocessing,
    ProcessorPreprocessing,
    TimmPreprocessing,
    all_real,
    compute_precision,
    final_tokens,
    geometry_companions,
    geometry_names,
    probe_image,
    scaled_layout,
)
from ._pretrained import (
    hash_config,
    load_model,
    model_folder,
    quiet,
    read_config,
    state_that_counts,
    unreadable,
)
from ._text import Text

Prepared: TypeAlias = Tensor | list[int]

# Directories of two-tower models hold more than the vision tower that an image card means.
_VISION_TOWERS = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}


class HuggingfaceEncoder(Encoder[Prepared]):
    """Encode images or texts with a transformers model: all tokens after its final norm.

    Vision models that normalise only their pooled vector (CLIP, BEiT) have that norm applied to
    every token. Texts keep their special tokens, are cut at the card's `max_tokens`, and padding
    is masked. Images have no `geometry` where their processor does more than resize, crop the
    centre and pad by its settings, as that of ConvNeXT does: it would tell wrong places.

    Args:
        card: Card of the encoder, of this backend or of `timm` (the same model, converted).
        weights: Hub directory.
        device: Where the model runs.

    Raises:
        WeightsMismatchError: The files are not a complete model, or not that of the card.
        WeightsNotFoundError: The tokenizer or the image processor is missing.
    """

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        self.name = card.name
        self.modality = card.modality
        self.width = card.width
        self.tokens_per_item = card.layout.tokens_per_item
        half: type[Half] = _Vision if card.modality is Modality.IMAGE else Text
        self._half = half(card, weights, device)
        self.companion_names = self._half.companion_names

    def identity(self) -> dict[str, object]:
        """Return ALL that changes the numbers, as JSON values."""
        return {
            "backend": "huggingface",
            **self._half.identity(),
            "precision": self.precision,
        }

    def preprocess(self, content: Content, *, item_id: str) -> Prepared:
        """Preprocess one decoded image (a tensor) or tokenise one text (token ids).

        Raises:
            UnreadableItemError: The text gives no tokens or is not valid Unicode, or the image
                would be too large when resized.
        """
        prepared: Prepared = self._half.preprocess(content, item_id)
        return prepared

    def encode(self, batch: Sequence[Prepared]) -> Tokens:
        """Return all tokens of `batch`, float32 on the CPU."""
        return self.encode_layers(batch, [LAST])[0]

    def encode_layers(self, batch: Sequence[Prepared], layers: Sequence[int]) -> list[Tokens]:
        """Return all tokens of several layers; -1 is after the final norm.

        Raises:
            SpecError: The model has no such layer.
        """
        return self._half.encode(batch, layers, self.precision)

    def layout(self, layer: int = LAST) -> LayerLayout:
        """Return which tokens `layer` returns, from one forward pass for layers before the last.

        Raises:
            SpecError: The model has no such layer, or its tokens form no grid.
        """
        return self._half.last if layer == LAST else self._half.layout(layer)

    def portable(self, layer: int = LAST) -> Portable:
        """Return the model up to `layer`.

        It takes `pixel_values` as `preprocess` gives them, or `input_ids` and `attention_mask`.

        Raises:
            SpecError: The model has no such layer.
        """
        self.layout(layer)
        return self._half.portable(layer)

    def compile(self) -> None:
        """Have the model compiled by torch.compile when it next runs."""
        self._half.compile()

    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        """Return token ids, special-token flags and character spans of a text.

        Of an image, where in it the patches lie; see `featcache/geometry.py`.
        """
        return self._half.companions(content)

    def size(self, prepared: Prepared) -> int:
        """Return the number of tokens of a text; images are all one."""
        return len(prepared) if isinstance(prepared, list) else 1


class _Vision(Half):
    """The image half: an image processor, a vision tower and its final norm."""

    def __init__(self, card: EncoderCard, weights: Weights, device: torch.device) -> None:
        folder = model_folder(card, weights)
        config = read_config(card, folder)
        tower = _VISION_TOWERS.get(config.model_type, "AutoModel")
        pooler_counts = _normalises_in_pooler(config)
        self._folder = folder if tower == "AutoModel" else None
        model = load_model(getattr(transformers, tower), card, weights, with_pooler=pooler_counts)
        check_input(card, model, "pixel_values")
        self._hash = hash_state(state_that_counts(model, with_pooler=pooler_counts))
        self._config_hash = hash_config(card, folder)
        self._model_name = type(model).__name__
        self._layer, norm = _norm_of_tokens(model, in_pooler=pooler_counts)
        self._preprocessing = _find_preprocessing(card, folder)
        self.companion_names = geometry_names(self._preprocessing)
        self._device = device
        self._model = model.to(device)
        self._norm = norm.to(device)
        grid = card.layout.grid
        assert grid is not None, "an image card has a grid"
        self.last = LayerLayout(
            width=card.width, prefix_tokens=card.layout.prefix_tokens, grid=(grid[0], grid[1])
        )
        (probe,) = self._forward(probe_image(self._preprocessing), [LAST], "float32")
        check_layout(card, tokens=probe.shape[1], width=probe.shape[2])

    def identity(self) -> dict[str, object]:
        return {
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            "preprocessing": self._preprocessing.identity(),
            "layer": self._layer,
        }

    def preprocess(self, content: Content, item_id: str) -> Float[Tensor, "channels height width"]:
        assert isinstance(content, Image.Image)
        return self._preprocessing.of_item(content, item_id=item_id)

    def companions(self, content: Content) -> dict[str, np.ndarray]:
        assert isinstance(content, Image.Image)
        return geometry_companions(self._preprocessing, content)

    def encode(
        self,
        batch: Sequence[Float[Tensor, "channels height width"]],
        layers: Sequence[int],
        precision: str,
    ) -> list[Tokens]:
        found = self._forward(torch.stack(list(batch)), layers, precision)
        return [all_real(values) for values in found]

    def layout(self, layer: int) -> LayerLayout:
        (values,) = self._forward(probe_image(self._preprocessing), [layer], "float32")
        return scaled_layout(values, self.last)

    @torch.inference_mode()
    def _forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        layers: Sequence[int],
        precision: str,
    ) -> list[Float[Tensor, "batch tokens features"]]:
        with compute_precision(self._device, precision):
            return self._features(images.to(self._device), layers)

    def portable(self, layer: int) -> Portable:
        as_it_is = isinstance(self._norm, nn.Identity) and isinstance(
            self._preprocessing, ProcessorPreprocessing
        )
        return Portable(
            model=ModelCall(
                lambda images: self._features(images, [layer])[0], self._model, self._norm
            ),
            axes={"pixel_values": {0: "batch"}},
            collate=lambda batch: (torch.stack(list(batch)),),
            transformers_folder=self._folder if as_it_is and layer == LAST else None,
        )

    def _features(
        self, images: Float[Tensor, "batch channels height width"], layers: Sequence[int]
    ) -> list[Float[Tensor, "batch tokens features"]]:
        output = self._model(pixel_values=images, output_hidden_states=asks_earlier(layers))
        last = final_tokens(output.last_hidden_state, self._norm)
        same = nn.Identity()
        return [
            last
            if layer == LAST
            else final_tokens(hidden_state(output, layer, self._model_name), same)
            for layer in layers
        ]


def _find_preprocessing(card: EncoderCard, folder: Path) -> Preprocessing:
    if (folder / "preprocessor_config.json").is_file():
        with quiet():
            try:
                return ProcessorPreprocessing(folder)
            except (OSError, ValueError, ImportError) as error:
                raise unreadable(card, f"the image processor in {folder}", error) from error
    if card.backend == "timm":  # the same model, converted: prepared as the card's own
        return TimmPreprocessing.of_architecture(card.model)
    raise WeightsNotFoundError(
        f"encoder {card.name!r}: {folder} has no preprocessor_config.json, which says how images "
        f"are resized and normalised; copy it from hub repository {card.weights.hub}"
    )


def _normalises_in_pooler(config: Any) -> bool:
    """Tell whether the final norm is part of the pooler (BEiT and its kin)."""
    return config.model_type in ("beit", "data2vec-vision") and bool(config.use_mean_pooling)


def _norm_of_tokens(model: nn.Module, *, in_pooler: bool) -> tuple[str, nn.Module]:
    """Return the norm that the model applies to its pooled vector only, and its name."""
    if in_pooler:
        return "pooler-norm on tokens", model.get_submodule("pooler.layernorm")
    if type(model).__name__ == "CLIPVisionModel":
        named = dict(model.named_modules())
        path = next(name for name in named if name.endswith("post_layernorm"))
        return "post-layernorm on tokens", named[path]
    return "final-norm", nn.Identity()
