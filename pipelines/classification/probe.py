"""Measure how well a simple classifier reads classes from frozen features."""

import time
from dataclasses import replace

from ...featcache.config import to_table
from ...featcache.types import Modality
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import DatasetQuery, usual_split
from ..runs.trained_run import EvaluationReport, TrainedRun
from .probe_spec import ProbeReport, ProbeSpec


def run(spec: ProbeSpec, progress: Progress = SILENT) -> ProbeReport:
    """Train classifiers on the frozen features of one split and measure them on another.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: The run has no images, the dataset no classes, or a class too few images.
        StoreNotFoundError: A split has not been extracted with the run's encoder.
        StoreCorruptError: The run's or a store's files contradict one another.
        LeakageError: Both splits have images in common, or the adapter was trained on or chosen by
            the one that is evaluated.
        DivergedError: A loss or an embedding is not finite.
    """
    began = time.perf_counter()
    evaluated = TrainedRun(spec.home, spec.run, device=spec.device)
    query = evaluated.query(Modality.IMAGE)
    wanted = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
    split = spec.split or usual_split(spec.home, wanted, query)
    spec = replace(spec, split=split)
    from .class_splits import open_both
    from .probe_protocols import Probing

    splits = open_both(
        evaluated, wanted, train_split=spec.train_split, split=split, progress=progress
    )
    train, test = splits.train, splits.evaluated
    progress.note(
        f"run {evaluated.folder.name}: {len(train)} images of {wanted.name}/{spec.train_split} to "
        f"train on, {len(test)} of {wanted.name}/{split} to measure"
    )
    probing = Probing(spec, evaluated, train, test)
    measured = probing.run(progress)
    left_out = {"home", "run", "device"}
    options = {key: value for key, value in to_table(spec).items() if key not in left_out}
    path, report = EvaluationReport(
        kind=spec.kind,
        dataset=test.entry.description.dataset,
        split=split,
        ids=test.reader.ids,
        stores={"image": test.entry, "train_image": train.entry},
        options=options,
        metrics=measured.metrics,
        definitions=measured.definitions,
        curves=measured.curves,
        failures=measured.failures,
        warnings=[*splits.warnings, *measured.warnings],
        variant=spec.variant,
        seconds=time.perf_counter() - began,
        beside={"leakage": splits.leakage.table()},
    ).write(evaluated, home=spec.home)
    return ProbeReport(path=path, report=report)
