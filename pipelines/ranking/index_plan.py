"""Choose the index to build: by name, or by the size of the gallery and the free memory."""

import re
from dataclasses import dataclass
from math import isqrt

from ...featcache.errors import SpecError
from ...featcache.hardware import free_memory

KINDS = ("auto", "flat", "ivf", "hnsw", "pq")
EXACT = "flat"  # the search that an evaluation takes unless another is asked for
FLAT = "Flat"
EXACT_ROWS = 100_000  # up to here a query takes some milliseconds exactly, and nothing is missed
SHARE = 0.5  # of the free memory that an index may take
_LINKS = 32  # of a node of the graph; FAISS's examples for more than a million vectors
_PER_LIST = 39  # fewest vectors from which FAISS would learn a list
_REFINED = "RFlat"  # scores once more by the whole vectors, whatever was before
_WHOLE = re.compile(r"Flat|FlatDedup|IDMap2?|(HNSW|NSG)\d+|IVF\d+(_HNSW\d+|\(.*\))?")
_CODES = 256  # that a byte of a product quantizer tells apart; it needs as many vectors


@dataclass(frozen=True, kw_only=True)
class IndexPlan:
    """Plan of the index that is built.

    Attributes:
        kind: `flat`, `ivf`, `ivf-sq8`, `hnsw`, `pq`, or the factory string that was asked for.
        factory: Its FAISS factory string.
        num_bytes: Bytes that it takes, about; None where only FAISS knows.
        asked: What was asked for.
        memory_budget: Bytes that it may take.
    """

    kind: str
    factory: str
    num_bytes: int | None
    asked: str
    memory_budget: int

    @property
    def approximate(self) -> bool:
        """Return whether it may miss some of the nearest."""
        return self.factory != FLAT

    @property
    def is_ours(self) -> bool:
        """Return whether lightalign has chosen the factory string."""
        return self.kind != self.factory


def plan_index(kind: str, *, num: int, width: int, memory_budget: int | None = None) -> IndexPlan:
    """Return the index to build for `num` vectors of `width` floats.

    `auto` is exact up to `EXACT_ROWS` vectors. Beyond, or where the exact one is larger than the
    budget, it is the first of these that fits: lists of whole vectors (`ivf`), of one byte a float
    (`ivf-sq8`), of one byte for four floats (`pq`).

    Args:
        kind: One of `KINDS`, or a FAISS factory string.
        num: Vectors of the gallery.
        width: Floats of each.
        memory_budget: Bytes that the index may take, or None for half of what is free.

    Raises:
        SpecError: There is nothing to index, the named index is larger than the budget, no index
            fits it, or there are too few vectors for a product quantizer.
    """
    if num < 1:
        raise SpecError("an index needs at least one vector, found none")
    budget = int(SHARE * free_memory()) if memory_budget is None else memory_budget
    sizes = _sizes(num, width)
    if kind != "auto" and kind not in sizes:
        factory = FLAT if kind.strip().lower() == FLAT.lower() else kind
        num_bytes = 4 * num * width if factory == FLAT else None
        return IndexPlan(
            kind=kind, factory=factory, num_bytes=num_bytes, asked=kind, memory_budget=budget
        )
    # from what loses least to what takes least
    names = [kind]
    if kind == "auto":
        names = ["flat"] if num <= EXACT_ROWS else []
        names += ["ivf", "ivf-sq8", *(["pq"] if num >= _CODES else [])]
    for name in names:
        factory, size = sizes[name]
        if size <= budget:
            if name == "pq" and num < _CODES:
                raise SpecError(
                    f"index 'pq' learns {_CODES} codes and needs as many vectors, found {num}: "
                    "take flat"
                )
            return IndexPlan(
                kind=name, factory=factory, num_bytes=size, asked=kind, memory_budget=budget
            )
    raise SpecError(
        f"index {names[-1]!r} of {num:,} vectors of width {width} takes {size / 1e6:,.1f} MB, and "
        f"{budget / 1e6:,.1f} MB may be taken: give more memory"
        + ("" if kind == "auto" else ", or take --index auto")
    )


def scores_exactly(factory: str) -> bool:
    """Return whether an index scores by the vectors themselves, not by codes or fewer floats.

    Args:
        factory: A FAISS factory string. One with a part that is not known to keep the vectors as
            they are counts as one that does not.
    """
    *_, last = names = [name.strip() for name in factory.split(",")]
    return last == _REFINED or all(_WHOLE.fullmatch(name) for name in names)


def num_lists(num: int) -> int:
    """Return into how many lists `num` vectors are sorted: 2 sqrt(num), if each gets enough."""
    return max(1, min(2 * isqrt(num), num // _PER_LIST))


def _sizes(num: int, width: int) -> dict[str, tuple[str, int]]:
    """Return FAISS's factory string and the bytes, about, of each index that has a name."""
    lists = num_lists(num)
    centroids = 4 * width * lists
    # a code of one byte for four floats, or for as near to four as the width allows
    codes = max(size for size in range(1, max(1, width // 4) + 1) if width % size == 0)
    return {
        "flat": (FLAT, 4 * num * width),
        "ivf": (f"IVF{lists},{FLAT}", num * (4 * width + 8) + centroids),
        "ivf-sq8": (f"IVF{lists},SQ8", num * (width + 8) + centroids),
        # twice as many links on the ground floor, and a thirty-second of them on all floors above
        "hnsw": (f"HNSW{_LINKS},{FLAT}", num * (4 * width + 8 * _LINKS + 4 + 12)),
        # without np FAISS also orders the codes for a filter that is never on, for minutes
        "pq": (f"IVF{lists},PQ{codes}np", num * (codes + 8) + centroids + 4 * width * _CODES),
    }
