"""Images of a split with their features and classes, from the stores alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64

from ..featcache import catalog
from ..featcache.catalog import StoreEntry
from ..featcache.checked import listing_command
from ..featcache.errors import LeakageError, SpecError, StoreCorruptError, StoreNotFoundError
from ..featcache.reader import FeatureReader
from ..featcache.remedies import extraction, removal_of_store
from ..featcache.types import Modality
from .copied_items import CopiedImages, SplitOfData, find_copied_images
from .evaluated import EvaluatedRun
from .leakage import Examined, Leakage, find_leakage, lineage, near_duplicates
from .progress import SILENT, Progress
from .stores import (
    SideQuery,
    StoreQuery,
    WantedData,
    note_versions,
    others_line,
    readable_stores,
    require_data,
)
from .summaries import mean_vectors


def require_images(
    home: Path, query: SideQuery, wanted: WantedData, split: str, progress: Progress = SILENT
) -> StoreEntry:
    """Return the newest complete store of the images of a split.

    Args:
        home: Folder of everything lightalign keeps.
        query: By which encoder.
        wanted: Of which dataset; it has a name.
        split: Name of the split.
        progress: Receives a note where several versions of the dataset are there.

    Raises:
        StoreNotFoundError: There is none.
        DatasetNotFoundError: There is none, and the dataset is not where it is remembered.
        UnknownNameError: The dataset has no such split.
    """
    asked = StoreQuery.of(wanted, split, {Modality.IMAGE: query})
    found = asked.matching(readable_stores(home, asked, progress), Modality.IMAGE)
    if not found:
        require_data(home, asked)
        raise StoreNotFoundError(
            f"no store for {asked.describe()} in {home}, of the layer, tokens, type and precision "
            f"that the run reads{others_line(home, asked)}; "
            f"run `{query.extraction(wanted.words, home=home)}`"
        )
    note_versions(found, progress)
    return found[0]


class ClassRows:
    """Hold the images of a split that have a row, with the class of each.

    Args:
        entry: Store of the images.
        home: Folder of everything lightalign keeps.
        residency: Where to hold the features, as `FeatureReader` says.
        device: Where they will be used, or None for the CPU.

    Attributes:
        entry: As given.
        reader: Reader of the store.
        names: Name of each class.
        labels: Class of each row, an index into `names`.

    Raises:
        SpecError: The dataset has no classes.
        StoreCorruptError: An image has no class.
    """

    def __init__(
        self,
        entry: StoreEntry,
        *,
        home: Path,
        residency: str = "auto",
        device: torch.device | None = None,
    ) -> None:
        self.entry = entry
        self.reader = FeatureReader(entry.folder, residency=residency, device=device)
        found = entry.description
        path = catalog.pairs_path(home, found.dataset, found.split, found.source)
        classes = catalog.read_pairs(path).classes
        if classes is None:
            raise SpecError(
                f"dataset {found.dataset!r} has no classes: name one of classes, see "
                "`lightalign list datasets`"
            )
        lacking = next((item for item in self.reader.ids if item not in classes.of_image), None)
        if lacking is not None:
            removal = removal_of_store(entry.folder, home)
            raise StoreCorruptError(
                f"{path} has no class of image {lacking!r}: remove the store by `{removal}` and "
                f"extract it again by `{extraction(found, home=home)}`"
            )
        self.names = classes.names
        labels = [classes.of_image[item] for item in self.reader.ids]
        self.labels: Int64[np.ndarray, " n"] = np.array(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Return the numbers of all rows."""
        return np.arange(len(self))

    @property
    def num_skipped(self) -> int:
        """Return how many images of the split have no row, as they could not be read."""
        return self.entry.description.num_items - len(self)

    def pooled(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m width"]:
        """Return the mean over the tokens of each row: features that no adapter has seen."""
        return mean_vectors(self.reader, rows)


@dataclass(frozen=True, kw_only=True)
class ClassSplits:
    """Images to train a classifier on, and those to measure it on.

    Attributes:
        train: Images to train on, of two classes or more.
        evaluated: Images to measure.
        leakage: What both, and the training of the adapter, have in common.
        warnings: What to know before any number of theirs is believed, leakage included.
    """

    train: ClassRows
    evaluated: ClassRows
    leakage: Leakage
    warnings: tuple[str, ...]


def open_both(
    run: EvaluatedRun,
    wanted: WantedData,
    *,
    train_split: str,
    split: str,
    progress: Progress = SILENT,
) -> ClassSplits:
    """Open the images to train on and those to measure, and check them for any classifier.

    Raises:
        LightalignError: See `require_images`, `ClassRows`, `check_classes` and `require_apart`.
    """
    query = run.query(Modality.IMAGE)
    train, evaluated = (
        ClassRows(
            require_images(run.home, query, wanted, one, progress),
            home=run.home,
            device=run.device,
        )
        for one in (train_split, split)
    )
    leakage = require_apart(train, evaluated, run=run, progress=progress)
    warnings = (*leakage.warnings, *check_classes(train, evaluated, home=run.home))
    return ClassSplits(train=train, evaluated=evaluated, leakage=leakage, warnings=warnings)


def check_classes(train: ClassRows, evaluated: ClassRows, *, home: Path) -> list[str]:
    """Return what to know of the classes that a classifier is trained on and measured on.

    Raises:
        SpecError: There are training images of one class alone: whatever is learnt answers with it.
    """
    present = np.unique(train.labels)
    if len(present) < 2:
        only = "".join(f", {train.names[label]!r}" for label in present)
        raise SpecError(
            f"{len(present)} class of {_label(train)} has training images{only}: a classifier "
            "needs two or more"
        )
    warnings = []
    absent = sorted(set(evaluated.labels.tolist()) - set(present.tolist()))
    if absent:
        warnings.append(
            f"{len(absent)} classes have no training image, such as "
            f"{train.names[absent[0]]!r}: their images are all wrong"
        )
    measured = np.unique(evaluated.labels)
    if len(measured) == 1:
        warnings.append(
            f"all images of {_label(evaluated)} are of one class, {train.names[measured[0]]!r}: a "
            "classifier that always answers with it has 100 %"
        )
    left_out = [
        f"{rows.num_skipped} images of split {rows.entry.description.split!r} are left out: they "
        f"could not be read (`{listing_command(rows.entry.folder, home)}` lists them)"
        for rows in (train, evaluated)
        if rows.num_skipped
    ]
    return [*warnings, *left_out]


def require_apart(
    train: ClassRows, evaluated: ClassRows, *, run: EvaluatedRun, progress: Progress = SILENT
) -> Leakage:
    """Refuse to measure images that were trained on, or that chose what is measured.

    Copies under other names are found by their bytes, and images that are nearly the same by their
    features; both are a warning, as in `leakage`.

    Args:
        train: Images that a classifier is trained on.
        evaluated: Images that it is measured on.
        run: The run whose adapter takes part.
        progress: Receives the progress.

    Returns:
        What is in common all the same.

    Raises:
        LeakageError: The two are the same split or have images in common, or evaluated images took
            part in the training of the adapter or in its choice.
        SpecError: Their classes are not the same.
    """
    if train.names != evaluated.names:
        raise SpecError(
            f"{_label(train)} has the classes {list(train.names[:5])} ..., {_label(evaluated)} has "
            f"{list(evaluated.names[:5])} ...: both must be of one dataset"
        )
    common = sorted(set(train.reader.ids) & set(evaluated.reader.ids))
    if common:
        raise LeakageError(
            f"{len(common)} images are in {_label(train)}, which is trained on, and in "
            f"{_label(evaluated)}, which is evaluated, such as {common[:3]}: evaluate other images"
        )
    leakage = find_leakage(run, Examined.of_images(evaluated.entry, evaluated.reader), progress)
    leakage.refuse()
    leakage = leakage.with_copies(_copied(train, evaluated, run=run, progress=progress))
    keys = {seen.stores["train"]["image"]["key"] for seen in lineage(run)}
    if train.entry.key in keys:  # it has been compared
        return leakage
    return leakage.beside(near_duplicates(evaluated.reader, evaluated.rows, train.reader, progress))


def _copied(
    train: ClassRows, evaluated: ClassRows, *, run: EvaluatedRun, progress: Progress
) -> CopiedImages:
    """Return the evaluated images that are copies of those that a classifier is trained on."""
    here, there = (
        SplitOfData(dataset=one.dataset, split=one.split, source=one.source)
        for one in (evaluated.entry.description, train.entry.description)
    )
    if there.source in {seen.stores["train"]["source"] for seen in lineage(run)}:
        return CopiedImages(pairs={})  # it has been compared
    return find_copied_images(here, evaluated.reader.ids, there, home=run.home, progress=progress)


def _label(rows: ClassRows) -> str:
    found = rows.entry.description
    return f"{found.dataset}/{found.split}"


def hold_out(
    labels: Int64[np.ndarray, " n"], *, share: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return places to train on and places to choose by, both sorted, class by class at random.

    Of a class of m images round(share m) are held out, at least 1 and at most m - 1: one of a
    single image holds none.

    Args:
        labels: Class of each place.
        share: Share to hold out, in (0, 1).
        seed: Seed of the choice.
    """
    random = np.random.default_rng(seed)
    held = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(share * len(places))), len(places) - 1)
        held.append(places[:count])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
