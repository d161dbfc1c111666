"""Find what an evaluation has in common with the training of the run that it evaluates.

Stores are enough: an item is the same if its id and its features by the run's own encoder are.
Ids alone prove nothing, as some datasets count anew in each split. Copies under other ids are told
by the files themselves, see `copied_items`.

Axis names: `n` evaluated rows, `m` trained rows, `width` features of a token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from ...featcache.errors import LeakageError
from ...featcache.reading.reader import FeatureReader
from ...featcache.store.catalog import Catalog, StoreEntry, pairs_path, read_catalog, read_pairs
from ...featcache.store.remedies import extraction
from ...featcache.types import Modality, Side
from ..common.progress import SILENT, Progress
from ..inputs.pairs import BatchRows, PairDataset
from ..inputs.pooled_features import mean_vectors
from ..metrics.vectors import unit
from .copied_items import CopiedImages, SplitOfData, copied_message, find_copied_images
from .trained_run import TrainedRun

NEAR = 0.98  # centred cosine: re-encoded photos lie above, other photos of one scene below
_CALIBRATED = 2000  # trained images that say how near different images of an encoder are
_FEWEST = 50  # of fewer that is not known
_DEVIATIONS = 3.0  # of the logarithm of the distance below its median: one in 700 is nearer
_QUARTILE = 0.6745  # deviations from the median to the quartile of a normal distribution
_ROUNDING = 2e-4  # 1 - cosine of one image in two stores of an encoder: see `SAME`
SAME = 0.02  # distance over length of one item in two stores of an encoder: they are rounded
_BLOCK_ELEMENTS = 2**24  # features read, or scores compared, at once: 64 MiB
_MOST_PAIRS = 1000  # of near duplicates that a report lists
_SHOWN = 3  # ids that a message names
_CENTRE = 1000  # trained images that say, with the evaluated ones, where the middle of all is
_NOT_CHOSEN = ("closed form", "last epoch")  # what a report says where no validation chose


@dataclass(kw_only=True)
class Leakage:
    """Leakage between training and evaluation, as far as it could be compared.

    Attributes:
        selection: Why the evaluated items chose what was kept, or None.
        shared: Evaluated ids that were trained on, by the side they are on.
        choosing: Evaluated ids by which the weights that are kept were chosen, by side.
        near: Evaluated image, trained image and their cosine, nearest first; at most 1,000.
        num_near: How many pairs are that near.
        near_bound: The least cosine that counted as near.
        same_texts: Id of a trained text that says the same as an evaluated one of another id.
        copies: Id of the trained image of which an evaluated one of another id is a byte copy.
        counters: How many ids stand in both splits for different items.
        unchecked: What could not be compared, and why.
    """

    selection: str | None = None
    shared: dict[str, set[str]] = field(default_factory=dict)
    choosing: dict[str, set[str]] = field(default_factory=dict)
    near: list[tuple[str, str, float]] = field(default_factory=list)
    num_near: int = 0
    near_bound: float = NEAR
    same_texts: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    counters: int = 0
    unchecked: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """Return what an evaluation is refused for."""
        refusals = [self.selection] if self.selection else []
        by_part = {"were trained on": self.shared}
        if not self.selection:
            by_part["chose the epoch that is kept"] = self.choosing
        for did, by_side in by_part.items():
            for side, ids in by_side.items():
                names = ", ".join(sorted(ids)[:_SHOWN])
                more = " ..." if len(ids) > _SHOWN else ""
                refusals.append(
                    f"{len(ids)} evaluated {side.replace('_', ' ')}s {did}: {names}{more}"
                )
        return refusals

    @property
    def warnings(self) -> list[str]:
        """Return what is to be known, errors included: they were allowed."""
        lines = [f"leakage: {error}" for error in self.errors]
        if self.copies:
            lines.append(copied_message(self.copies))
        if self.num_near:
            lines.append(near_message(self.near, self.num_near, self.near_bound))
        if self.same_texts:
            same = sorted(self.same_texts.items())
            pairs = "; ".join(" and ".join(pair) for pair in same[:_SHOWN])
            more = " ..." if len(same) > _SHOWN else ""
            lines.append(
                f"{len(same)} evaluated texts say the same as a trained one of another "
                f"id: {pairs}{more}"
            )
        if self.counters:
            lines.append(
                f"{self.counters} ids stand for one item in training and for another here: they "
                "are taken for mere numbers"
            )
        return [*lines, *(f"leakage not checked: {reason}" for reason in self._unchecked_once())]

    def table(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "allowed": bool(self.errors),
            "errors": self.errors,
            "shared": {side: sorted(ids) for side, ids in self.shared.items()},
            "choosing": {side: sorted(ids) for side, ids in self.choosing.items()},
            "near_duplicates": [
                {"evaluated": evaluated, "trained": trained, "cosine": cosine}
                for evaluated, trained, cosine in self.near
            ],
            "num_near_duplicates": self.num_near,
            "threshold": self.near_bound,
            "same_texts": _listed(self.same_texts),
            "num_same_texts": len(self.same_texts),
            "copied_images": _listed(self.copies),
            "num_copied_images": len(self.copies),
            "not_checked": self._unchecked_once(),
        }

    def _unchecked_once(self) -> list[str]:
        return list(dict.fromkeys(self.unchecked))

    def refuse(self, *, allow: bool | None = None, run: str = "") -> None:
        """Refuse the evaluation, unless it is allowed all the same.

        `allow` is None where nobody can allow it; `run` is which of several runs it is of.

        Raises:
            LeakageError: Evaluated items took part in the training.
        """
        if self.errors and not allow:
            otherwise = "" if allow is None else ", or measure all the same with --allow-leakage"
            of_run = f"run {run}: " if run else ""
            reasons = "; ".join(self.errors)
            raise LeakageError(f"{of_run}{reasons}: evaluate on other items{otherwise}")

    def add_copies(self, copied: CopiedImages) -> None:
        """Take what was found to be copied of one of the trained splits."""
        self.copies = {**copied.pairs, **self.copies}
        self.unchecked += copied.unchecked

    def add_near(self, near: "NearDuplicates") -> None:
        """Take what was found near to one of the trained stores."""
        self.near_bound = min(self.near_bound, near.bound) if self.num_near else near.bound
        self.near = _nearest([*self.near, *near.pairs])
        self.num_near += near.count
        self.unchecked += near.unchecked


def _listed(trained_of: Mapping[str, str]) -> list[dict[str, str]]:
    pairs = sorted(trained_of.items())[:_MOST_PAIRS]
    return [{"evaluated": evaluated, "trained": trained} for evaluated, trained in pairs]


@dataclass(frozen=True)
class EvaluatedItems:
    """Evaluated items: where they are from, with the store and the rows of each side."""

    place: SplitOfData
    sides: Mapping[Side, tuple[FeatureReader, Int64[np.ndarray, " _"]]]

    @property
    def source(self) -> str:
        """Return the fingerprint of the split."""
        return self.place.source

    @classmethod
    def of(cls, stores: PairDataset, rows: BatchRows) -> "EvaluatedItems":
        """Return some rows of both sides of a split."""
        readers = zip((stores.first, stores.second), (rows.first, rows.second), strict=True)
        place = SplitOfData.of(stores.pair.first.description)
        return cls(place, dict(zip(stores.pair.sides, readers, strict=True)))

    @classmethod
    def of_images(cls, entry: StoreEntry, reader: FeatureReader) -> "EvaluatedItems":
        """Return all images of a split."""
        rows = np.arange(len(reader))
        return cls(SplitOfData.of(entry.description), {Modality.IMAGE: (reader, rows)})


def find_leakage(run: TrainedRun, examined: EvaluatedItems, progress: Progress = SILENT) -> Leakage:
    """Compare evaluated rows with the stores that the run was trained on, and validated by."""
    comparison = _Comparison(read_catalog(run.home), examined, progress)
    leakage = comparison.leakage
    # from the oldest run on, so that what both saw is reported of the one that saw it first
    for past in reversed(lineage(run)):
        leakage.selection = past.selection(examined) or leakage.selection
        train = past.stores["train"]
        comparison.find_items(train, "train", leakage.shared)
        if past.chose and "validation" in past.stores:
            comparison.find_items(past.stores["validation"], "validation", leakage.choosing)
        # what was learnt from without a partner was seen all the same
        for unpaired in past.unpaired:
            comparison.find_items(unpaired, "unpaired", leakage.shared)
        for seen in (train, *past.unpaired):
            # of the very split that was trained on every item is shared, and nothing more can be
            # said
            if seen["source"] == examined.source:
                continue
            comparison.find_texts(seen)
            comparison.find_images(seen)
    leakage.unchecked += [
        f"copies and near duplicates of {side.label}s: these are looked for among images alone"
        for side in examined.sides
        if side.modality not in {Modality.IMAGE, Modality.TEXT}
    ]
    return leakage


@dataclass(frozen=True)
class SeenByRun:
    """Stores that one run has seen: the evaluated run, or one that it began with.

    Attributes:
        stores: Its `train` and, if it had them, `validation` and `unpaired`.
        selected_by: What its report says of how the kept weights were chosen.
    """

    name: str
    stores: Mapping[str, Any]
    selected_by: str

    @property
    def unpaired(self) -> list[Mapping[str, Any]]:
        """Return the splits of items without a partner, each with the store of its one side."""
        return [
            {**{key: store[key] for key in ("dataset", "split", "source")}, side: store}
            for side, store in self.stores.get("unpaired", {}).items()
        ]

    @property
    def chose(self) -> bool:
        """Return whether the weights were chosen by its validation."""
        return self.selected_by not in _NOT_CHOSEN

    def selection(self, examined: EvaluatedItems) -> str | None:
        """Return the warning that weights were chosen by the evaluated split, or None if not."""
        validation = self.stores.get("validation")
        if not self.chose or validation is None or validation["source"] != examined.source:
            return None
        return (
            f"split {examined.place.split!r} of {examined.place.dataset} chose the epoch of "
            f"{self.name} by {self.selected_by or 'its validation'}: its numbers are optimistic"
        )


def lineage(run: TrainedRun) -> list[SeenByRun]:
    """Return what the run has seen, then the run that it began with, and so on."""
    spec = run.trained["spec"]
    ancestors = [SeenByRun(run.folder.name, run.stores, run.trained.get("selected_by", ""))]
    while "began_with" in spec:
        spec = spec["began_with"]
        ancestors.append(SeenByRun(spec["run"], spec["stores"], spec.get("selected_by", "")))
    return ancestors


class _Comparison:
    """Comparison of the evaluated items with what a run and those before it were trained on."""

    def __init__(self, stored: Catalog, examined: EvaluatedItems, progress: Progress) -> None:
        self.stored = stored
        self.examined = examined
        self.progress = progress
        self.leakage = Leakage()
        self.done: set[tuple[str, str]] = set()

    def _is_new(self, what: str, key: str) -> bool:
        """Return whether a store has not been compared yet, and mark it as compared."""
        fresh = (what, key) not in self.done
        self.done.add((what, key))
        return fresh

    def find_items(
        self, described: Mapping[str, Any], part: str, shared: dict[str, set[str]]
    ) -> None:
        """Find the evaluated items of each side that are in one part of the training."""
        for side, (reader, rows) in self.examined.sides.items():
            if side.value not in described:
                continue
            key = described[side.value]["key"]
            if not self._is_new(f"{part} {side.value}", key):
                # a fine-tuned run has the text store of the run that it began with
                continue
            trained = self.stored.get(key)
            if described["source"] == self.examined.source:
                same = [reader.ids[row] for row in rows.tolist()]
            elif trained is None:
                why = self.stored.why_missing(key)
                self.leakage.unchecked.append(f"the {part} store of {side.label}s {why}")
                continue
            else:
                store = FeatureReader(trained.folder, residency="disk")
                same, other = _same_items(reader, rows, store)
                self.leakage.counters += other
            if same:
                shared.setdefault(side.value, set()).update(same)

    def find_images(self, train: Mapping[str, Any]) -> None:
        """Find the evaluated images that are copies of trained ones, or nearly the same."""
        sides = [
            side
            for side in self.examined.sides
            if side.modality is Modality.IMAGE and side.value in train
        ]
        if not sides:
            return
        # two image encoders have the same images, of which the features of one will do
        side = sides[0]
        reader, rows = self.examined.sides[side]
        if self._is_new("copies", train["source"]):
            shared = self.leakage.shared.get(side.value, set())
            copied = find_copied_images(
                self.examined.place,
                {reader.ids[row] for row in rows.tolist()} - shared,
                SplitOfData(dataset=train["dataset"], split=train["split"], source=train["source"]),
                home=self.stored.home,
                progress=self.progress,
            )
            self.leakage.copies.update(copied.pairs)
            self.leakage.unchecked += copied.unchecked
        key = train[side.value]["key"]
        trained = self.stored.get(key)
        if trained is not None and self._is_new("near", key):
            store = FeatureReader(trained.folder, residency="disk")
            self.leakage.add_near(near_duplicates(reader, rows, store, self.progress))

    def find_texts(self, train: Mapping[str, Any]) -> None:
        """Find the evaluated texts that say the same as a trained one, by their marks."""
        sides = [
            side
            for side in self.examined.sides
            if side.modality is Modality.TEXT and side.value in train
        ]
        if not sides or not self._is_new("texts", train["source"]):
            return
        home, place = self.stored.home, self.examined.place
        ours = marks_of(home, place.dataset, place.split, place.source)
        theirs = marks_of(home, train["dataset"], train["split"], train["source"])
        if ours is None or theirs is None:
            reader, _ = self.examined.sides[sides[0]]
            entry = self.stored.get(train[sides[0].value]["key"])
            if ours is not None and entry is not None:
                reader = FeatureReader(entry.folder, residency="disk")
            store = reader.store
            command = extraction(store.description, store.manifest.get("settings"), home=home)
            self.leakage.unchecked.append(
                "which evaluated texts say the same as trained ones: an earlier version extracted "
                f"them and did not keep that; `{command}` looks it up and encodes nothing that is "
                "there"
            )
            return
        trained: dict[int, str] = {}
        for name, mark in theirs.items():
            trained.setdefault(mark, name)
        shared = set().union(*self.leakage.shared.values())
        for reader, rows in (self.examined.sides[side] for side in sides):
            names = (reader.ids[row] for row in rows.tolist())
            self.leakage.same_texts.update(
                (name, trained[ours[name]])
                for name in names
                if name not in shared and ours.get(name) in trained
            )


def marks_of(home: Path, dataset: str, split: str, source: str) -> Mapping[str, int] | None:
    """Return the mark of each text of a split, or None where that is not known."""
    path = pairs_path(home, dataset, split, source)
    # pairs are removed with the last store of the split; that the store is gone is said elsewhere
    if not path.is_file():
        return {}
    pairs = read_pairs(path)
    text_ids = pairs.ids_of(Modality.TEXT)
    if pairs.text_marks is None:
        return None if len(text_ids) else {}
    return dict(zip(text_ids, pairs.text_marks.tolist(), strict=True))


def _same_items(
    evaluated: FeatureReader, rows: Int64[np.ndarray, " n"], trained: FeatureReader
) -> tuple[list[str], int]:
    """Return the ids that both have for one item, and how many they have for two."""
    ids = [evaluated.ids[row] for row in rows.tolist() if evaluated.ids[row] in trained.row_of]
    # ids may be counters: an id that both have says nothing until the features agree
    if not ids:
        return [], 0
    size = min(map(_rows_at_once, (evaluated, trained)))
    same: list[str] = []
    for start in range(0, len(ids), size):
        block = ids[start : start + size]
        here, there = (
            reader.gather([reader.row_of[item] for item in block], companions=False, ids=False)
            for reader in (evaluated, trained)
        )
        same += [item for line, item in enumerate(block) if _alike(here.row(line), there.row(line))]
    return same, len(ids) - len(same)


def _alike(first: Shaped[np.ndarray, "_ width"], second: Shaped[np.ndarray, "_ width"]) -> bool:
    """Return whether two rows hold the same tokens, but for rounding."""
    if first.shape != second.shape:
        return False
    left, right = (row.astype(np.float32) for row in (first, second))
    return bool(np.linalg.norm(left - right) <= SAME * np.linalg.norm(left))


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Evaluated images that are nearly the same as a trained one.

    Attributes:
        pairs: Evaluated image, trained image and their cosine, nearest first; at most 1,000.
        count: How many pairs are that near.
        bound: Least cosine that counts as near.
        unchecked: Why the features cannot tell, if they cannot.
    """

    pairs: Sequence[tuple[str, str, float]] = ()
    count: int = 0
    bound: float = NEAR
    unchecked: Sequence[str] = ()


def near_duplicates(
    evaluated: FeatureReader,
    rows: Int64[np.ndarray, " n"],
    trained: FeatureReader,
    progress: Progress = SILENT,
) -> NearDuplicates:
    """Return the pairs of images that are nearly the same.

    Compared are the means of all tokens of an image, less the mean of the evaluated and some of the
    trained ones: without that, all images of some encoders are alike. The trained ones are read
    block by block.
    """
    bound = near_bound(trained)
    if bound is None:
        encoder = trained.description.encoder
        reason = (
            f"near duplicates: the features of {encoder} are so alike for different images that "
            "they cannot tell which are nearly the same"
        )
        return NearDuplicates(unchecked=(reason,))
    closest: list[tuple[str, str, float]] = []
    count = 0
    for columns, others, values in close_rows(evaluated, rows, trained, bound, progress):
        count += len(values)
        best = np.argsort(-values, kind="stable")[:_MOST_PAIRS]
        closest += [
            (
                evaluated.ids[rows[columns[number]]],
                trained.ids[others[number]],
                float(values[number]),
            )
            for number in best.tolist()
        ]
        # cut after each block, so that memory does not grow with the number of pairs
        closest = _nearest(closest)
    return NearDuplicates(pairs=closest, count=count, bound=bound)


def near_bound(trained: FeatureReader) -> float | None:
    """Return the least centred cosine of near duplicates by an encoder; None where none tells.

    It is `NEAR` unless different images are that near, too. How near these are is what the nearest
    others of some trained images say: the logarithms of their distances, 1 - cosine, have a median
    and, from the upper half, which duplicates within the training do not reach, a deviation; near
    is what lies three deviations below the median. Below the rounding of stored features nothing
    can be told.
    """
    if len(trained) < _FEWEST:
        return NEAR
    sample = np.linspace(0, len(trained) - 1, min(_CALIBRATED, len(trained))).astype(np.int64)
    # without the mean of all, images of an encoder with a common direction look all alike
    pooled = mean_vectors(trained, sample)
    vectors = unit(pooled - pooled.mean(axis=0))
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1.0)
    distances = np.maximum(1.0 - cosines.max(axis=1).astype(np.float64), 1e-9)
    median, upper = np.quantile(np.log(distances), (0.5, 0.75))
    least = float(np.exp(median - _DEVIATIONS * (upper - median) / _QUARTILE))
    return None if least < _ROUNDING else max(NEAR, 1.0 - least)


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
    sample = np.linspace(0, len(trained) - 1, min(_CENTRE, len(trained))).astype(np.int64)
    centre = np.concatenate([pooled, mean_vectors(trained, sample)]).mean(axis=0)
    # rows are compared with all evaluated ones at once, a block of trained ones at a time
    ours = unit(pooled - centre)
    size = max(1, min(_rows_at_once(trained), _BLOCK_ELEMENTS // len(ours)))
    starts = range(0, len(trained), size)
    what = f"compare with trained {trained.description.modality}s"
    for start in progress.track(starts, what, len(starts), unit="blocks"):
        block = np.arange(start, min(start + size, len(trained)))
        cosines = unit(mean_vectors(trained, block) - centre) @ ours.T
        lines, columns = np.nonzero(cosines >= least)
        yield columns, block[lines], cosines[lines, columns]


def near_message(near: Sequence[tuple[str, str, float]], count: int, bound: float) -> str:
    """Return the warning that names the near duplicates that `near_duplicates` has found."""
    pairs = "; ".join(
        f"{evaluated} and {trained} ({cosine:.4f})" for evaluated, trained, cosine in near[:_SHOWN]
    )
    more = " ..." if count > _SHOWN else ""
    return (
        f"{count} pairs of an evaluated and a trained image are near duplicates (centred cosine at "
        f"least {bound:.4g}): {pairs}{more}"
    )


def _nearest(pairs: list[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
    return sorted(pairs, key=lambda pair: -pair[2])[:_MOST_PAIRS]


def _rows_at_once(reader: FeatureReader) -> int:
    return max(1, _BLOCK_ELEMENTS // (int(reader.lengths.max()) * reader.description.width))
