"""Read a query together with the first answers of an index, by a joint run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...featcache.errors import SpecError, StoreIncompleteError
from ...featcache.home import command_line
from ...featcache.reading.reader import FeatureReader
from ...featcache.types import Item, Side, in_words
from ..common.progress import Progress
from ..inputs.store_selection import StoreQuery, require_stores
from ..joint.match import require_matching
from ..joint.stored_pairs import HEAD
from ..runs.joint_run import JointRun, PairReader
from ..runs.run_encoders import weights_of
from .search_spec import SearchSpec


class QueryReader:
    """Read one query together with stored items of the other side; each pair is read alone.

    Args:
        spec: The search, which names a joint run.
        asking: Side of the query.
        searched: Side of the answers.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It embeds each side alone, has no head `itm`, or does not read both sides.
        LightalignError: The run cannot be opened, see `Embedder`.
    """

    def __init__(
        self, spec: SearchSpec, *, asking: Side, searched: Side, weights: Mapping[str, Path]
    ) -> None:
        self.home = spec.home
        self.asking, self.searched = asking, searched
        self.run = JointRun(spec.home, spec.rerank, device=spec.device)
        if {asking, searched} != set(self.run.sides):
            raise SpecError(
                f"--rerank {self.run.folder.name} reads {in_words(self.run.sides)} together, and "
                f"this search asks by {asking.label} for {searched.label}s: leave it out"
            )
        mine = weights_of(self.run.folder, weights)
        self.reader = PairReader(self.run.folder, device=spec.device, weights=mine)
        require_matching(self.reader, home=spec.home)

    def open_stores(self, manifest: Mapping[str, Any], progress: Progress) -> None:
        """Open the features of what an index holds by the encoder of the joint run.

        Raises:
            StoreNotFoundError: They have not been extracted.
        """
        query = StoreQuery(
            split=manifest["split"],
            dataset=manifest["dataset"],
            source=manifest["source"],
            by_side=self.run.queries_of(self.searched),
        )
        (entry,) = require_stores(self.home, query, progress).values()
        self.stored = FeatureReader(entry.folder, residency="disk")

    def differences(self, query: Item, ids: Sequence[str]) -> list[float]:
        """Return the logit of a match less that of none, of the query with each item.

        Raises:
            StoreIncompleteError: An item has no features.
            LightalignError: The query cannot be encoded, see `Embedder`.
        """
        content = query.text if query.path is None else query.path
        (of_query,) = self.reader.encode([content], [str(content)[:60]], self.asking)
        missing = [name for name in ids if name not in self.stored.row_of]
        if missing:
            raise StoreIncompleteError(
                f"{len(missing)} answers, such as {missing[0]!r}, are not in "
                f"{self.stored.store.folder}, which run {self.run.folder.name} reads: see "
                f"`{command_line('cache', 'ls', home=self.home)}`"
            )
        scores = []
        for name in ids:
            of_item = self.stored.padded(np.array([self.stored.row_of[name]]))
            logits = self.reader.logits({self.asking: of_query, self.searched: of_item}, HEAD)
            scores.append(float(logits[0, 1]) - float(logits[0, 0]))
        return scores
