"""Nearest neighbours through FAISS: exact ones, or faster ones that miss some.

Scores are inner products; of unit vectors that is the cosine.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.errors import SpecError
from ..metrics.number import Number
from .index_plan import FLAT, KINDS, IndexPlan, plan_index
from .index_training import check_trainable, forget_training, prepare_training
from .index_tuning import compare_with_flat, tune

WORTHY = 95.0  # percent of the true nearest that an approximate index should find
_POINTS = 64  # a centroid is learnt from; FAISS's 256 take four times as long for no more recall
_ROUNDS = 10  # of k-means, as many as FAISS takes for an inverted file by itself


class FlatIndex:
    """Exact index over vectors in place; FAISS's own flat index copies them.

    Args:
        vectors: The gallery; it must not change.
    """

    def __init__(self, vectors: Float32[np.ndarray, "g embed"]) -> None:
        self.vectors = np.ascontiguousarray(vectors)
        self.ntotal, self.d = self.vectors.shape

    def search(
        self, queries: Float32[np.ndarray, "q embed"], k: int
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Return scores and rows of the `k` nearest, highest first."""
        scores, rows = faiss.knn(queries, self.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, rows


AnyIndex: TypeAlias = faiss.Index | FlatIndex


@dataclass(frozen=True, kw_only=True)
class BuiltIndex:
    """Built index, with its plan, its search parameters and its measured recall.

    Attributes:
        index: What `search` takes.
        plan: Which kind it is, and why.
        parameters: How it is searched, such as `nprobe`; chosen on a sample of queries.
        metrics: Of an approximate index, what `compare_with_flat` has measured on another sample.
        warnings: What to know before it is used.
        seconds: Time that building, choosing and measuring took.
    """

    index: AnyIndex
    plan: IndexPlan
    parameters: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Number] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def approximate(self) -> bool:
        """Return whether it may miss some of the nearest."""
        return self.plan.approximate


def search(
    index: AnyIndex, queries: Float32[np.ndarray, "q embed"], k: int
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Return scores and gallery rows of the `k` nearest, highest first.

    Where an approximate index has found fewer, the last rows are -1; `k` is at most its size.
    """
    assert 1 <= k <= index.ntotal
    scores, rows = index.search(np.ascontiguousarray(queries), k)
    return scores, rows


def build(
    gallery: Float32[np.ndarray, "g embed"],
    kind: str = "auto",
    *,
    queries: Float32[np.ndarray, "q embed"],
    memory_budget: int | None = None,
    seed: int = 0,
) -> BuiltIndex:
    """Return an index of the gallery; an approximate one is tuned and measured on some queries.

    Args:
        gallery: Vectors of length 1.
        kind: One of `index_plan.KINDS`, or a FAISS factory string such as `IVF256,SQ8`.
        queries: What will be asked, or a sample of it; at least one. An index is not tuned on the
            queries that it is measured on, if there are two.
        memory_budget: Bytes that the index may take, or None for half of what is free.
        seed: Seed of the sample.

    Raises:
        SpecError: FAISS has no such index, the gallery is too small for it, or it is larger than
            the budget.
    """
    began = time.perf_counter()
    num, width = gallery.shape
    plan = plan_index(kind, num=num, width=width, memory_budget=memory_budget)
    if not plan.approximate:
        return BuiltIndex(index=FlatIndex(gallery), plan=plan, seconds=time.perf_counter() - began)
    index = _trained(gallery, plan)
    # disjoint halves: parameters chosen on the queries that measure would flatter the index
    order = np.random.default_rng(seed).permutation(len(queries))
    half = max(1, len(order) // 2)
    parameters = tune(index, gallery, queries[order[:half]])
    metrics = compare_with_flat(index, gallery, queries[order[-half:]])
    recall = next(iter(metrics.values()))
    warning = (
        f"the {plan.kind} index finds {recall.value:.1f} % of the true nearest: take another kind, "
        "or more memory"
    )
    return BuiltIndex(
        index=index,
        plan=plan,
        parameters=parameters,
        metrics=metrics,
        warnings=(warning,) if recall.value < WORTHY else (),
        seconds=time.perf_counter() - began,
    )


def as_faiss(index: AnyIndex) -> faiss.Index:
    """Return the index as FAISS writes it; a flat one is copied."""
    if not isinstance(index, FlatIndex):
        return index
    copied = faiss.index_factory(index.d, FLAT, faiss.METRIC_INNER_PRODUCT)
    copied.add(index.vectors)
    return copied


def _trained(gallery: Float32[np.ndarray, "g embed"], plan: IndexPlan) -> faiss.Index:
    num, width = gallery.shape
    vectors = np.ascontiguousarray(gallery)
    try:
        index = faiss.index_factory(width, plan.factory, faiss.METRIC_INNER_PRODUCT)
        check_trainable(index, plan.factory, num)
        inverted = faiss.try_extract_index_ivf(index)
        # whoever writes a factory string of their own gets what FAISS makes of it
        if inverted is not None and plan.is_ours:
            inverted.cp.max_points_per_centroid = _POINTS
            inverted.cp.niter = _ROUNDS
        # FAISS keeps bare pointers to these quantizers: they must outlive the training
        _referred = prepare_training(index)
        index.train(vectors)
        forget_training(index)
        index.add(vectors)
    except RuntimeError as error:
        reason = str(error).rsplit("Error: ", 1)[-1].strip()
        raise SpecError(
            f"FAISS cannot build index {plan.factory!r} of {num} vectors of width {width}: "
            f"{reason:.200}; known by name: {list(KINDS)}"
        ) from error
    return index
