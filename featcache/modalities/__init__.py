"""Modalities, and their items as they are before any encoder reads them.

The registry of modalities: a file is one, and says all that depends on what its items are. Sources,
encoders and extraction ask `reader_of` and know of no modality themselves.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..registry import Registry
from ..types import Item, Modality, Sides, sides_of
from .base import ModalityReader

MODALITIES: Registry[ModalityReader] = Registry(
    "modality", __name__, Path(__file__).parent, ModalityReader
)


@cache
def reader_of(modality: Modality) -> ModalityReader:
    """Return what reads the items of a modality.

    Raises:
        UnknownNameError: There is no such modality.
    """
    return MODALITIES.load(modality.value)()


def known_sides(names: Collection[str]) -> Sides:
    """Return `sides_of` names that a file or a user gives.

    Raises:
        SpecError: They are not the names of two sides, or there is no such modality.
    """
    sides = sides_of(names)
    modalities = MODALITIES.names()
    for side in sides:
        if side.modality not in modalities:
            raise SpecError(
                f"there is no side {side.value!r} of an adapter: its modality is none of "
                f"{modalities}"
            )
    return sides


def read_item(item: Item, modality: Modality) -> Any:
    """Return the content of `item`, such as its decoded image; see `ModalityReader.read`.

    Raises:
        UnreadableItemError: It cannot be read or decoded.
    """
    return reader_of(modality).read(item)


__all__ = ["MODALITIES", "ModalityReader", "known_sides", "read_item", "reader_of"]
