"""Score pairs of stored items by a joint run, each item read and taken through its tower once.

Axis names: `pairs` pairs, `n` rows of a side.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64

from ...adapters.joint_adapter import JointAdapter
from ...featcache.errors import StoreIncompleteError
from ...featcache.reading.reader import FeatureReader
from ...featcache.string_array import Strings
from ...featcache.tokens import pad
from ...featcache.types import Features, Side
from ..common.progress import SILENT, Progress

HEAD = "itm"
_KEPT_BYTES = 2**29  # behind the tower of a side, of all its items or of those of a block: 512 MiB
_BATCH_ELEMENTS = 2**20  # features of the tokens of both sides that are read at once: 4 MiB


class StoredSide:
    """Items of one side, behind the tower of a joint adapter.

    They are kept where all of them fit into memory; else those of a block of pairs are read with
    it.

    Args:
        adapter: The joint adapter.
        reader: The store of the side.
        ids: Id of each item, all different.
        side: Which side it is.
        device: Where the adapter is.
        kept_bytes: What may be kept.

    Raises:
        StoreIncompleteError: An item has no row in the store.
    """

    def __init__(
        self,
        adapter: JointAdapter,
        reader: FeatureReader,
        ids: Sequence[str],
        *,
        side: Side,
        device: torch.device,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        self.adapter = adapter
        self.reader = reader
        self.side = side
        self.device = device
        self.rows = reader.rows_of(Strings.of(ids))
        if missing := [name for name, row in zip(ids, self.rows.tolist(), strict=True) if row < 0]:
            raise StoreIncompleteError(
                f"{len(missing):,} {side.label}s, such as {missing[0]!r}, are not in "
                f"{reader.store.folder}, which the joint run reads: one that could not be read has "
                "no features"
            )
        self.place_of = {name: place for place, name in enumerate(ids)}
        longest = int(np.argmax(reader.lengths[self.rows]))
        # what a tower makes of the longest row bounds all others
        most = self._read(np.array([longest])).values.nbytes
        self.at_once = max(1, kept_bytes // most)
        self._keeps = len(ids) <= self.at_once
        self._kept: Features | None = None

    def take(self, places: Int64[np.ndarray, " n"], progress: Progress = SILENT) -> Features:
        """Return what the tower makes of these items; at most `at_once` of them.

        Args:
            places: Place of each among the ids.
            progress: Hears of the reading of all items, where these are kept.
        """
        if not self._keeps:
            return self._read(places, progress)
        if self._kept is None:
            self._kept = self._read(np.arange(len(self.rows)), progress)
        return self._kept.take(places)

    @torch.inference_mode()
    def _read(self, places: Int64[np.ndarray, " n"], progress: Progress = SILENT) -> Features:
        rows = self.rows[places]
        size = max(1, _BATCH_ELEMENTS // max(1, self.reader.largest_row(rows)))
        values, lengths = [], []
        starts = range(0, len(rows), size)
        for start in progress.track(
            starts, f"read {self.side.label}s", len(starts), unit="batches"
        ):
            tokens = self.reader.padded(rows[start : start + size]).to(self.device)
            behind = self.adapter.tokens_behind(tokens, self.side)
            values.append(behind.values[behind.mask].float().cpu().numpy())
            lengths.append(behind.mask.sum(dim=1).cpu().numpy())
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        return Features(np.concatenate(values), offsets, ("",) * len(rows))


class StoredPairs:
    """Score pairs of stored items: how much likelier a match is than none, by the head `itm`.

    Neither other pairs nor padding take part in a score, but for the rounding of float32.

    Args:
        adapter: A joint adapter with the head `itm`, at rest.
        sides: Items of both its sides.
    """

    def __init__(self, adapter: JointAdapter, sides: Mapping[Side, StoredSide]) -> None:
        self.adapter = adapter
        self.first, self.second = (sides[side] for side in adapter.sides)

    def differences(
        self,
        first: Int64[np.ndarray, " pairs"],
        second: Int64[np.ndarray, " pairs"],
        progress: Progress = SILENT,
    ) -> Float32[np.ndarray, " pairs"]:
        """Return the logit of a match less that of none, of each pair.

        Args:
            first: Place of the first item of each pair among the ids of its side.
            second: That of the second.
            progress: Hears of reading, where items of a side are kept.
        """
        scores = np.empty(len(first), dtype=np.float32)
        # a block of so many pairs has no more items of a side than may be kept
        size = min(self.first.at_once, self.second.at_once)
        if size >= max(len(self.first.rows), len(self.second.rows)):
            size = max(1, len(first))
        for start in range(0, len(first), size):
            block = slice(start, start + size)
            scores[block] = self._of_block(first[block], second[block], progress)
        return scores

    @torch.inference_mode()
    def _of_block(
        self,
        first: Int64[np.ndarray, " pairs"],
        second: Int64[np.ndarray, " pairs"],
        progress: Progress,
    ) -> Float32[np.ndarray, " pairs"]:
        firsts, first_places = np.unique(first, return_inverse=True)
        seconds, second_places = np.unique(second, return_inverse=True)
        of_first, of_second = (
            self.first.take(firsts, progress),
            self.second.take(seconds, progress),
        )
        lengths = of_first.lengths[first_places], of_second.lengths[second_places]
        # pairs of one length follow one another, so that little is padded
        order = np.lexsort(lengths)
        scores = np.empty(len(first), dtype=np.float32)
        longest = int(lengths[0].max(initial=1)) + int(lengths[1].max(initial=1))
        width = max(of_first.width, self.adapter.token_width)
        size = max(1, _BATCH_ELEMENTS // (longest * width))
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            behind = {
                self.first.side: pad(of_first.take(first_places[chunk])).to(self.first.device),
                self.second.side: pad(of_second.take(second_places[chunk])).to(self.second.device),
            }
            joint = self.adapter.fuse(behind)
            logits = self.adapter.logits(joint, [HEAD])[HEAD].float()
            scores[chunk] = (logits[:, 1] - logits[:, 0]).cpu().numpy()
        return scores
