"""The contract of a modality: how its items are read, and all that depends on what they are."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..errors import SpecError
from ..regular_files import size_of
from ..types import Item

PROBE_ITEMS = 8
# any of them describes how a model of transformers prepares what is no text
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# any of them is a tokenizer
TOKENIZER_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


class ModalityReader(ABC):
    """Read the items of one modality, which is called like the module.

    Attributes:
        singular: One item in words.
        plural: Several.
        features: What can be kept of an encoder's tokens, as `FeaturePooling` calls it; `grid`
            stands for all grids.
        refusals: Why some other features are refused, where more can be said than that.
        sorted_by_length: Whether batches are of items of similar length: where lengths differ,
            most of a batch would else be padding.
        hub_files: Names of files of which a hub directory of transformers needs any one.
        may_list_modules: Whether such a directory may be that of a sentence encoder, with a list
            of its modules, and name prompts.
        has_files: Whether an item is a file, or the bytes of one, and not a text.
        usual_encoder: Encoder that advice names where any will do.
    """

    singular: ClassVar[str]
    plural: ClassVar[str]
    features: ClassVar[tuple[str, ...]] = ("tokens", "mean", "pooled")
    refusals: ClassVar[Mapping[str, str]] = {}
    sorted_by_length: ClassVar[bool] = False
    hub_files: ClassVar[tuple[str, ...]] = PROCESSOR_FILES
    may_list_modules: ClassVar[bool] = False
    has_files: ClassVar[bool] = True
    usual_encoder: ClassVar[str]

    @abstractmethod
    def read(self, item: Item) -> Any:
        """Return the decoded content of `item`, which all encoders of the modality share.

        Raises:
            UnreadableItemError: It cannot be read or decoded; the message gives its id and why.
        """

    @abstractmethod
    def fingerprinted(self, item: Item) -> list[Any]:
        """Return what of `item` goes into the fingerprint of its dataset, as JSON values."""

    @abstractmethod
    def probe_items(self, count: int = PROBE_ITEMS) -> Sequence[Item]:
        """Return a few items that are the same for every dataset, to try an encoder on."""

    def largest_item(self) -> Item:
        """Return an item of which an encoder reads as much as it ever does."""
        return self.probe_items(1)[0]

    def check_features(self, name: str) -> None:
        """Pass if features called `name`, without the numbers of a grid, are of this modality.

        Raises:
            SpecError: They are not.
        """
        if name not in self.features:
            refusal = (
                f"there are no features {name!r} of {self.plural}; known: "
                f"{', '.join(self.features)}"
            )
            raise SpecError(self.refusals.get(name, refusal))


def readable_size(item: Item) -> int:
    """Return the bytes of the file of `item`, or -1 if it is missing, not readable, or none."""
    if item.path is None:
        return -1
    size = size_of(item.path)
    return size if size >= 0 and os.access(item.path, os.R_OK) else -1
