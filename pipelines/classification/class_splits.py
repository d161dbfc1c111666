"""Images to train a classifier on and to measure it on, held apart and checked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...featcache.errors import LeakageError, SpecError
from ...featcache.store.checked_shards import listing_command
from ...featcache.types import Modality
from ..common.progress import SILENT, Progress
from ..inputs.labelled_images import LabelledImages
from ..inputs.store_selection import DatasetQuery, StoreQuery, require_stores
from ..runs.copied_items import CopiedImages, SplitOfData, find_copied_images
from ..runs.leakage import EvaluatedItems, Leakage, find_leakage, lineage, near_duplicates
from ..runs.trained_run import TrainedRun


@dataclass(frozen=True, kw_only=True)
class ClassSplits:
    """Images to train a classifier on, and those to measure it on.

    Attributes:
        train: Images to train on, of two classes or more.
        evaluated: Images to measure.
        leakage: What both, and the training of the adapter, have in common.
        warnings: What to know before any number of theirs is believed, leakage included.
    """

    train: LabelledImages
    evaluated: LabelledImages
    leakage: Leakage
    warnings: tuple[str, ...]


def open_both(
    run: TrainedRun,
    wanted: DatasetQuery,
    *,
    train_split: str,
    split: str,
    progress: Progress = SILENT,
) -> ClassSplits:
    """Open the images to train on and those to measure, and check them for any classifier.

    Raises:
        LightalignError: See `require_stores`, `LabelledImages`, `check_classes`, `require_apart`.
    """
    by_side = {Modality.IMAGE: run.query(Modality.IMAGE)}
    train, evaluated = (
        LabelledImages(
            require_stores(run.home, StoreQuery.of(wanted, name, by_side), progress)[
                Modality.IMAGE
            ],
            home=run.home,
            device=run.device,
        )
        for name in (train_split, split)
    )
    leakage = require_apart(train, evaluated, run=run, progress=progress)
    warnings = (*leakage.warnings, *check_classes(train, evaluated, home=run.home))
    return ClassSplits(train=train, evaluated=evaluated, leakage=leakage, warnings=warnings)


def check_classes(train: LabelledImages, evaluated: LabelledImages, *, home: Path) -> list[str]:
    """Return what to know of the classes that a classifier is trained on and measured on.

    Raises:
        SpecError: There are training images of one class alone: whatever is learnt answers with it.
    """
    present = np.unique(train.labels)
    if len(present) < 2:
        only = "".join(f", {train.names[label]!r}" for label in present)
        raise SpecError(
            f"{len(present)} class of {train.name} has training images{only}: a classifier "
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
            f"all images of {evaluated.name} are of one class, {train.names[measured[0]]!r}: a "
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
    train: LabelledImages,
    evaluated: LabelledImages,
    *,
    run: TrainedRun,
    progress: Progress = SILENT,
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
            f"{train.name} has the classes {list(train.names[:5])} ..., {evaluated.name} has "
            f"{list(evaluated.names[:5])} ...: both must be of one dataset"
        )
    common = sorted(set(train.reader.ids) & set(evaluated.reader.ids))
    if common:
        raise LeakageError(
            f"{len(common)} images are in {train.name}, which is trained on, and in "
            f"{evaluated.name}, which is evaluated, such as {common[:3]}: evaluate other images"
        )
    leakage = find_leakage(
        run, EvaluatedItems.of_images(evaluated.entry, evaluated.reader), progress
    )
    leakage.refuse()
    leakage = leakage.with_copies(_copied(train, evaluated, run=run, progress=progress))
    keys = {seen.stores["train"]["image"]["key"] for seen in lineage(run)}
    if train.entry.key in keys:  # it has been compared
        return leakage
    return leakage.beside(near_duplicates(evaluated.reader, evaluated.rows, train.reader, progress))


def _copied(
    train: LabelledImages, evaluated: LabelledImages, *, run: TrainedRun, progress: Progress
) -> CopiedImages:
    """Return the evaluated images that are copies of those that a classifier is trained on."""
    here, there = (
        SplitOfData(dataset=description.dataset, split=description.split, source=description.source)
        for description in (evaluated.entry.description, train.entry.description)
    )
    if there.source in {seen.stores["train"]["source"] for seen in lineage(run)}:
        return CopiedImages(pairs={})  # it has been compared
    return find_copied_images(here, evaluated.reader.ids, there, home=run.home, progress=progress)
