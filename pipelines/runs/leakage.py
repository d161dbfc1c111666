"""Find what an evaluation has in common with the training of the run that it evaluates.

Stores are enough: an item is the same if its id and its features by the run's own encoder are.
Ids alone prove nothing, as some datasets count anew in each split. Copies under other ids are told
by the files themselves, see `copied_items`.

Axis names: `n` evaluated rows, `m` trained rows, `width` features of a token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Leakage between training and evaluation, as far as it could be compared.

    Attributes:
        selection: Why the evaluated items chose what was kept, or None.
        shared: Evaluated ids that were trained on, by the side they are on.
        choosing: Evaluated ids by which the weights that are kept were chosen, by side.
        near: Evaluated image, trained image and their cosine, nearest first; at most 1,000.
        num_near: How many pairs are that near.
        near_bound: The least cosine that counted as near.
        same_texts: Evaluated and trained id of texts that say the same; at most 1,000.
        num_same_texts: How many evaluated texts say the same as a trained one of another id.
        copies: Trained id by the evaluated one of images that are byte copies; at most 1,000.
        num_copies: How many evaluated images are a copy of a trained one of another id.
        counters: How many ids stand in both splits for different items.
        unchecked: What could not be compared, and why.
    """

    selection: str | None
    shared: Mapping[str, tuple[str, ...]]
    choosing: Mapping[str, tuple[str, ...]]
    near: tuple[tuple[str, str, float], ...]
    num_near: int
    near_bound: float = NEAR
    same_texts: tuple[tuple[str, str], ...] = ()
    num_same_texts: int = 0
    copies: Mapping[str, str] = field(default_factory=dict)
    num_copies: int = 0
    counters: int
    unchecked: tuple[str, ...]

    @property
    def errors(self) -> list[str]:
        """Return what an evaluation is refused for."""
        refusals = [self.selection] if self.selection else []
        by_part = {"were trained on": self.shared}
        if not self.selection:
            by_part["chose the epoch that is kept"] = self.choosing
        for did, by_side in by_part.items():
            for side, ids in by_side.items():
                names = ", ".join(ids[:_SHOWN])
                more = " ..." if len(ids) > _SHOWN else ""
                refusals.append(
                    f"{len(ids)} evaluated {side.replace('_', ' ')}s {did}: {names}{more}"
                )
        return refusals

    @property
    def warnings(self) -> list[str]:
        """Return what is to be known, errors included: they were allowed."""
        lines = [f"leakage: {error}" for error in self.errors]
        if self.num_copies:
            lines.append(copied_message(self.copies, self.num_copies))
        if self.num_near:
            lines.append(near_message(self.near, self.num_near, self.near_bound))
        if self.num_same_texts:
            pairs = "; ".join(" and ".join(pair) for pair in self.same_texts[:_SHOWN])
            more = " ..." if self.num_same_texts > _SHOWN else ""
            lines.append(
                f"{self.num_same_texts} evaluated texts say the same as a trained one of another "
                f"id: {pairs}{more}"
            )
        if self.counters:
            lines.append(
                f"{self.counters} ids stand for one item in training and for another here: they "
                "are taken for mere numbers"
            )
        return [*lines, *(f"leakage not checked: {reason}" for reason in self.unchecked)]

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
            "threshold": self.near_bound,
            "same_texts": [
                {"evaluated": evaluated, "trained": trained}
                for evaluated, trained in self.same_texts
            ],
            "num_same_texts": self.num_same_texts,
            "copied_images": [
                {"evaluated": evaluated, "trained": trained}
                for evaluated, trained in self.copies.items()
            ],
            "num_copied_images": self.num_copies,
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

    def with_copies(self, copied: CopiedImages) -> "Leakage":
        """Return it with further copies."""
        pairs = dict(sorted({**copied.pairs, **self.copies}.items())[:_MOST_PAIRS])
        num = self.num_copies + len(copied.pairs.keys() - self.copies.keys())
        unchecked = (*self.unchecked, *copied.unchecked)
        return replace(self, copies=pairs, num_copies=num, unchecked=unchecked)

    def beside(self, near: "NearDuplicates") -> "Leakage":
        """Return it with further near duplicates."""
        return replace(
            self,
            near=tuple(_nearest([*self.near, *near.pairs])),
            num_near=self.num_near + near.count,
            near_bound=min(self.near_bound, near.bound) if self.num_near else near.bound,
            unchecked=(*self.unchecked, *near.unchecked),
        )


@dataclass(frozen=True, kw_only=True)
class EvaluatedItems:
    """Evaluated items: their dataset, split, and rows by side.

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
    def of(cls, stores: PairDataset, rows: BatchRows) -> "EvaluatedItems":
        """Return some rows of both sides of a split."""
        first, second = stores.pair.sides
        return cls(
            dataset=stores.pair.dataset,
            split=stores.pair.split,
            source=stores.pair.source,
            sides={first: (stores.first, rows.image), second: (stores.second, rows.text)},
        )

    @classmethod
    def of_images(cls, entry: StoreEntry, reader: FeatureReader) -> "EvaluatedItems":
        """Return all images of a split."""
        description = entry.description
        return cls(
            dataset=description.dataset,
            split=description.split,
            source=description.source,
            sides={Modality.IMAGE: (reader, np.arange(len(reader)))},
        )


def find_leakage(run: TrainedRun, examined: EvaluatedItems, progress: Progress = SILENT) -> Leakage:
    """Compare evaluated rows with the stores that the run was trained on, and validated by.

    Args:
        run: The run.
        examined: What is evaluated.
        progress: Receives the progress.
    """
    compared = _Compared(read_catalog(run.home))
    seen_by = lineage(run)
    for seen in reversed(seen_by):  # what was there first has the name
        for part in ("train", "validation") if seen.chose else ("train",):
            if part in seen.stores:
                _compare(seen.stores[part], part, examined, compared)
        train = seen.stores["train"]
        if train["source"] != examined.source:
            _compare_texts(train, examined, compared)
            _compare_images(train, examined, compared, progress)
        if train["source"] == examined.source or Modality.IMAGE not in examined.sides:
            continue
        trained = compared.known.get(train["image"]["key"])
        if trained is not None and compared.is_new("near", train["image"]["key"]):
            reader = FeatureReader(trained.folder, residency="disk")
            evaluated = examined.sides[Modality.IMAGE]
            compared.add_near(near_duplicates(*evaluated, reader, progress))
    selections = (seen.selection(examined) for seen in seen_by)
    return Leakage(
        selection=next((said for said in selections if said is not None), None),
        shared=compared.found("train"),
        choosing=compared.found("validation"),
        near=tuple(compared.near),
        num_near=compared.num_near,
        near_bound=compared.near_bound,
        same_texts=tuple(sorted(compared.same_texts.items())[:_MOST_PAIRS]),
        num_same_texts=len(compared.same_texts),
        copies=dict(sorted(compared.copies.items())[:_MOST_PAIRS]),
        num_copies=len(compared.copies),
        counters=compared.counters,
        unchecked=tuple(dict.fromkeys(compared.unchecked)),
    )


@dataclass(frozen=True)
class SeenByRun:
    """Stores that one run has seen: the evaluated run, or one that it began with.

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
        """Return whether the weights were chosen by its validation."""
        return self.selected_by not in _NOT_CHOSEN

    def selection(self, examined: EvaluatedItems) -> str | None:
        """Return the warning that weights were chosen by the evaluated split, or None if not."""
        validation = self.stores.get("validation")
        if not self.chose or validation is None or validation["source"] != examined.source:
            return None
        return (
            f"split {examined.split!r} of {examined.dataset} chose the epoch of "
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


@dataclass
class _Compared:
    known: Catalog
    shared: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    near: list[tuple[str, str, float]] = field(default_factory=list)
    num_near: int = 0
    near_bound: float = NEAR
    same_texts: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    counters: int = 0
    unchecked: list[str] = field(default_factory=list)
    done: set[tuple[str, str]] = field(default_factory=set)

    def is_new(self, what: str, key: str) -> bool:
        """Return whether a store has not been compared yet, and mark it as compared."""
        fresh = (what, key) not in self.done
        self.done.add((what, key))
        return fresh

    def add_near(self, near: "NearDuplicates") -> None:
        """Take what was found near to one of the trained stores."""
        self.near_bound = min(self.near_bound, near.bound) if self.num_near else near.bound
        self.near = _nearest([*self.near, *near.pairs])
        self.num_near += near.count
        self.unchecked += near.unchecked

    def found(self, part: str) -> dict[str, tuple[str, ...]]:
        """Return the evaluated ids that are in one part of the training, by side."""
        return {
            side: tuple(sorted(ids))
            for (shared_part, side), ids in self.shared.items()
            if shared_part == part
        }


def _compare(
    described: Mapping[str, Any], part: str, examined: EvaluatedItems, compared: _Compared
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


def _compare_images(
    train: Mapping[str, Any], examined: EvaluatedItems, compared: _Compared, progress: Progress
) -> None:
    """Find the evaluated images that are byte copies of those of a training split."""
    if Modality.IMAGE not in examined.sides or not compared.is_new("copies", train["source"]):
        return
    reader, rows = examined.sides[Modality.IMAGE]
    shared = compared.shared.get(("train", Modality.IMAGE.value), set())
    copied = find_copied_images(
        SplitOfData(dataset=examined.dataset, split=examined.split, source=examined.source),
        {reader.ids[row] for row in rows.tolist()} - shared,
        SplitOfData(dataset=train["dataset"], split=train["split"], source=train["source"]),
        home=compared.known.home,
        progress=progress,
    )
    compared.copies.update(copied.pairs)
    compared.unchecked += copied.unchecked


def _compare_texts(train: Mapping[str, Any], examined: EvaluatedItems, compared: _Compared) -> None:
    """Find the evaluated texts that say the same as one of a training split, by their marks."""
    texts = {
        side: text_rows
        for side, text_rows in examined.sides.items()
        if side.modality is Modality.TEXT
    }
    if not texts or not compared.is_new("texts", train["source"]):
        return
    home = compared.known.home
    ours = marks_of(home, examined.dataset, examined.split, examined.source)
    theirs = marks_of(home, train["dataset"], train["split"], train["source"])
    if ours is None or theirs is None:
        side, (reader, _) = next(iter(texts.items()))
        entry = compared.known.get(train[side.value]["key"])
        if ours is not None and entry is not None:
            reader = FeatureReader(entry.folder, residency="disk")
        store = reader.store
        command = extraction(store.description, store.manifest.get("settings"), home=home)
        compared.unchecked.append(
            "which evaluated texts say the same as trained ones: an earlier version extracted them "
            f"and did not keep that; `{command}` looks it up and encodes nothing that is there"
        )
        return
    trained: dict[str, str] = {}
    for name, mark in theirs.items():
        trained.setdefault(mark, name)
    trained_ids = {
        trained_id
        for (part, _), ids in compared.shared.items()
        if part == "train"
        for trained_id in ids
    }
    for reader, rows in texts.values():
        names = (reader.ids[row] for row in rows.tolist())
        compared.same_texts.update(
            (name, trained[ours[name]])
            for name in names
            if name not in trained_ids and ours.get(name) in trained
        )


def marks_of(home: Path, dataset: str, split: str, source: str) -> Mapping[str, str] | None:
    """Return the mark of each text of a split, or None where that is not known."""
    path = pairs_path(home, dataset, split, source)
    if not path.is_file():  # gone with its stores, which is said already
        return {}
    pairs = read_pairs(path)
    if pairs.text_marks is None:
        return None if pairs.text_ids else {}
    return dict(zip(pairs.text_ids, pairs.text_marks, strict=True))


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
            reader.gather([reader.row_of[item] for item in block], companions=False)
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

    pairs: tuple[tuple[str, str, float], ...] = ()
    count: int = 0
    bound: float = NEAR
    unchecked: tuple[str, ...] = ()


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

    Args:
        evaluated: Store of the evaluated images.
        rows: Which of them are evaluated.
        trained: Store of the trained images, by the same encoder.
        progress: Receives the progress.
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
    return NearDuplicates(pairs=tuple(closest), count=count, bound=bound)


def near_bound(trained: FeatureReader) -> float | None:
    """Return the least centred cosine of near duplicates by an encoder; None where none tells.

    It is `NEAR` unless different images are that near, too. How near these are is what the nearest
    others of some trained images say: the logarithms of their distances, 1 - cosine, have a median
    and, from the upper half, which duplicates within the training do not reach, a deviation; near
    is what lies three deviations below the median. Below the rounding of stored features nothing
    can be told.

    Args:
        trained: Store of the trained images.
    """
    if len(trained) < _FEWEST:
        return NEAR
    sample = np.linspace(0, len(trained) - 1, min(_CALIBRATED, len(trained))).astype(np.int64)
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
