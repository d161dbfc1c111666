"""Rules for texts that say the same under several ids: of two images, or of one image twice."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...featcache.errors import SpecError
from ...featcache.links import Links
from ...featcache.registry import unknown_name
from ...featcache.types import Modality

if TYPE_CHECKING:
    from ...featcache.reading.reader import FeatureReader  # imports torch

NEGATIVE, POSITIVE, DROP = "negative", "positive", "drop"
SAME_TEXT = (NEGATIVE, POSITIVE, DROP)
DEFINITIONS = {
    POSITIVE: (
        "a text that says the same as one of an image is right for that image, too; texts say the "
        "same if they differ in upper case, white space and Unicode composition at most"
    ),
    DROP: (
        "of texts that say the same the first alone takes part, and an image that is left without "
        "any takes none; texts say the same if they differ in upper case, white space and Unicode "
        "composition at most"
    ),
}


def check_same_text(name: str) -> None:
    """Refuse the name of no rule.

    Raises:
        UnknownNameError: There is no such rule.
    """
    if name not in SAME_TEXT:
        raise unknown_name("rule for same texts", name, SAME_TEXT)


def require_marks(pairs: Links, command: str) -> None:
    """Refuse pairs of an earlier version, which do not say which texts are the same.

    `command` writes them anew.

    Raises:
        SpecError: They are.
    """
    if pairs.text_marks is None and len(pairs.ids_of(Modality.TEXT)):
        raise SpecError(
            "--same-text: an earlier version extracted these texts and did not keep which are the "
            f"same; `{command}` looks them up and encodes nothing that is there"
        )


def without_same_texts(pairs: Links) -> Links:
    """Return the pairs without each text that says the same as an earlier one."""
    if pairs.text_marks is None:
        return pairs
    _, first = np.unique(pairs.text_marks, return_index=True)
    links = dict(pairs.pairs)
    for sides, places in pairs.pairs.items():
        for column, side in zip(places.T, sides, strict=True):
            if side.modality is Modality.TEXT:
                links[sides] = links[sides][np.isin(column, first)]
    return replace(pairs, pairs=links)


def same_rows(pairs: Links, reader: "FeatureReader") -> Mapping[int, tuple[int, ...]]:
    """Return for each row of a text that is not the only one of its kind all rows of this kind."""
    if pairs.text_marks is None:
        return {}
    rows = reader.rows_of(pairs.ids_of(Modality.TEXT))
    are_stored = rows >= 0
    rows, marks = rows[are_stored], pairs.text_marks[are_stored]
    _, kinds, counts = np.unique(marks, return_inverse=True, return_counts=True)
    by_kind: dict[int, list[int]] = defaultdict(list)
    repeated = counts[kinds] > 1
    for kind, row in zip(kinds[repeated].tolist(), rows[repeated].tolist(), strict=True):
        by_kind[kind].append(row)
    return {row: tuple(sorted(same)) for same in by_kind.values() for row in same}
