"""Rows of a view, which a reader asks for by name: of which item each is, and which variant."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from ..errors import SpecError, StoreCorruptError, StoreNotFoundError
from ..store import remedies
from ..store.catalog import StoreEntry, read_catalog
from .reader import FeatureReader

_LIKE = ("dataset", "split", "source", "modality", "encoder_key")  # its plain store


def find_view(home: Path, plain: StoreEntry, name: str) -> StoreEntry:
    """Return the newest complete store of a view of the same items, encoder and features.

    Args:
        home: Folder of everything lightalign keeps.
        plain: The store of the items as they are.
        name: Name of the view, such as `masked-tokens`.

    Raises:
        StoreNotFoundError: There is none; the message names the command that extracts it.
    """
    described = plain.description
    views = read_catalog(home, f"{described.dataset}/{described.split}").views
    for entry in views:
        is_like = all(
            getattr(entry.description, field) == getattr(described, field) for field in _LIKE
        )
        if entry.complete and entry.description.view_name == name and is_like:
            return entry
    asked = remedies.extraction(described, home=home)
    raise StoreNotFoundError(
        f"{plain.folder} has no view {name!r} beside it: run `{asked}` with the option of that view"
    )


class ViewReader(FeatureReader):
    """Read the rows of a store of one view.

    Args:
        folder: The store.
        view: Name of the view that it has to be of.
        options: Those of `FeatureReader`.

    Raises:
        SpecError: The store is that of another view, or a plain one.
        StoreCorruptError: Its rows are not those of items.
    """

    def __init__(self, folder: Path, view: str, **options: Any) -> None:
        super().__init__(folder, **options)
        stored = self.description.view_name
        if stored != view:
            raise SpecError(f"{folder} is of {stored or 'no view'}, not of the view {view!r}")

    @cached_property
    def item_of_row(self) -> Int64[np.ndarray, " rows"]:
        """Return the place of each row's item among those of its split; it never falls."""
        places = self._of_rows("item")
        if (np.diff(places) < 0).any():
            raise StoreCorruptError(f"{self.store.folder}: the items of its rows are not in order")
        return places

    @cached_property
    def variant_of_row(self) -> Int64[np.ndarray, " rows"]:
        """Return which row of its item each row is, from 0."""
        return self._of_rows("variant")

    def rows_of_item(self, place: int) -> Int64[np.ndarray, " n"]:
        """Return the rows of the item at a place of its split, none of one that has no row."""
        first, end = np.searchsorted(self.item_of_row, [place, place + 1])
        return np.arange(first, end)

    def _of_rows(self, name: str) -> Int64[np.ndarray, " rows"]:
        numbers = np.asarray(self.companion(name, range(len(self)))).astype(np.int64)
        if numbers.size and numbers.min() < 0:
            raise StoreCorruptError(f"{self.store.folder}: {name} of a row is below 0")
        return numbers
