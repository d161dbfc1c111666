"""What vision and text models of transformers have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..card import EncoderCard
from ..encoder import LAST, Content
from ..errors import SpecError, WeightsMismatchError
from ..kinds import LayerLayout
from ..portable import Portable
from ..tokens import Tokens
from ..weights import Weights


class Half(ABC):
    """What an encoder of one modality does; vision and text share nothing else."""

    @abstractmethod
    def __init__(self, card: EncoderCard, weights: Weights, device: torch.device) -> None: ...

    last: LayerLayout
    _model: Any
    companion_names: tuple[str, ...]

    @abstractmethod
    def preprocess(self, content: Content, item_id: str) -> Any: ...

    @abstractmethod
    def encode(
        self, batch: Sequence[Any], layers: Sequence[int], precision: str
    ) -> list[Tokens]: ...

    def compile(self) -> None:
        """Have the model compiled by torch.compile when it next runs."""
        self._model.compile()

    @abstractmethod
    def companions(self, content: Content) -> dict[str, np.ndarray]: ...

    @abstractmethod
    def layout(self, layer: int) -> LayerLayout: ...

    @abstractmethod
    def portable(self, layer: int) -> Portable: ...

    @abstractmethod
    def identity(self) -> dict[str, object]: ...


def asks_earlier(layers: Sequence[int]) -> bool:
    """Say whether any of `layers` stands before the last."""
    return any(layer != LAST for layer in layers)


def hidden_state(output: Any, layer: int, model: str) -> Tensor:
    """Return the output of a block; hidden states begin with the embeddings.

    Raises:
        SpecError: The model has no such layer.
    """
    states = output.hidden_states
    if not -len(states) <= layer < 0:
        raise SpecError(f"{model} has layers -1 to {-len(states)}, found {layer}")
    found: Tensor = states[layer]
    return found


def check_input(card: EncoderCard, model: Any, expected: str) -> None:
    """Refuse a model that is more than an encoder of the card's modality.

    Raises:
        WeightsMismatchError: It reads something else than `expected`, is a pair, or has a decoder.
    """
    found = str(model.main_input_name)
    is_pair = "vision_config" in vars(model.config)
    if found != expected or is_pair or model.config.is_encoder_decoder:
        raise WeightsMismatchError(
            f"encoder {card.name!r} reads {card.modality.value}s, but {type(model).__name__} is "
            "not a plain encoder of them; give the weights of " + card.model
        )
