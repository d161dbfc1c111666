"""What vision and text models of transformers have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..card import EncoderCard
from ..encoder import LAST, Content
from ..errors import SpecError
from ..kinds import POOLED, LayerLayout
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

    @abstractmethod
    def pooled_identity(self) -> dict[str, object]: ...


def asks_earlier(layers: Sequence[int]) -> bool:
    """Return whether any of `layers` stands before the last."""
    return any(layer not in (LAST, POOLED) for layer in layers)


def last_state(output: Any, model: str) -> Tensor:
    """Return the tokens of the last layer.

    Raises:
        SpecError: The model gives none.
    """
    tokens = getattr(output, "last_hidden_state", None)
    if not isinstance(tokens, Tensor):
        raise SpecError(f"{model} gives no last hidden state, so that it has no tokens to store")
    return tokens


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
