"""Read rows of several stores of the same items as streams of one tower."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from ..errors import StoreIncompleteError
from ..store.remedies import extraction, removal_of_entry
from ..tokens import StreamTokens, Tokens, split_by_length
from .reader import FeatureReader


class StreamReader(FeatureReader):
    """Gather rows of several stores; ids, row numbers and lengths are those of the first.

    What pads rows gives `StreamTokens`; `gather` and the rest are of the first store alone.

    Args:
        folders: Folders of the stores, two at least.
        residency: See `FeatureReader`; of each store on its own.
        device: See there.

    Attributes:
        further: Readers of the other stores.

    Raises:
        StoreIncompleteError: One lacks a row that another has.
        LightalignError: See `FeatureReader`.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        residency: str = "auto",
        device: torch.device | None = None,
    ) -> None:
        super().__init__(folders[0], residency=residency, device=device)
        self.further = tuple(
            FeatureReader(folder, residency=residency, device=device) for folder in folders[1:]
        )
        ids = self.stored_ids()
        self._rows = [reader.rows_of(ids) for reader in self.further]
        for reader, rows in zip(self.further, self._rows, strict=True):
            self._check_rows(reader, rows)

    @property
    def streams(self) -> tuple[FeatureReader, ...]:
        """Return the readers of all streams; the first is this one."""
        return (self, *self.further)

    def padded(self, rows: Int64[np.ndarray, " n"]) -> Tokens:
        """Return the given rows of each stream as a padded batch, on the device if they are there.

        See `FeatureReader.padded`.
        """
        streams = [super().padded(rows)]
        for reader, rows_of_further in zip(self.further, self._rows, strict=True):
            streams.append(reader.padded(rows_of_further[rows]).to(streams[0].values.device))
        return StreamTokens.of(streams)

    def padded_groups(
        self, rows: Int64[np.ndarray, " n"], num_groups: int
    ) -> tuple[list[Tokens], Int64[np.ndarray, " n"]]:
        """Return the given rows in groups of similar length in the first stream.

        See `FeatureReader.padded_groups`.
        """
        groups = split_by_length(self.lengths[rows], num_groups)
        return [self.padded(rows[group]) for group in groups], np.concatenate(groups)

    def largest_row(self, rows: Int64[np.ndarray, " n"]) -> int:
        """Return the features that the longest of these rows has at most, of all streams."""
        return super().largest_row(rows) + sum(
            reader.largest_row(rows_of_further[rows])
            for reader, rows_of_further in zip(self.further, self._rows, strict=True)
        )

    def _check_rows(self, reader: FeatureReader, rows: Int64[np.ndarray, " n"]) -> None:
        """Pass if two stores have rows of the same items: an item that one lacks has no tokens."""
        lacking: FeatureReader = reader
        having: FeatureReader = self
        missing = [self.ids[row] for row in np.nonzero(rows < 0)[0].tolist()]
        if not missing and len(reader) > len(self):
            lacking, having = self, reader
            missing = sorted(set(reader.ids) - set(self.ids))
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise StoreIncompleteError(
                f"store {lacking.store.folder} of {lacking.description.encoder} has no row of "
                f"{missing[0]!r}{more}, which {having.description.encoder} has: streams of one "
                f"tower need the same rows; remove it by `{removal_of_entry(lacking.store.folder)}`"
                f" and extract it again by `{_extraction(lacking)}`"
            )


def _extraction(reader: FeatureReader) -> str:
    settings = reader.store.manifest.get("settings")
    home = reader.store.folder.absolute().parents[3]
    return extraction(reader.description, settings, home=home)


def open_streams(
    folders: Sequence[Path], *, residency: str = "auto", device: torch.device | None = None
) -> FeatureReader:
    """Open the stores that one tower reads, all of the same items.

    Raises:
        LightalignError: See `FeatureReader` and `StreamReader`.
    """
    if len(folders) == 1:
        return FeatureReader(folders[0], residency=residency, device=device)
    return StreamReader(folders, residency=residency, device=device)
