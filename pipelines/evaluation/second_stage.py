"""The second stage of a retrieval: a joint run that reads the first answers of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache import atomic_files
from ...featcache.errors import SpecError
from ...featcache.types import in_words, side_called
from ..common.progress import Progress
from ..inputs.image_text import join_stores
from ..inputs.pairs import PairDataset
from ..inputs.store_selection import StorePair, require_stores
from ..joint.stored_pairs import HEAD, StoredPairs, StoredSide
from ..ranking.embeddings import PairedEmbeddings
from ..ranking.ranking import Direction
from ..ranking.rerank import Reranker
from ..ranking.two_stage import TwoStageRetrieval
from ..runs import run_folder
from ..runs.evaluation import Evaluation
from ..runs.joint_run import JointRun
from ..runs.leakage import EvaluatedItems, Leakage, find_leakage
from ..runs.provenance import describe_pair
from ..runs.required_head import require_head
from ..training.joint.options import WrongPairs
from .matched_pairs import PairMatching
from .retrieve_spec import RetrieveSpec


@dataclass(frozen=True)
class SecondStage:
    """A joint run with its stores of the split that is evaluated.

    Attributes:
        run: The joint run.
        paired: Its stores, joined.
        scale: Factor on cosines that are added to its scores.
        leakage: What the evaluated items have in common with its training.
    """

    run: JointRun
    paired: PairDataset
    scale: float
    leakage: Leakage

    @classmethod
    def open(
        cls, spec: RetrieveSpec, evaluation: Evaluation, stores: StorePair, progress: Progress
    ) -> "SecondStage":
        """Return the run that `--rerank` names, with its stores of the same items.

        Raises:
            RunNotFoundError: There is no such finished run.
            SpecError: It embeds each side alone, has no head `itm`, or reads other sides.
            StoreNotFoundError: The split has not been extracted with its encoders.
            LeakageError: Evaluated items took part in its training, and that is not allowed.
        """
        assert spec.rerank is not None
        run = JointRun(spec.home, spec.rerank, device=spec.device)
        if run.sides != stores.sides:
            raise SpecError(
                f"--rerank {run.folder.name} reads {in_words(run.sides)} together, and the run of "
                f"the first stage aligns {in_words(stores.sides)}: name another"
            )
        require_head(run.joint.adapter, HEAD, folder=run.folder, home=spec.home)
        run.joint.require_both_sides(run.folder)
        query = replace(evaluation.query(run.queries), dataset=stores.dataset, source=stores.source)
        pair = StorePair.of(require_stores(spec.home, query, progress))
        paired = join_stores(pair, home=spec.home, same_text=spec.same_text)
        examined = EvaluatedItems.of(paired, paired.relations(paired.images).rows)
        leakage = find_leakage(run, examined, progress)
        leakage.refuse(allow=spec.allow_leakage, run=run.folder.name)
        scale = spec.rerank_scale or _scale_of(run.trained)
        return cls(run, paired, scale, leakage)

    def warnings_beside(self, first: Leakage) -> list[str]:
        """Return what to know of its training, but what is known of that of the first stage."""
        known_warnings = set(first.warnings)
        return [
            f"run {self.run.folder.name}: {warning}"
            for warning in self.leakage.warnings
            if warning not in known_warnings
        ]

    def measure(
        self, embeddings: PairedEmbeddings, *, k: int, progress: Progress
    ) -> dict[str, Any]:
        """Return the tables of `TwoStageRetrieval`, and those of `PairMatching` as `matching`.

        Raises:
            StoreIncompleteError: An item is not in its stores.
            DivergedError: A score is not finite.
        """
        adapter = self.run.joint.adapter
        readers = (self.paired.first, self.paired.second)
        all_ids = (embeddings.first_ids, embeddings.second_ids)
        sides = {
            side: StoredSide(
                adapter, reader, list(dict.fromkeys(ids)), side=side, device=self.run.device
            )
            for side, reader, ids in zip(self.run.sides, readers, all_ids, strict=True)
        }
        pairs = StoredPairs(adapter, sides)
        progress.note(f"the first {k} of each query are read again by run {self.run.folder.name}")

        def reranker_of(direction: Direction) -> Reranker:
            return StoredReranker.of(direction, pairs, progress)

        # both read the same items, which are kept
        matching = PairMatching(scale=self.scale, reranker_of=reranker_of)
        orders = TwoStageRetrieval(k=k, scale=self.scale, reranker_of=reranker_of)
        return {
            "matching": matching.run(embeddings, progress),
            **orders.run(embeddings, progress),
        }

    def table(self) -> dict[str, Any]:
        """Return what it is, as JSON values."""
        return {
            "run": self.run.folder.name,
            "adapter_sha256": atomic_files.sha256_file(self.run.folder / run_folder.WEIGHTS),
            "stores": describe_pair(self.paired.pair),
            "scale": self.scale,
            "leakage": self.leakage.table(),
        }


class StoredReranker(Reranker):
    """Judge pairs of a direction by a joint run.

    Args:
        pairs: Scores pairs of both sides.
        queries: Place of each query among the items of its side.
        gallery: Place of each gallery row among those of the other side.
        asks_first: Whether queries are of the first side.
    """

    def __init__(
        self,
        pairs: StoredPairs,
        queries: Int64[np.ndarray, " q"],
        gallery: Int64[np.ndarray, " g"],
        *,
        asks_first: bool,
        progress: Progress,
    ) -> None:
        self.pairs = pairs
        self.queries = queries
        self.gallery = gallery
        self.asks_first = asks_first
        self.progress = progress

    @classmethod
    def of(cls, direction: Direction, pairs: StoredPairs, progress: Progress) -> "StoredReranker":
        """Return the judge of a direction."""
        asking = side_called(direction.name.partition("_to_")[0])
        asks_first = asking == pairs.first.side
        sides = (pairs.first, pairs.second) if asks_first else (pairs.second, pairs.first)
        queries, gallery = (
            _places(side.place_of, ids)
            for side, ids in zip(sides, (direction.query_ids, direction.gallery_ids), strict=True)
        )
        return cls(pairs, queries, gallery, asks_first=asks_first, progress=progress)

    def score(
        self, queries: Int64[np.ndarray, " pairs"], gallery: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Return the logit of a match less that of none, of each pair."""
        asking, asked = self.queries[queries], self.gallery[gallery]
        first, second = (asking, asked) if self.asks_first else (asked, asking)
        return self.pairs.differences(first, second, self.progress)


def _places(place_of: Mapping[str, int], ids: Sequence[str]) -> Int64[np.ndarray, " n"]:
    return np.fromiter((place_of[name] for name in ids), np.int64, len(ids))


def _scale_of(trained: Mapping[str, Any]) -> float:
    """Return the factor by which the wrong pairs of a joint run were drawn, or would have been."""
    task: Mapping[str, Any] = trained["spec"].get("task", {})
    return float(task.get("negatives_scale", WrongPairs.scale))
