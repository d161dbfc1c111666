"""The contract of a frozen encoder: items in, token features out, and all that decides them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from .tokens import Tokens
from .types import Item, Modality

Prepared = TypeVar("Prepared")


class Encoder(ABC, Generic[Prepared]):
    """Encode items of one modality with a frozen model in evaluation mode.

    Attributes:
        name: Name of the encoder card.
        modality: What the encoder reads.
        width: Features of one token.
        tokens_per_item: Tokens of every item, or None where items differ (text).
    """

    name: str
    modality: Modality
    width: int
    tokens_per_item: int | None

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Return ALL that changes the numbers, as JSON values.

        Weights hash, preprocessing, tokenizer, layer, feature kind, maximum length, compute
        precision; never the device, the batch size or a path.
        """

    @abstractmethod
    def prepare(self, item: Item) -> Prepared:
        """Decode and preprocess one item on the CPU; called from worker threads.

        Raises:
            UnreadableItemError: The item cannot be decoded; the message gives its id and why.
        """

    @abstractmethod
    def encode(self, batch: Sequence[Prepared]) -> Tokens:
        """Return the features of `batch` after the encoder's final norm, float32 on the CPU."""
