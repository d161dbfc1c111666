"""Train the adapter of a run on together with a head of classes, on cached tokens."""

import time
from dataclasses import replace

from ...featcache.store import trust
from ...featcache.types import Modality
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import DatasetQuery, usual_split
from ..runs import run_folder
from ..runs.trained_run import EvaluationReport, TrainedRun
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
    began = time.perf_counter()
    run_folder.check_name(spec.home, spec.name)
    start = TrainedRun(spec.home, spec.run, device=spec.device)
    query = start.query(Modality.IMAGE)
    wanted = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
    split = spec.split or usual_split(spec.home, wanted, query)
    spec = replace(spec, split=split)
    from ..metrics.accuracy import DEFINITIONS as ACCURACY
    from .class_splits import open_both
    from .fine_tune_full import FullProtocol
    from .fine_tune_lightcrl import LightCrlProtocol
    from .fine_tune_protocol import resolved

    splits = open_both(start, wanted, train_split=spec.train_split, split=split, progress=progress)
    train, test = splits.train, splits.evaluated
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
        evaluated = EvaluationReport(
            kind="fine-tune",
            dataset=test.entry.description.dataset,
            split=split,
            ids=test.reader.ids,
            stores={"image": test.entry, "train_image": train.entry},
            options={"protocol": spec.protocol, "train_split": spec.train_split, **table["train"]},
            metrics=metrics,
            definitions={**ACCURACY, spec.protocol: protocol.definition, **protocol.names},
            curves=protocol.curves,
            warnings=[*splits.warnings, *protocol.warnings],
            seconds=time.perf_counter() - began,
            beside={"leakage": splits.leakage.table()},
        )
        tuned = TrainedRun.unfinished(spec.home, folder, report, device=spec.device)
        path, evaluation = evaluated.write(tuned, home=spec.home, owned=True)
        assert path is not None, "a run that was just made can be written"
        run_folder.write_report(folder, report)  # last: with it the run is finished
    return FineTuneReport(folder=folder, trained=report, path=path, report=evaluation)
