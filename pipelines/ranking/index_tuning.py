"""Set how thoroughly an approximate index is searched, and measure what it misses."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32, Float64, Int64

from ..metrics.bootstrap import mean_interval
from ..metrics.number import Number
from ..metrics.ranks import TIE
from .index_training import parts

NEAREST = 10
DEFINITIONS = {
    f"recall_at_{NEAREST}": (
        f"percent of the {NEAREST} nearest of the exact search (of all, in a smaller gallery) that "
        "the index finds, mean over queries; one that ties with the last of them counts; chance "
        "is that of as many random rows"
    ),
    "queries_per_second": "queries a second of the index, all of the sample in one call",
    "flat_queries_per_second": "the same of the exact search, beside it on the same machine",
    "times_flat": "queries a second of the index over those of the exact search",
}
_WANTED = 0.97  # share of the nearest; a little more than is asked for, as the sample is small
_GAIN = 0.002  # a doubled effort that brings less is not worth it
_ENOUGH = 8  # lists or candidates before that is believed
_SAMPLE = 500  # queries; the exact search takes 4 ms for each in a million vectors of 512 floats
_CANDIDATES = 128  # for each answer, of a refinement: fewer are tried
LEAST_SECONDS = 0.5  # least time of a measurement
_MOST_CALLS = 1000  # of a measurement: those of a gallery of one take microseconds


@dataclass(frozen=True)
class _Effort:
    """One search parameter of an index, which sets how thorough a search is.

    Attributes:
        name: FAISS's name of it.
        part: What has it.
        values: Values to try, least effort first.
    """

    name: str
    part: Any
    values: Sequence[int]

    def set_to(self, value: int) -> None:
        """Search so from now on."""
        setattr(self.part, self.name, value)


def tune(
    index: faiss.Index,
    gallery: Float32[np.ndarray, "g embed"],
    queries: Float32[np.ndarray, "q embed"],
) -> dict[str, int]:
    """Set the index to the least effort that finds enough, and return what was set.

    Lists or graph come first, beside as many candidates of a refinement as are ever tried; then
    the candidates. An index without any of them has nothing to set.
    """
    efforts = _efforts(index, len(gallery))
    if not efforts:
        return {}
    sample = queries[:_SAMPLE]
    exact, _ = _flat(gallery, sample)
    # all at their most, so that each is judged by what it alone leaves out
    for effort in efforts:
        effort.set_to(effort.values[-1])
    chosen = {}
    for effort in efforts:
        before = 0.0
        for value in effort.values:
            effort.set_to(value)
            _, rows = index.search(np.ascontiguousarray(sample), exact.shape[1])
            recall = float(_found(gallery, sample, exact, rows).mean())
            if recall >= _WANTED or (value > _ENOUGH and recall - before < _GAIN):
                break
            before = recall
        chosen[effort.name] = value
    return chosen


def compare_with_flat(
    index: faiss.Index,
    gallery: Float32[np.ndarray, "g embed"],
    queries: Float32[np.ndarray, "q embed"],
) -> dict[str, Number]:
    """Return what an index finds of the nearest, and its speed, beside the exact search.

    Keys are those of `DEFINITIONS`, the recall first.
    """
    sample = np.ascontiguousarray(queries[:_SAMPLE])
    (exact, _), flat_seconds = _timed(lambda: _flat(gallery, sample))
    k = exact.shape[1]
    (_, rows), seconds = _timed(lambda: index.search(sample, k))
    recalls = 100 * _found(gallery, sample, exact, rows)
    num = len(sample)
    recall = Number(
        value=float(recalls.mean()),
        interval=mean_interval(recalls),
        chance=100 * k / len(gallery),
        num=num,
    )
    values = (num / seconds, num / flat_seconds, flat_seconds / seconds)
    speeds = [
        Number(value=value, num=num, unit=unit)
        for value, unit in zip(values, ("1/s", "1/s", "x"), strict=True)
    ]
    return dict(zip(DEFINITIONS, (recall, *speeds), strict=True))


def _efforts(index: faiss.Index, num: int) -> list[_Effort]:
    """Return the settings of an index with the values to try, each twice the one before."""
    efforts = []
    inside = list(parts(index))
    inverted = faiss.try_extract_index_ivf(index)
    graphs = [part for part in inside if isinstance(part, faiss.IndexHNSW)]
    if inverted is not None:
        values = [*_powers(1, inverted.nlist), inverted.nlist]
        efforts.append(_Effort("nprobe", inverted, values))
    elif graphs:
        efforts.append(_Effort("efSearch", graphs[0].hnsw, _powers(2 * NEAREST, 4096)))
    refined = [part for part in inside if isinstance(part, faiss.IndexRefine)]
    if refined:
        most = max(2, min(_CANDIDATES, num // NEAREST))
        efforts.append(_Effort("k_factor", refined[0], _powers(1, most)))
    return efforts


def _powers(first: int, end: int) -> list[int]:
    values = []
    while first < end:
        values.append(first)
        first *= 2
    return values


def _flat(
    gallery: Float32[np.ndarray, "g embed"], queries: Float32[np.ndarray, "q embed"]
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    k = min(NEAREST, len(gallery))
    scores, rows = faiss.knn(queries, gallery, k, metric=faiss.METRIC_INNER_PRODUCT)
    return scores, rows


def _found(
    gallery: Float32[np.ndarray, "g embed"],
    queries: Float32[np.ndarray, "q embed"],
    exact: Float32[np.ndarray, "q k"],
    rows: Int64[np.ndarray, "q k"],
) -> Float64[np.ndarray, " q"]:
    """Return for each query the share of `rows` that are among the nearest; -1 is none."""
    scores = np.einsum("qke,qe->qk", gallery[np.maximum(rows, 0)], queries)
    # by score, not by row: of equal neighbours an index may take others than the exact search
    right: np.ndarray = (scores >= exact[:, -1:] - TIE) & (rows >= 0)
    shares: np.ndarray = right.mean(axis=1)
    return shares


def _timed(
    call: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Return the result of a call and its seconds: the median of several where it is short."""
    seconds: list[float] = []
    began = ended = time.perf_counter()
    while not seconds or (ended - began < LEAST_SECONDS and len(seconds) < _MOST_CALLS):
        before = time.perf_counter()
        result = call()
        ended = time.perf_counter()
        seconds.append(ended - before)
    return result, median(seconds)
