"""The contract of a frozen encoder: items in, token features out, and all that decides them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Int32

from ..errors import SpecError
from ..modalities import read_item
from ..tokens import Tokens
from ..types import Item, Modality
from .card import EncoderCard
from .exportable import ExportableEncoder
from .pooling import LAST as LAST  # where backends look for it
from .pooling import LayerLayout
from .vocabulary import Vocabulary
from .weights import Weights

Prepared = TypeVar("Prepared")
Content: TypeAlias = Any  # what `read_item` returns: of an image a PIL image, of a text a str

PRECISIONS = ("float32", "bfloat16")


class Encoder(ABC, Generic[Prepared]):
    """Encode items of one modality with a frozen model in evaluation mode.

    Args:
        card: What the encoder is; its modality, width and number of tokens are taken over.
        weights: Where the weights are.
        device: Where the model runs.

    Attributes:
        modalities: What encoders of the backend may read.
        name: Name of the encoder card.
        modality: What the encoder reads.
        width: Features of one token.
        tokens_per_item: Tokens of every item, or None where items differ, as texts do.
        precision: Type of the matrix products, one of `PRECISIONS`; part of the identity.
        companion_names: Arrays that `companions` returns.
    """

    modalities: ClassVar[tuple[Modality, ...]]
    name: str
    modality: Modality
    width: int
    tokens_per_item: int | None
    precision: str = "float32"
    companion_names: tuple[str, ...] = ()

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        self.name = card.name
        self.modality = card.modality
        self.width = card.width
        self.tokens_per_item = card.layout.tokens_per_item
        self._device = device

    @classmethod
    def build(
        cls, card: EncoderCard, weights: Weights, *, device: torch.device
    ) -> "Encoder[Prepared]":
        """Return the encoder of `card`; a backend of several modalities chooses the class here."""
        return cls(card, weights, device=device)

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Return ALL that changes the numbers, as JSON values.

        Weights hash, preprocessing, tokenizer, maximum length, compute precision; never the
        device, the batch size or a path.
        """

    def identity_at(self, layer: int = LAST) -> dict[str, object]:
        """Return `identity`, and of `POOLED` also what does the pooling.

        Raises:
            SpecError: The model has no pooled output.
        """
        return self.identity()

    def prepare(self, item: Item) -> Prepared:
        """Read, decode and preprocess one item on the CPU.

        Raises:
            UnreadableItemError: The item cannot be decoded; the message gives its id and why.
        """
        return self.preprocess(read_item(item, self.modality), item_id=item.id)

    @abstractmethod
    def preprocess(self, content: Content, *, item_id: str) -> Prepared:
        """Turn decoded content into what `encode` takes; called from worker threads.

        Encoders of one modality share the content of an item, and must not change it.

        Raises:
            UnreadableItemError: The encoder can make nothing of it.
        """

    @abstractmethod
    def encode(self, batch: Sequence[Prepared]) -> Tokens:
        """Return the features of `batch` after the encoder's final norm, float32 on the CPU."""

    def encode_layers(self, batch: Sequence[Prepared], layers: Sequence[int]) -> list[Tokens]:
        """Return the features of several layers, counted from the end, in one forward pass.

        -1 is `encode`; -2 and so on are outputs of earlier blocks, before any final norm, and
        `POOLED` is the one vector that the model itself makes of an item.

        Raises:
            SpecError: The encoder has no such layer.
        """
        if any(layer != LAST for layer in layers):
            raise SpecError(f"encoder {self.name!r} gives its last layer, -1, only; found {layers}")
        return [self.encode(batch)] * len(layers)

    @abstractmethod
    def layout(self, layer: int = LAST) -> LayerLayout:
        """Return which tokens `layer` returns.

        Raises:
            SpecError: The encoder has no such layer.
        """

    def portable(self, layer: int = LAST) -> ExportableEncoder:
        """Return the model up to `layer`, to run it elsewhere; the encoder must be on the CPU.

        Raises:
            SpecError: The encoder has no such layer, or no model that tensors alone go into.
        """
        raise SpecError(f"encoder {self.name!r} has no model that could be exported")

    def compile(self) -> None:
        """Have the model compiled by torch.compile when it next runs.

        Raises:
            SpecError: The encoder has nothing to compile.
        """
        raise SpecError(f"encoder {self.name!r} has no model that could be compiled")

    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        """Return the arrays that are stored beside all tokens of one item, by name.

        Those of `PER_TOKEN` have one line a token, those of `PER_ROW` exactly one.
        """
        return {}

    def vocabulary(self) -> Vocabulary:
        """Return the tokens that may stand in place of those of a text, and which one hides any.

        An encoder that has it has the companions `token_ids` and `special_tokens`, too.

        Raises:
            SpecError: The encoder has no token that hides another.
        """
        raise without_mask(self.name)

    def with_token_ids(self, prepared: Prepared, token_ids: Int32[np.ndarray, " _"]) -> Prepared:
        """Return what `encode` takes of an item whose stored tokens have these ids instead."""
        raise without_mask(self.name)

    def size(self, prepared: Prepared) -> int:
        """Return how much work one prepared item is: its tokens, where items differ."""
        return 1


def without_pooled(name: str) -> SpecError:
    """Build the error for an encoder whose model pools nothing itself."""
    return SpecError(f"encoder {name!r} has no pooled output of its own; take 'mean' or 'tokens'")


def without_mask(name: str) -> SpecError:
    """Build the error for an encoder that has no token to hide another one with."""
    return SpecError(
        f"encoder {name!r} has no mask token, so that no token of its texts can be hidden: masked "
        "variants are of encoders such as 'bert-base', 'roberta-base' or 'minilm'"
    )
