"""Measure how well a simple classifier reads classes from frozen features."""

from dataclasses import replace

from ...featcache.config import to_table
from ..common.progress import SILENT, Progress
from .class_splits import open_both, open_evaluation
from .probe_protocols import Probing
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
    evaluation, evaluated = open_evaluation(spec, spec.kind, progress)
    spec = replace(spec, split=evaluation.split)
    train, test = open_both(evaluation, evaluated, spec.train_split)
    name = evaluation.data.name
    progress.note(
        f"run {evaluated.folder.name}: {len(train)} images of {name}/{spec.train_split} to "
        f"train on, {len(test)} of {name}/{spec.split} to measure"
    )
    Probing(spec, evaluation, evaluated, train, test).run()
    left_out = {"home", "run", "device"}
    options = {key: value for key, value in to_table(spec).items() if key not in left_out}
    evaluation.options, evaluation.variant = options, spec.variant
    path, report = evaluation.write()
    return ProbeReport(path=path, report=report)
