"""Train the adapter of a run on together with a head of classes, on cached tokens."""

from dataclasses import replace

from ...featcache.store import trust
from ..common.progress import SILENT, Progress
from ..metrics.accuracy import DEFINITIONS as ACCURACY
from ..runs import run_folder
from ..runs.trained_run import TrainedRun
from .class_splits import open_both, open_evaluation
from .fine_tune_full import FullProtocol
from .fine_tune_lightcrl import LightCrlProtocol
from .fine_tune_protocol import resolved
from .fine_tune_spec import FineTuneReport, FineTuneSpec


def run(spec: FineTuneSpec, progress: Progress = SILENT) -> FineTuneReport:
    """Fine-tune on one split, write a run folder, and measure another split.

    Raises:
        RunNotFoundError: There is no such finished run to start from.
        SpecError: The run has no images or nothing to train, or the dataset no classes.
        StoreNotFoundError: A split has not been extracted with the run's encoder.
        StoreCorruptError: The run's or a store's files contradict one another.
        LeakageError: Both splits have images in common, or the adapter was trained on or chosen by
            the one that is evaluated.
        GradientError: A step of the adapter receives no gradient.
        DivergedError: A loss or a weight is not finite.
    """
    run_folder.check_name(spec.home, spec.name)
    evaluation, start = open_evaluation(spec, "fine-tune", progress)
    spec = replace(spec, split=evaluation.split)
    train, test = open_both(evaluation, start, spec.train_split)
    progress.note(f"run {start.folder.name} is the start, {len(train)} images to train on")
    kind = FullProtocol if spec.protocol == "full" else LightCrlProtocol
    protocol = kind(spec, start, train)
    table = resolved(spec, start, train)
    with run_folder.new_run(
        spec.home, spec.name, "fine-tune", spec=table, can_go_on=False
    ) as folder:
        progress.note(f"run {folder.name}")
        trained = protocol.fit(folder, progress)
        metrics = protocol.metrics(folder, test)
        report = {
            "kind": "fine-tune",
            "protocol": spec.protocol,
            **trained,
            "spec": table,
            "warnings": trust.warnings(),
        }
        evaluation.run = TrainedRun.unfinished(spec.home, folder, report, device=spec.device)
        evaluation.options = {
            "protocol": spec.protocol,
            "train_split": spec.train_split,
            **table["train"],
        }
        evaluation.metrics = metrics
        evaluation.definitions = {
            **ACCURACY,
            spec.protocol: protocol.definition,
            **protocol.names,
        }
        evaluation.curves = protocol.curves
        evaluation.warnings += protocol.warnings
        path, measurement = evaluation.write(owned=True)
        assert path is not None, "a run that was just made can be written"
        # written last: its presence says that the run is finished
        run_folder.write_report(folder, report)
    return FineTuneReport(folder=folder, trained=report, path=path, report=measurement)
