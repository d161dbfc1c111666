"""Rules for texts that say the same under several ids: of two images, or of one image twice."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from ...featcache.types import Pairs

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


def require_marks(pairs: Pairs, command: str) -> None:
    """Refuse pairs of an earlier version, which do not say which texts are the same.

    `command` writes them anew.

    Raises:
        SpecError: They are.
    """
    if pairs.text_marks is None and pairs.text_ids:
        raise SpecError(
            "--same-text: an earlier version extracted these texts and did not keep which are the "
            f"same; `{command}` looks them up and encodes nothing that is there"
        )


def without_same_texts(pairs: Pairs) -> Pairs:
    """Return the pairs without each text that says the same as an earlier one."""
    if pairs.text_marks is None:
        return pairs
    first: dict[str, str] = {}
    marked = zip(pairs.text_ids, pairs.text_marks, strict=True)
    distinct = {name for name, mark in marked if first.setdefault(mark, name) == name}
    return replace(pairs, links=tuple(link for link in pairs.links if link[1] in distinct))


def same_rows(pairs: Pairs, reader: "FeatureReader") -> Mapping[int, tuple[int, ...]]:
    """Return for each row of a text that is not the only one of its kind all rows of this kind."""
    if pairs.text_marks is None:
        return {}
    by_mark: dict[str, list[int]] = defaultdict(list)
    for name, mark in zip(pairs.text_ids, pairs.text_marks, strict=True):
        if name in reader.row_of:
            by_mark[mark].append(reader.row_of[name])
    return {row: tuple(sorted(rows)) for rows in by_mark.values() if len(rows) > 1 for row in rows}
