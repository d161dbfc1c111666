"""Vision and text models of transformers, from hub directories."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ...errors import WeightsNotFoundError
from ...tokens import Tokens
from ...types import Modality
from ..base import LAST, Content, Encoder
from ..card import EncoderCard
from ..exportable import ExportableEncoder, ModelCall
from ..pooling import POOLED, LayerLayout
from ..weights import PROCESSOR_FILES, Weights
from ._checks import check_layout, has_class_token, hash_state, unreadable
from ._final_norm import norm_of_pooled
from ._image_preprocessing import (
    Preprocessing,
    ProcessorPreprocessing,
    TimmPreprocessing,
    all_real,
    channels_first,
    compute_precision,
    drawn_image,
    final_tokens,
    geometry_companions,
    geometry_names,
    probe_image,
    scaled_layout,
)
from ._pooled import Pooling, find_pooling
from ._text import Text
from ._towers import MASKING, check_input, find_tower
from ._transformers import (
    Half,
    asks_earlier,
    hash_config,
    hidden_state,
    last_state,
    load_model,
    model_folder,
    quiet,
    read_config,
    state_that_counts,
)

Prepared: TypeAlias = Tensor | list[int]

_NORM_NAMES = {"post_layernorm": "post-layernorm"}  # as keys of stores have them


class HuggingfaceEncoder(Encoder[Prepared]):
    """Encode images or texts with a transformers model: all tokens after its final norm.

    Vision models that normalise only their pooled vector (CLIP, BEiT, ConvNeXt) have that norm
    applied to every token; a model that has no final norm gives its last output. Of a directory of
    two towers it is the one of the card's modality, of one with a decoder the encoder. ViT-MAE
    masks nothing. Texts keep their special tokens, are cut at the card's `max_tokens`, and padding
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

    def identity_at(self, layer: int = LAST) -> dict[str, object]:
        """Return all that changes the numbers of `layer`, as JSON values.

        Raises:
            SpecError: The model has no pooled output.
        """
        if layer != POOLED:
            return self.identity()
        return {**self.identity(), "pooled": self._half.pooled_identity()}

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

    def portable(self, layer: int = LAST) -> ExportableEncoder:
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

        Of an image, where in it the patches lie; see `modalities/patch_geometry.py`.
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
        tower = find_tower(card, config)
        pooler_counts = _normalises_in_pooler(config)
        self._folder = None if tower.in_pair else folder
        self._loaded = load_model(tower, card, weights, with_pooler=pooler_counts)
        self._places = card, weights, config
        self._pooling: Pooling | None = None
        model = self._loaded.model
        check_input(card, model, of_pair=self._loaded.pair is not None)
        self._hash = hash_state(state_that_counts(model, with_pooler=pooler_counts))
        self._config_hash = hash_config(card, folder)
        self._model_name = type(model).__name__
        self._preprocessing = _find_preprocessing(card, folder)
        self.companion_names = geometry_names(self._preprocessing)
        self._device = device
        self._model = model.to(device)
        grid = card.layout.grid
        assert grid is not None, "an image card has a grid"
        self.last = LayerLayout(
            width=card.width,
            prefix_tokens=card.layout.prefix_tokens,
            grid=(grid[0], grid[1]),
            first_is_class=has_class_token(self._model),
        )
        images = probe_image(self._preprocessing)
        self._unmasked = _masking_nothing(model, images.to(device))
        self._layer, self._norm = self._find_norm(images.to(device), in_pooler=pooler_counts)
        (probe,) = self._forward(images, [LAST], "float32")
        check_layout(card, tokens=probe.shape[1], width=probe.shape[2])

    def _find_norm(self, images: Tensor, *, in_pooler: bool) -> tuple[str, nn.Module]:
        """Return the norm that the model applies to its pooled vector only, and its name."""
        if in_pooler:
            return "pooler-norm on tokens", self._model.get_submodule("pooler.layernorm")
        path = norm_of_pooled(self._model, images, prefix=self.last.prefix_tokens, **self._unmasked)
        if path is None:
            return "final-norm", nn.Identity()
        name = _NORM_NAMES.get(path.rpartition(".")[2], path)
        return f"{name} on tokens", self._model.get_submodule(path)

    def identity(self) -> dict[str, object]:
        return {
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            "preprocessing": self._preprocessing.identity(),
            "layer": self._layer,
            **({"masked": "nothing"} if self._unmasked else {}),
        }

    def pooled_identity(self) -> dict[str, object]:
        return self._pool().identity

    def _pool(self) -> Pooling:
        if self._pooling is None:
            self._pooling = find_pooling(*self._places, self._loaded, self._device)
        return self._pooling

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
        features = self._forward(torch.stack(list(batch)), layers, precision)
        return [all_real(values) for values in features]

    def layout(self, layer: int) -> LayerLayout:
        images = torch.cat([probe_image(self._preprocessing), drawn_image(self._preprocessing)])
        (values,) = self._forward(images, [layer], "float32")
        if layer == POOLED:
            return LayerLayout(width=values.shape[2])
        constant = bool((values[0, 0] == values[1, 0]).all())
        return replace(scaled_layout(values, self.last), constant_first=constant)

    @torch.inference_mode()
    def _forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        layers: Sequence[int],
        precision: str,
    ) -> list[Float[Tensor, "batch _ _"]]:
        with compute_precision(self._device, precision):
            return self._features(images.to(self._device), layers)

    def portable(self, layer: int) -> ExportableEncoder:
        as_it_is = isinstance(self._norm, nn.Identity) and isinstance(
            self._preprocessing, ProcessorPreprocessing
        )
        pooling = self._pool().models if layer == POOLED else ()
        return ExportableEncoder(
            model=ModelCall(
                lambda images: self._features(images, [layer])[0],
                self._model,
                self._norm,
                *pooling,
            ),
            axes={"pixel_values": {0: "batch"}},
            collate=lambda batch: (torch.stack(list(batch)),),
            transformers_folder=self._folder
            if as_it_is and not self._unmasked and layer == LAST
            else None,
        )

    def _features(
        self, images: Float[Tensor, "batch channels height width"], layers: Sequence[int]
    ) -> list[Float[Tensor, "batch _ _"]]:
        inputs = {name: value.expand(images.shape[0], -1) for name, value in self._unmasked.items()}
        run = self._pool().run if POOLED in layers else self._model
        output = run(pixel_values=images, output_hidden_states=asks_earlier(layers), **inputs)
        last = final_tokens(last_state(output, self._model_name), self._norm)
        features = {LAST: last}
        if POOLED in layers:
            features[POOLED] = self._pool().of(output)
        for layer in set(layers) - set(features):
            state = hidden_state(output, layer, self._model_name)
            features[layer] = final_tokens(channels_first(state), nn.Identity())
        return [features[layer] for layer in layers]


def _find_preprocessing(card: EncoderCard, folder: Path) -> Preprocessing:
    if any((folder / name).is_file() for name in PROCESSOR_FILES):
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
    """Return whether the final norm is part of the pooler (BEiT and its kin)."""
    return config.model_type in ("beit", "data2vec-vision") and bool(config.use_mean_pooling)


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
