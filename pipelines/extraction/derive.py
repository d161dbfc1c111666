"""Fill stores of pooled features from a store of the same tokens: nothing is encoded.

What comes out is what an extraction would have stored, but for the rounding of the stored tokens.
Where the features of an item are some of its tokens (`cls`, `last`) and both stores have one float
type, no number differs. A mean over tokens x_s that were rounded to x_s (1 + e_s) is off by no more
than the mean of |e_s x_s|, with |e_s| at most 2^-11 in float16 and 2^-8 in bfloat16, before it is
rounded itself as any extracted one; of int8 tokens, by the mean of half their steps.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch

from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.item_rows import ItemBlock, ItemRows
from ...featcache.tokens import Tokens, pad_groups
from ..common.progress import Progress
from .filling import Filling, Shard, Shards, StoreJob, removals_told

BLOCKS_HELD = 3  # of float32 at once: as read, padded, and what reducing it takes
_GROUPS = 8  # of similar length in a block; more saves little padding


class Derivation(Filling):
    """Fill the missing shards of several stores from `origin`, a complete store of their tokens.

    Checksums of the tokens are compared as they are read, and one of their shards is in memory at
    a time, in blocks of float32. The same shards are made of the same blocks each time. The ids are
    those of all items of the split.
    """

    is_derived = True

    def __init__(
        self,
        jobs: Sequence[StoreJob],
        origin: Path,
        ids: Sequence[str],
        *,
        max_bad: int,
        progress: Progress,
    ) -> None:
        super().__init__(jobs, num_items=len(ids), max_bad=max_bad, progress=progress)
        self.ids = ids
        self.origin = origin
        with self._removal_told():
            self._rows = ItemRows(FeatureStore.open(origin), ids)

    def _pass(self, writer: ThreadPoolExecutor) -> None:
        for index, jobs in self._claimed():
            self._write(index, jobs, self._derive_shard(index, jobs), writer)
        self._settle()
        self._rows.close()

    def _derive_shard(self, index: int, jobs: Sequence[StoreJob]) -> dict[Path, Shard]:
        """Return the rows of one shard by store."""
        items = jobs[0].store.shard_items(index)
        shards = Shards(jobs)
        for job in jobs:
            shards.of(job).skipped += self._rows.skipped(items)
        with self._removal_told():
            blocks = self._rows.blocks(items)
            began = time.perf_counter()
            while (block := next(blocks, None)) is not None:
                read = time.perf_counter()
                self.shares.decode += read - began
                self._reduce(block, items, jobs, shards)
                began = time.perf_counter()
                self.shares.encode += began - read
                self.progress.advance(len(block.positions))
        self.num_done += len(items)
        self.progress.advance(len(shards.of(jobs[0]).skipped))
        return shards.by_store

    def _reduce(
        self, block: ItemBlock, items: range, jobs: Sequence[StoreJob], shards: Shards
    ) -> None:
        """Take what each store keeps of the tokens of a block."""
        positions = block.positions - items.start
        # padded to the longest row of all, most of a block of captions would be padding
        groups, order = pad_groups(block.features, _GROUPS)
        for job in jobs:
            shards.of(job).ids.update(zip(positions.tolist(), block.features.ids, strict=True))
        first = 0
        for group in groups:
            targets = positions[order[first : first + len(group)]]
            first += len(group)
            # as an encoder gives them, so that both ways reduce and round alike
            tokens = Tokens(group.values.to(torch.float32), group.mask)
            for job in jobs:
                reduced = job.output.kind.reduce(tokens, job.output.layout)
                shards.of(job).rows.add(reduced, sources=np.arange(len(targets)), targets=targets)

    def _removal_told(self) -> AbstractContextManager[None]:
        return removals_told([self.origin], "other features were derived from it")
