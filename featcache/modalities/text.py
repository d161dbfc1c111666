"""Texts: read as they are, in Unicode."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from ..errors import UnreadableItemError
from ..types import Item
from .base import PROBE_ITEMS, TOKENIZER_VOCABULARIES, ModalityReader
from .pictures.scene_captions import captions
from .pictures.scenes import draw_scenes

_WORDS = "a red square " * 4096  # more than any encoder reads


class TextModality(ModalityReader):
    """Read texts."""

    singular, plural = "text", "texts"
    # texts have no grid, which their encoders' layouts say, and how large one would have to be
    features = ("tokens", "cls", "mean", "last", "pooled", "grid")
    sorted_by_length = True
    hub_files = TOKENIZER_VOCABULARIES
    may_list_modules = True
    has_files = False
    usual_encoder = "distilbert"

    @override
    def read(self, item: Item) -> str:
        if item.text is None:
            raise UnreadableItemError(f"{item.id}: holds no text")
        try:
            item.text.encode()
        except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair
            raise UnreadableItemError(
                f"{item.id}: the text is not valid Unicode: half of a surrogate pair, "
                f"{item.text[error.start]!r}, at letter {error.start + 1}"
            ) from error
        return item.text

    @override
    def fingerprinted(self, item: Item) -> list[Any]:
        return [item.id, item.text]

    @override
    def probe_items(self, count: int = PROBE_ITEMS) -> Sequence[Item]:
        scenes = draw_scenes("test", count, seed=0)
        texts = [caption for scene in scenes for caption in captions(scene)][:count]
        return [Item(id=f"probe-{index}", text=text) for index, text in enumerate(texts)]

    @override
    def largest_item(self) -> Item:
        return Item(id="probe", text=_WORDS)
