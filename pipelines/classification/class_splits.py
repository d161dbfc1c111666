"""Images to train a classifier on and to measure it on, held apart and checked."""

from pathlib import Path

import numpy as np

from ...featcache.errors import LeakageError, SpecError
from ...featcache.store.checked_shards import listing_command
from ...featcache.types import Modality
from ..common.progress import SILENT, Progress
from ..inputs.labelled_images import LabelledImages
from ..inputs.store_selection import DatasetQuery, usual_split
from ..runs.copied_items import SplitOfData, find_copied_images
from ..runs.evaluation import Evaluation
from ..runs.leakage import EvaluatedItems, Leakage, lineage, near_duplicates
from ..runs.trained_run import TrainedRun
from .fine_tune_spec import FineTuneSpec
from .probe_spec import ProbeSpec
from .zero_shot_spec import ZeroShotSpec


def open_evaluation(
    spec: ZeroShotSpec | ProbeSpec | FineTuneSpec, kind: str, progress: Progress = SILENT
) -> tuple[Evaluation, TrainedRun]:
    """Open the run and the dataset of classes that are named, and choose the split.

    Raises:
        LightalignError: See `TrainedRun`, `DatasetQuery.of`, `usual_split`.
    """
    run = TrainedRun(spec.home, spec.run, device=spec.device)
    query = run.queries_of(Modality.IMAGE)[Modality.IMAGE]
    data = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
    evaluation = Evaluation(
        kind=kind,
        home=spec.home,
        run=run,
        data=data,
        split=spec.split or usual_split(spec.home, data, query),
        progress=progress,
    )
    return evaluation, run


def open_images(
    evaluation: Evaluation, run: TrainedRun, split: str | None = None
) -> LabelledImages:
    """Open the images of a split, of the evaluated one if none is named, with their classes.

    Raises:
        LightalignError: See `require_stores`, `LabelledImages`.
    """
    stores = evaluation.require(run.queries_of(Modality.IMAGE), split)
    return LabelledImages(*stores.values(), home=run.home, device=run.device)


def open_both(
    evaluation: Evaluation, run: TrainedRun, train_split: str
) -> tuple[LabelledImages, LabelledImages]:
    """Open the images to train on and those to measure, and check them for any classifier.

    Raises:
        LightalignError: See `open_images`, `check_classes`, `require_apart`.
    """
    train, test = (open_images(evaluation, run, split) for split in (train_split, None))
    leakage = require_apart(train, test, run=run, evaluation=evaluation)
    evaluation.beside["leakage"] = leakage.table()
    evaluation.warnings += [*leakage.warnings, *check_classes(train, test, home=run.home)]
    evaluation.stores = {"image": test.entry, "train_image": train.entry}
    evaluation.ids = test.reader.ids
    return train, test


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
    classes = np.unique(evaluated.labels)
    if len(classes) == 1:
        warnings.append(
            f"all images of {evaluated.name} are of one class, {train.names[classes[0]]!r}: a "
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
    evaluation: Evaluation,
) -> Leakage:
    """Refuse to measure images that were trained on, or that chose what is measured.

    Copies under other names are found by their bytes, and images that are nearly the same by their
    features; both are a warning, as in `leakage`.

    Returns:
        What is in common all the same.

    Raises:
        LeakageError: The two are the same split or have images in common, or evaluated images took
            part in the training of the adapter or in its choice.
        SpecError: Their classes are not the same.
    """
    # a label is an index into the names: of other names it would mean another class
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
    progress = evaluation.progress
    examined = EvaluatedItems.of_images(evaluated.entry, evaluated.reader)
    leakage = evaluation.check_leakage(examined)
    compared = [past.stores["train"] for past in lineage(run)]
    if train.entry.description.source not in {stores["source"] for stores in compared}:
        here, there = (SplitOfData.of(images.entry.description) for images in (evaluated, train))
        leakage.add_copies(
            find_copied_images(here, evaluated.reader.ids, there, home=run.home, progress=progress)
        )
    if train.entry.key not in {stores["image"]["key"] for stores in compared}:
        leakage.add_near(near_duplicates(evaluated.reader, evaluated.rows, train.reader, progress))
    return leakage
