"""Find what measured pairs of texts have in common with what was fitted or trained on.

Ids cannot tell, as each split numbers its own texts: texts are compared, or their features.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..featcache.catalog import StoresByKey
from ..featcache.datasets import open_source, open_version
from ..featcache.description import StoreDescription
from ..featcache.errors import LightalignError, StoreCorruptError
from ..featcache.known_datasets import version_of
from ..featcache.reader import FeatureReader
from ..featcache.source import Source
from ..featcache.types import Modality
from .evaluated import EvaluatedRun
from .graded import GradedSplit
from .leakage import close_rows, lineage
from .original_dataset import require_as_extracted
from .progress import SILENT, Progress
from .stores import WantedData

_WORD = re.compile(r"\w+")
_SHOWN = 3  # pairs that a warning names
_MOST = 1000  # pairs that a report lists
_MOST_COSINES = 2**34  # of a measured and a trained text: some minutes on two cores
_SAME = 0.9995  # cosine of one text in two stores of an encoder: they are rounded


class GradedTexts:
    """Read the texts of graded splits from their dataset, which must be as it was extracted.

    Args:
        wanted: The dataset, opened or by its name.
        home: Folder of everything lightalign keeps.
    """

    def __init__(self, wanted: WantedData, home: Path) -> None:
        self.wanted = wanted
        self.home = home
        self._opened: dict[tuple[str, str], Source] = {}

    def of(self, split: GradedSplit, ids: Iterable[str]) -> dict[str, str]:
        """Return texts by id.

        Args:
            split: The split that they are of.
            ids: Those wanted.

        Raises:
            LightalignError: The dataset cannot be opened, or is another now.
        """
        asked = set(ids)
        described = split.described
        source = self._source_of(described)
        if self.wanted.opened is None:  # else the stores were chosen by it
            require_as_extracted(source, described.split, described.source)
        items = source.items(described.split, Modality.TEXT)
        return {item.id: item.text for item in items if item.id in asked and item.text is not None}

    def _source_of(self, described: StoreDescription) -> Source:
        if self.wanted.opened is not None:
            return self.wanted.opened
        key = (described.split, described.source)
        if key not in self._opened:
            version = version_of(self.home, described.dataset, *key)
            self._opened[key] = (
                open_source(str(self.wanted.name), home=self.home)
                if version is None
                else open_version(version, home=self.home)
            )
        return self._opened[key]


def find_shared_pairs(
    measured: GradedSplit, fitted: GradedSplit, texts: GradedTexts
) -> tuple[dict[str, Any], list[str]]:
    """Return the measured pairs that are fitted on, too, as JSON values, and warnings.

    A pair is the same in either order, and whatever its texts have beside letters and digits.

    Args:
        measured: Pairs that are measured.
        fitted: Pairs that a threshold is fitted on.
        texts: Reads the texts of both.
    """
    try:
        known = {both: ids for ids, both in _pairs(fitted, texts).items()}
        found = [
            (ids, known[both]) for ids, both in _pairs(measured, texts).items() if both in known
        ]
    except StoreCorruptError:  # of what the home remembers: it says what to do
        raise
    except LightalignError as error:
        reason = f"the texts of both splits are not found, name --data NAME=PATH: {error}"
        return {"not_checked": [reason]}, [f"leakage not checked: {reason}"]
    table = {
        "num_shared_pairs": len(found),
        "shared_pairs": [
            {"measured": list(ours), "fitted": list(theirs)} for ours, theirs in found[:_MOST]
        ],
    }
    if not found:
        return table, []
    named = ", ".join(" with ".join(ours) for ours, _ in found[:_SHOWN])
    more = " ..." if len(found) > _SHOWN else ""
    line = (
        f"leakage: {len(found)} of {len(measured)} measured pairs are among those that thresholds "
        f"are fitted on: {named}{more}"
    )
    return table, [line]


def find_trained_texts(
    pairs: GradedSplit, run: EvaluatedRun, progress: Progress = SILENT
) -> tuple[int, list[str]]:
    """Return how many measured pairs hold a text that the adapter was trained on, and warnings.

    No grade was seen, but such a text may be embedded better than others. The frozen features say
    which texts are the same, as in `leakage`.

    Args:
        pairs: Pairs that are measured.
        run: The run whose adapter takes part.
        progress: Receives the progress.
    """
    known = StoresByKey.of(run.home)
    wanted = sorted({name for pair in pairs.ids for name in pair})
    seen: set[str] = set()
    warnings: list[str] = []
    done: set[tuple[str, str]] = set()
    for side in (one for one in run.sides if one.modality is Modality.TEXT):
        reader = pairs.reader(run.query(side))
        rows = np.array([reader.row_of[name] for name in wanted], dtype=np.int64)
        for past in reversed(lineage(run)):  # a fine-tuned run has the texts of its start
            key = past.stores["train"][side.value]["key"]
            if (key, reader.description.key) in done:
                continue
            done.add((key, reader.description.key))
            entry = known.get(key)
            trained = None if entry is None else FeatureReader(entry.folder, residency="disk")
            if trained is None or len(rows) * len(trained) > _MOST_COSINES:
                why = "are too many to compare"
                if trained is None:
                    why = f"had a store that {known.why_missing(key)}"
                what = f"the {side.label}s that {past.name} was trained on"
                warnings.append(f"leakage not checked: {what} {why}")
                continue
            for places, _, _ in close_rows(reader, rows, trained, _SAME, progress):
                seen.update(wanted[place] for place in places.tolist())
    count = sum(one in seen or other in seen for one, other in pairs.ids)
    if count:
        warnings.append(
            f"{count} of {len(pairs)} measured pairs hold a text that the adapter was trained on, "
            "without its grade"
        )
    return count, warnings


def _pairs(split: GradedSplit, texts: GradedTexts) -> Mapping[tuple[str, str], frozenset[str]]:
    """Return both texts of each pair, in no order, by its ids."""
    plain = {
        name: " ".join(_WORD.findall(text.casefold())) or text
        for name, text in texts.of(split, (name for pair in split.ids for name in pair)).items()
    }
    return {(one, other): frozenset((plain[one], plain[other])) for one, other in split.ids}
