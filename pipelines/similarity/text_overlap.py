"""Find what measured pairs of texts have in common with what was fitted or trained on.

Ids cannot tell, as each split numbers its own texts: texts are compared, or their features.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...featcache.errors import DatasetNotFoundError, LightalignError, StoreCorruptError
from ...featcache.reading.reader import FeatureReader
from ...featcache.sources.base import Source
from ...featcache.store.catalog import Catalog, read_catalog
from ...featcache.store.key import StoreDescription
from ...featcache.types import Modality
from ..common.progress import SILENT, Progress
from ..inputs.original_dataset import open_recorded, require_as_extracted
from ..inputs.store_selection import DatasetQuery
from ..runs.leakage import close_rows, lineage, marks_of
from ..runs.trained_run import TrainedRun
from .graded_split import GradedSplit

_WORD = re.compile(r"\w+")
_SHOWN = 3  # pairs that a warning names
_MOST = 1000  # pairs that a report lists
_MOST_COSINES = 2**34  # of a measured and a trained text: some minutes on two cores
_SAME = 0.9995  # cosine of one text in two stores of an encoder: they are rounded


class GradedTexts:
    """Read the texts of graded splits from their dataset, which must be as it was extracted."""

    def __init__(self, data: DatasetQuery, home: Path) -> None:
        self.data = data
        self.home = home
        self._opened: dict[tuple[str, str], Source] = {}

    def of(self, split: GradedSplit, ids: Iterable[str]) -> dict[str, str]:
        """Return texts by id.

        Raises:
            LightalignError: The dataset cannot be opened, or is another now.
        """
        asked = set(ids)
        described = split.described
        source = self._source_of(described)
        # a dataset that was opened chose the stores, so that it is the same for certain
        if self.data.opened is None:
            require_as_extracted(source, described.split, described.source)
        items = source.items(described.split, Modality.TEXT)
        return {item.id: item.text for item in items if item.id in asked and item.text is not None}

    def _source_of(self, described: StoreDescription) -> Source:
        if self.data.opened is not None:
            return self.data.opened
        key = (described.split, described.source)
        if key not in self._opened:
            self._opened[key] = open_recorded(
                described.dataset, home=self.home, split=key[0], fingerprint=key[1]
            )
        return self._opened[key]


def with_way_out(error: LightalignError, data: DatasetQuery) -> str:
    """Return why a dataset cannot be opened, and what to do: one that is gone says it itself."""
    if isinstance(error, DatasetNotFoundError):
        return str(error)
    return f"{error}; name its place, --data {data.name}=PATH"


def find_shared_pairs(
    measured: GradedSplit, fitted: GradedSplit, texts: GradedTexts
) -> tuple[dict[str, Any], list[str]]:
    """Return the measured pairs that are fitted on, too, as JSON values, and warnings.

    A pair is the same in either order, and whatever its texts have beside letters and digits.
    """
    try:
        fitted_ids = {both: ids for ids, both in _pairs(fitted, texts).items()}
        shared = [
            (ids, fitted_ids[both])
            for ids, both in _pairs(measured, texts).items()
            if both in fitted_ids
        ]
    except StoreCorruptError:
        # what the home remembers is damaged, and the error says what to do
        raise
    except LightalignError as error:
        reason = f"the texts of both splits are not found: {with_way_out(error, texts.data)}"
        return {"not_checked": [reason]}, [f"leakage not checked: {reason}"]
    table = {
        "num_shared_pairs": len(shared),
        "shared_pairs": [
            {"measured": list(ours), "fitted": list(theirs)} for ours, theirs in shared[:_MOST]
        ],
    }
    if not shared:
        return table, []
    named = ", ".join(" with ".join(ours) for ours, _ in shared[:_SHOWN])
    more = " ..." if len(shared) > _SHOWN else ""
    line = (
        f"leakage: {len(shared)} of {len(measured)} measured pairs are among those that thresholds "
        f"are fitted on: {named}{more}"
    )
    return table, [line]


def find_trained_texts(
    pairs: GradedSplit, run: TrainedRun, progress: Progress = SILENT
) -> tuple[int, list[str]]:
    """Return how many measured pairs hold a text that the adapter was trained on, and warnings.

    No grade was seen, but such a text may be embedded better than others. Their marks say which
    texts are the same, or, where an earlier version kept none, the frozen features.
    """
    stored = read_catalog(run.home)
    names = sorted({name for pair in pairs.ids for name in pair})
    described = pairs.described
    # marks tell equal texts exactly; features are compared only where early stores have none
    ours = marks_of(run.home, described.dataset, described.split, described.source)
    trained_names: set[str] = set()
    warnings: list[str] = []
    done: set[tuple[str, str]] = set()
    for side in filter(lambda side: side.modality is Modality.TEXT, run.sides):
        reader = pairs.reader(run.query(side))
        # a fine-tuned run has the texts of the run that it began with: those count as of the oldest
        trained = [
            (past, seen)
            for past in reversed(lineage(run))
            for seen in (past.stores["train"], *past.unpaired)
            if side.value in seen
        ]
        for past, seen in trained:
            key = seen[side.value]["key"]
            if (key, reader.description.key) in done:
                continue
            done.add((key, reader.description.key))
            same = _by_marks(ours, seen, home=run.home)
            why = None
            if same is None:
                same, why = _by_features(reader, names, stored, key, progress)
            trained_names |= same & set(names)
            if why is not None:
                what = f"the {side.label}s that {past.name} was trained on"
                warnings.append(f"leakage not checked: {what} {why}")
    count = sum(not trained_names.isdisjoint(pair) for pair in pairs.ids)
    if count:
        warnings.append(
            f"{count} of {len(pairs)} measured pairs hold a text that the adapter was trained on, "
            "without its grade"
        )
    return count, warnings


def _by_marks(
    ours: Mapping[str, int] | None, train: Mapping[str, Any], *, home: Path
) -> set[str] | None:
    """Return the texts that say the same as a trained one, or None where no marks were kept."""
    theirs = marks_of(home, train["dataset"], train["split"], train["source"])
    if not ours or not theirs:
        return None
    trained = set(theirs.values())
    return {name for name, mark in ours.items() if mark in trained}


def _by_features(
    reader: FeatureReader, names: Sequence[str], stored: Catalog, key: str, progress: Progress
) -> tuple[set[str], str | None]:
    """Return the texts that have the features of a trained one, and why that is not known."""
    entry = stored.get(key)
    if entry is None:
        return set(), f"had a store that {stored.why_missing(key)}"
    trained = FeatureReader(entry.folder, residency="disk")
    if len(names) * len(trained) > _MOST_COSINES:
        return set(), "are too many to compare"
    rows = np.array([reader.row_of[name] for name in names], dtype=np.int64)
    close = close_rows(reader, rows, trained, _SAME, progress)
    return {names[place] for places, _, _ in close for place in places.tolist()}, None


def _pairs(split: GradedSplit, texts: GradedTexts) -> Mapping[tuple[str, str], frozenset[str]]:
    """Return both texts of each pair, in no order, by its ids."""
    plain = {
        name: " ".join(_WORD.findall(text.casefold())) or text
        for name, text in texts.of(split, (name for pair in split.ids for name in pair)).items()
    }
    return {
        (first, second): frozenset((plain[first], plain[second])) for first, second in split.ids
    }
