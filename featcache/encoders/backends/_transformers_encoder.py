"""The part of a transformers encoder that is the same for images and texts."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ...tokens import Tokens
from ..base import LAST, Encoder
from ..card import EncoderCard
from ..pooling import POOLED, LayerLayout
from ..weights import Weights
from ._checks import hash_state
from ._image_preprocessing import compute_precision
from ._pooled import Pooling, find_pooling
from ._towers import check_input, encoder_of, find_tower
from ._transformers import hash_config, load_model, model_folder, read_config, state_that_counts

Prepared = TypeVar("Prepared")


class TransformersEncoder(Encoder[Prepared]):
    """Load one tower of a hub directory; `_vision` and `_text` run it.

    Raises:
        WeightsMismatchError: The files are not a complete model, or not one of the card's modality.
    """

    _last: LayerLayout

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        super().__init__(card, weights, device=device)
        self._folder = model_folder(card, weights)
        config = read_config(card, self._folder)
        tower = find_tower(card, config)
        # BEiT and its kin keep the final norm in the pooler
        beit = config.model_type in ("beit", "data2vec-vision")
        self._normalises_in_pooler = beit and bool(config.use_mean_pooling)
        loaded = load_model(tower, card, weights, with_pooler=self._normalises_in_pooler)
        if tower.in_decoder:
            loaded = replace(loaded, model=encoder_of(card, loaded.model))
        check_input(card, loaded.model, of_pair=loaded.pair is not None or tower.in_decoder)
        self._tower = tower
        self._loaded = loaded
        self._places = card, weights, config
        self._model_name = type(loaded.model).__name__
        self._config_hash = hash_config(card, self._folder)
        self._hash = hash_state(
            state_that_counts(loaded.model, with_pooler=self._normalises_in_pooler)
        )
        self._model = loaded.model.to(device)

    def identity(self) -> dict[str, object]:
        return {
            "backend": "huggingface",
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            **self._reading_identity(),
            "precision": self.precision,
        }

    def identity_at(self, layer: int = LAST) -> dict[str, object]:
        if layer != POOLED:
            return self.identity()
        return {**self.identity(), "pooled": self._pooled_identity()}

    def encode(self, batch: Sequence[Prepared]) -> Tokens:
        return self.encode_layers(batch, [LAST])[0]

    def encode_layers(self, batch: Sequence[Prepared], layers: Sequence[int]) -> list[Tokens]:
        return self._encode(batch, layers, self.precision)

    def layout(self, layer: int = LAST) -> LayerLayout:
        return self._last if layer == LAST else self._probed_layout(layer)

    def compile(self) -> None:
        self._model.compile()

    @cached_property
    def _pooling(self) -> Pooling:
        """Return what pools in the model; it may have to be read again, with its pooler."""
        return find_pooling(*self._places, self._loaded, self._device)

    @torch.inference_mode()
    def _forward(
        self, inputs: Sequence[Tensor], layers: Sequence[int], precision: str
    ) -> list[Float[Tensor, "batch _ _"]]:
        """Return the features of `layers`; probes are in float32, whatever the precision is."""
        with compute_precision(self._device, precision):
            return self._features(layers, *(values.to(self._device) for values in inputs))

    @abstractmethod
    def _reading_identity(self) -> dict[str, object]:
        """Return all of the preparation and the final norm that changes the numbers."""

    @abstractmethod
    def _pooled_identity(self) -> dict[str, object]:
        """Return all that changes pooled vectors but no token."""

    @abstractmethod
    def _encode(
        self, batch: Sequence[Prepared], layers: Sequence[int], precision: str
    ) -> list[Tokens]: ...

    @abstractmethod
    def _probed_layout(self, layer: int) -> LayerLayout:
        """Return which tokens a layer before the last returns, from a forward pass."""

    @abstractmethod
    def _features(self, layers: Sequence[int], *inputs: Tensor) -> list[Tensor]: ...
