"""Count gallery rows that no query can tell from a right one; arrays in, numbers out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from ...featcache.types import Modality, side_called
from ..metrics.equal_rows import equal_rows
from .ranking import Direction

DEFINITION = (
    "gallery rows with the embedding of another that is right where they are wrong: `queries` of "
    "them have such a row beside each of their right answers and cannot come first"
)
_MOST = 100  # examples that a report lists
_SHOWN = 3  # that a warning names


@dataclass(frozen=True)
class Ties:
    """Equal rows of one gallery of which one is right and another is wrong.

    Attributes:
        name: Name of the direction.
        num_rows: Gallery rows that are wrong where one of the same embedding is right.
        num_gallery: All gallery rows.
        num_hopeless: Queries of which each right answer has such a row beside it.
        num_queries: All queries.
        examples: Id of a right row and of a wrong one; at most a hundred pairs.
        usual_rule: Whether texts that say the same were wrong, as they are unless told.
    """

    name: str
    num_rows: int
    num_gallery: int
    num_hopeless: int
    num_queries: int
    examples: tuple[tuple[str, str], ...]
    usual_rule: bool = True

    @property
    def warning(self) -> str | None:
        """Return the warning about ties, or None where there are none."""
        if not self.num_rows:
            return None
        side = side_called(self.name.rpartition("_to_")[2])
        pairs = "; ".join(f"{right} and {wrong}" for right, wrong in self.examples[:_SHOWN])
        more = " ..." if len(self.examples) > _SHOWN else ""
        advice = hopeless = ""
        # by another rule equal texts are right answers, and a tie says something else
        if self.usual_rule and side.modality is Modality.TEXT:
            advice = "; --same-text positive counts equal texts as right"
        if self.num_hopeless:
            hopeless = (
                f", so that {self.num_hopeless} of {self.num_queries} queries cannot come first"
            )
        rows = f"{self.num_rows} of {self.num_gallery} {side.label}s"
        return (
            f"{self.name.replace('_', ' ')}: {rows} have "
            "the embedding of another that is right where they are wrong, and ties count against "
            f"the system{hopeless}: {pairs}{more}{advice}"
        )

    def table(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "gallery_rows": self.num_rows,
            "queries": self.num_hopeless,
            "examples": [list(pair) for pair in self.examples],
        }


def find_ties(direction: Direction, *, usual_rule: bool = True) -> Ties:
    """Return the equal rows of the gallery of one direction that are right and wrong at once."""
    relevance, num = direction.relevance, len(direction.gallery)
    first = equal_rows(direction.gallery)
    sizes = np.bincount(first, minlength=num)
    owners = np.repeat(np.arange(len(relevance)), relevance.counts)
    kinds = first[relevance.rows]
    # a pair is a query with a group of equal rows, as one number that can be counted
    pairs, place, inverse, rights = np.unique(
        owners * num + kinds, return_index=True, return_inverse=True, return_counts=True
    )
    wrong = sizes[pairs % num] - rights
    if direction.self_rows is not None:  # the query itself is neither right nor wrong
        wrong -= first[direction.self_rows[pairs // num]] == pairs % num
    tied = wrong > 0
    least = np.minimum.reduceat(wrong[inverse], relevance.offsets[:-1])
    return Ties(
        name=direction.name,
        num_rows=int(np.isin(first, pairs[tied] % num).sum()),
        num_gallery=num,
        num_hopeless=int((least > 0).sum()),
        num_queries=len(relevance),
        examples=_examples(direction, first, place[tied], owners),
        usual_rule=usual_rule,
    )


def _examples(
    direction: Direction,
    first: Int64[np.ndarray, " g"],
    places: Int64[np.ndarray, " tied"],
    owners: Int64[np.ndarray, " total"],
) -> tuple[tuple[str, str], ...]:
    """Return the id of a right row and of a wrong one that is equal to it, each pair once."""
    relevance = direction.relevance
    examples: dict[tuple[str, str], None] = {}
    # ten times as many are looked at, as several queries may share one pair of rows
    for place in places[: 10 * _MOST].tolist():
        query, right = int(owners[place]), int(relevance.rows[place])
        span = relevance.rows[relevance.offsets[query] : relevance.offsets[query + 1]]
        equal = np.setdiff1d(np.flatnonzero(first == first[right]), span)
        if direction.self_rows is not None:
            equal = equal[equal != direction.self_rows[query]]
        names = direction.gallery_ids[right], direction.gallery_ids[int(equal[0])]
        if names[::-1] not in examples:
            examples[names] = None
        if len(examples) == _MOST:
            break
    return tuple(examples)
