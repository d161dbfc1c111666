"""Find what an evaluation has in common with the training of the run that it evaluates.

Stores are enough: an item is the same if its id and its features by the run's own encoder are.
Ids alone prove nothing, as some datasets count anew in each split.

Axis names: `n` evaluated rows, `m` trained rows, `width` features of a token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from ..featcache.catalog import StoreEntry, StoresByKey
from ..featcache.errors import LeakageError
from ..featcache.reader import FeatureReader
from ..featcache.types import Modality, Side
from .evaluated import EvaluatedRun
from .joined import JoinedStores, Rows
from .progress import SILENT, Progress
from .summaries import mean_vectors, unit

NEAR = 0.98  # centred cosine: re-encoded photos lie above, other photos of one scene below
SAME = 0.02  # distance over length of one item in two stores of an encoder: they are rounded
_BLOCK_ELEMENTS = 2**24  # features read, or scores compared, at once: 64 MiB
_MOST_PAIRS = 1000  # of near duplicates that a report lists
_SHOWN = 3  # ids that a message names
_CENTRE = 1000  # trained images that say, with the evaluated ones, where the middle of all is
_NOT_CHOSEN = ("closed form", "last epoch")  # what a report says where no validation chose


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Say what is shared, of what could be compared.

    Attributes:
        selection: Why the evaluated items chose what was kept, or None.
        shared: Evaluated ids that were trained on, by the side they are on.
        choosing: Evaluated ids by which the weights that are kept were chosen, by side.
        near: Evaluated image, trained image and their cosine, nearest first; at most 1,000.
        num_near: How many pairs are that near.
        counters: How many ids stand in both splits for different items.
        unchecked: What could not be compared, and why.
    """

    selection: str | None
    shared: Mapping[str, tuple[str, ...]]
    choosing: Mapping[str, tuple[str, ...]]
    near: tuple[tuple[str, str, float], ...]
    num_near: int
    counters: int
    unchecked: tuple[str, ...]

    @property
    def errors(self) -> list[str]:
        """Return what an evaluation is refused for."""
        found = [self.selection] if self.selection else []
        by_part = {"were trained on": self.shared}
        if not self.selection:
            by_part["chose the epoch that is kept"] = self.choosing
        for did, by_side in by_part.items():
            for side, ids in by_side.items():
                names = ", ".join(ids[:_SHOWN])
                more = " ..." if len(ids) > _SHOWN else ""
                found.append(f"{len(ids)} evaluated {side.replace('_', ' ')}s {did}: {names}{more}")
        return found

    @property
    def warnings(self) -> list[str]:
        """Return what is to be known, errors included: they were allowed."""
        found = [f"leakage: {error}" for error in self.errors]
        if self.num_near:
            found.append(near_message(self.near, self.num_near))
        if self.counters:
            found.append(
                f"{self.counters} ids stand for one item in training and for another here: they "
                "are taken for mere numbers"
            )
        return [*found, *(f"leakage not checked: {reason}" for reason in self.unchecked)]

    def table(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "allowed": bool(self.errors),
            "errors": self.errors,
            "shared": {side: list(ids) for side, ids in self.shared.items()},
            "choosing": {side: list(ids) for side, ids in self.choosing.items()},
            "near_duplicates": [
                {"evaluated": evaluated, "trained": trained, "cosine": cosine}
                for evaluated, trained, cosine in self.near
            ],
            "num_near_duplicates": self.num_near,
            "threshold": NEAR,
            "not_checked": list(self.unchecked),
        }

    def refuse(self, *, allow: bool | None = None) -> None:
        """Refuse the evaluation, unless it is allowed all the same.

        Args:
            allow: Whether it is; None where nobody can allow it.

        Raises:
            LeakageError: Evaluated items took part in the training.
        """
        if self.errors and not allow:
            otherwise = "" if allow is None else ", or measure all the same with --allow-leakage"
            raise LeakageError(f"{'; '.join(self.errors)}: evaluate on other items{otherwise}")

    def beside(self, near: Sequence[tuple[str, str, float]], count: int) -> "Leakage":
        """Return it with further near duplicates, as `near_duplicates` returns them."""
        all_near = tuple(_nearest([*self.near, *near]))
        return replace(self, near=all_near, num_near=self.num_near + count)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """Say what is evaluated.

    Attributes:
        dataset: Name of its dataset.
        split: Name of its split.
        source: Fingerprint of the split.
        sides: Store and evaluated rows of each side.
    """

    dataset: str
    split: str
    source: str
    sides: Mapping[Side, tuple[FeatureReader, Int64[np.ndarray, " _"]]]

    @classmethod
    def of(cls, stores: JoinedStores, rows: Rows) -> "Examined":
        """Return some rows of both sides of a split."""
        first, second = stores.pair.sides
        return cls(
            dataset=stores.pair.dataset,
            split=stores.pair.split,
            source=stores.pair.source,
            sides={first: (stores.first, rows.image), second: (stores.second, rows.text)},
        )

    @classmethod
    def of_images(cls, entry: StoreEntry, reader: FeatureReader) -> "Examined":
        """Return all images of a split."""
        found = entry.description
        return cls(
            dataset=found.dataset,
            split=found.split,
            source=found.source,
            sides={Modality.IMAGE: (reader, np.arange(len(reader)))},
        )


def find_leakage(run: EvaluatedRun, examined: Examined, progress: Progress = SILENT) -> Leakage:
    """Compare evaluated rows with the stores that the run was trained on, and validated by.

    Args:
        run: The run.
        examined: What is evaluated.
        progress: Receives the progress.
    """
    compared = _Compared(StoresByKey.of(run.home))
    seen_by = lineage(run)
    for seen in reversed(seen_by):  # what was there first has the name
        for part in ("train", "validation") if seen.chose else ("train",):
            if part in seen.stores:
                _compare(seen.stores[part], part, examined, compared)
        train = seen.stores["train"]
        if train["source"] == examined.source or Modality.IMAGE not in examined.sides:
            continue
        trained = compared.known.get(train["image"]["key"])
        if trained is not None and compared.is_new("near", train["image"]["key"]):
            reader = FeatureReader(trained.folder, residency="disk")
            evaluated = examined.sides[Modality.IMAGE]
            found, count = near_duplicates(*evaluated, reader, progress)
            compared.near = _nearest(compared.near + found)
            compared.num_near += count
    selections = (seen.selection(examined) for seen in seen_by)
    return Leakage(
        selection=next((said for said in selections if said is not None), None),
        shared=compared.found("train"),
        choosing=compared.found("validation"),
        near=tuple(compared.near),
        num_near=compared.num_near,
        counters=compared.counters,
        unchecked=tuple(dict.fromkeys(compared.unchecked)),
    )


@dataclass(frozen=True)
class Seen:
    """Hold what one run has seen: the evaluated one, or one that it began with.

    Attributes:
        name: Name of the run.
        stores: Its `train` and, if it had one, `validation`.
        selected_by: What its report says of how the kept weights were chosen.
    """

    name: str
    stores: Mapping[str, Any]
    selected_by: str

    @property
    def chose(self) -> bool:
        """Say whether its validation chose its weights."""
        return self.selected_by not in _NOT_CHOSEN

    def selection(self, examined: Examined) -> str | None:
        """Say that the evaluated split is the one by which weights were chosen, if it is."""
        validation = self.stores.get("validation")
        if not self.chose or validation is None or validation["source"] != examined.source:
            return None
        return (
            f"split {examined.split!r} of {examined.dataset} chose the epoch of "
            f"{self.name} by {self.selected_by or 'its validation'}: its numbers are optimistic"
        )


def lineage(run: EvaluatedRun) -> list[Seen]:
    """Return what the run has seen, then the run that it began with, and so on."""
    spec = run.trained["spec"]
    found = [Seen(run.folder.name, run.stores, run.trained.get("selected_by", ""))]
    while "began_with" in spec:
        spec = spec["began_with"]
        found.append(Seen(spec["run"], spec["stores"], spec.get("selected_by", "")))
    return found


@dataclass
class _Compared:
    known: StoresByKey
    shared: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    near: list[tuple[str, str, float]] = field(default_factory=list)
    num_near: int = 0
    counters: int = 0
    unchecked: list[str] = field(default_factory=list)
    done: set[tuple[str, str]] = field(default_factory=set)

    def is_new(self, what: str, key: str) -> bool:
        """Say whether a store has not been compared yet, and note that it will be."""
        fresh = (what, key) not in self.done
        self.done.add((what, key))
        return fresh

    def found(self, part: str) -> dict[str, tuple[str, ...]]:
        """Return the evaluated ids that are in one part of the training, by side."""
        return {side: tuple(sorted(ids)) for (one, side), ids in self.shared.items() if one == part}


def _compare(
    described: Mapping[str, Any], part: str, examined: Examined, compared: _Compared
) -> None:
    """Compare the evaluated items of each side with those of one part of the training."""
    for side, (reader, rows) in examined.sides.items():
        if not compared.is_new(f"{part} {side.value}", described[side.value]["key"]):
            continue  # a fine-tuned run has the texts of that which it began with
        if described["source"] == examined.source:
            ids = [reader.ids[row] for row in rows.tolist()]
            compared.shared.setdefault((part, side.value), set()).update(ids)
            continue
        key = described[side.value]["key"]
        trained = compared.known.get(key)
        if trained is None:
            why = compared.known.why_missing(key)
            compared.unchecked.append(f"the {part} store of {side.label}s {why}")
            continue
        same, other = _same_items(reader, rows, FeatureReader(trained.folder, residency="disk"))
        compared.counters += other
        if same:
            compared.shared.setdefault((part, side.value), set()).update(same)


def _same_items(
    evaluated: FeatureReader, rows: Int64[np.ndarray, " n"], trained: FeatureReader
) -> tuple[list[str], int]:
    """Return the ids that both have for one item, and how many they have for two."""
    ids = [evaluated.ids[row] for row in rows.tolist() if evaluated.ids[row] in trained.row_of]
    if not ids:
        return [], 0
    size = min(map(_rows_at_once, (evaluated, trained)))
    same: list[str] = []
    for start in range(0, len(ids), size):
        block = ids[start : start + size]
        here, there = (
            reader.gather([reader.row_of[one] for one in block], companions=False)
            for reader in (evaluated, trained)
        )
        same += [one for line, one in enumerate(block) if _alike(here.row(line), there.row(line))]
    return same, len(ids) - len(same)


def _alike(first: Shaped[np.ndarray, "_ width"], second: Shaped[np.ndarray, "_ width"]) -> bool:
    """Say whether two rows hold the same tokens, but for rounding."""
    if first.shape != second.shape:
        return False
    one, other = (row.astype(np.float32) for row in (first, second))
    return bool(np.linalg.norm(one - other) <= SAME * np.linalg.norm(one))


def near_duplicates(
    evaluated: FeatureReader,
    rows: Int64[np.ndarray, " n"],
    trained: FeatureReader,
    progress: Progress = SILENT,
) -> tuple[list[tuple[str, str, float]], int]:
    """Return the pairs of images that are nearly the same, nearest first, and how many there are.

    Compared are the means of all tokens of an image, less the mean of the evaluated and some of the
    trained ones: without that, all images of some encoders are alike. The trained ones are read
    block by block.

    Args:
        evaluated: Store of the evaluated images.
        rows: Which of them are evaluated.
        trained: Store of the trained images, by the same encoder.
        progress: Receives the progress.
    """
    found: list[tuple[str, str, float]] = []
    count = 0
    for columns, others, values in close_rows(evaluated, rows, trained, NEAR, progress):
        count += len(values)
        best = np.argsort(-values, kind="stable")[:_MOST_PAIRS]
        found += [
            (evaluated.ids[rows[columns[one]]], trained.ids[others[one]], float(values[one]))
            for one in best.tolist()
        ]
        found = _nearest(found)
    return found, count


def close_rows(
    evaluated: FeatureReader,
    rows: Int64[np.ndarray, " n"],
    trained: FeatureReader,
    least: float,
    progress: Progress = SILENT,
) -> Iterator[tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float32[np.ndarray, " p"]]]:
    """Yield places in `rows`, trained rows and cosines of at least `least`, block by block.

    The cosines are those of `near_duplicates`.
    """
    pooled = mean_vectors(evaluated, rows)
    some = np.linspace(0, len(trained) - 1, min(_CENTRE, len(trained))).astype(np.int64)
    centre = np.concatenate([pooled, mean_vectors(trained, some)]).mean(axis=0)
    ours = unit(pooled - centre)
    size = max(1, min(_rows_at_once(trained), _BLOCK_ELEMENTS // len(ours)))
    starts = range(0, len(trained), size)
    what = f"compare with trained {trained.description.modality}s"
    for start in progress.track(starts, what, len(starts), unit="blocks"):
        block = np.arange(start, min(start + size, len(trained)))
        cosines = unit(mean_vectors(trained, block) - centre) @ ours.T
        lines, columns = np.nonzero(cosines >= least)
        yield columns, block[lines], cosines[lines, columns]


def near_message(near: Sequence[tuple[str, str, float]], count: int) -> str:
    """Say which images are nearly the same, of what `near_duplicates` has found."""
    pairs = "; ".join(
        f"{evaluated} and {trained} ({cosine:.4f})" for evaluated, trained, cosine in near[:_SHOWN]
    )
    more = " ..." if count > _SHOWN else ""
    return (
        f"{count} pairs of an evaluated and a trained image are near duplicates (centred cosine at "
        f"least {NEAR}): {pairs}{more}"
    )


def _nearest(pairs: list[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
    return sorted(pairs, key=lambda pair: -pair[2])[:_MOST_PAIRS]


def _rows_at_once(reader: FeatureReader) -> int:
    return max(1, _BLOCK_ELEMENTS // (int(reader.lengths.max()) * reader.description.width))
