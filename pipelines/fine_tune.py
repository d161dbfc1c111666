"""Train the adapter of a run on together with a head of classes, on cached tokens."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..featcache import trust
from ..featcache.errors import SpecError
from ..featcache.registry import unknown_name
from ..featcache.spec import Table, build, check_seed, to_table
from ..featcache.types import Modality
from . import runs
from .evaluated import EvaluatedRun, Found
from .progress import SILENT, Progress
from .sgd_options import SgdOptions
from .stores import WantedData, usual_split

PROTOCOLS = ("full", "lightcrl")
_HIDDEN = 256  # features between the two matrices of the head, as published
_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "epochs": (lambda value: value >= 1, "at least 1"),
    "batch_size": (lambda value: value >= 1, "at least 1"),
    "learning_rate": (lambda value: value > 0, "above 0"),
    "adapter_rate": (lambda value: value > 0, "above 0"),
    "weight_decay": (lambda value: value >= 0, "at least 0"),
    "warmup": (lambda value: 0 <= value < 1, "a share in [0, 1)"),
    "gradient_clip": (lambda value: value >= 0, "at least 0"),
    "validation": (lambda value: 0 < value < 1, "a share in (0, 1)"),
}


@dataclass(frozen=True, kw_only=True)
class FineTuneOptions:
    """Hold how adapter and head are trained.

    Attributes:
        epochs: Passes over the images; the best by the held-out part is kept.
        batch_size: Images of a step.
        learning_rate: Highest learning rate of the head, which starts at random.
        adapter_rate: Highest learning rate of the adapter.
        weight_decay: Decay of matrices, by AdamW.
        warmup: Share of the steps over which the rates rise, in [0, 1); then they follow half a
            cosine down to 0.
        gradient_clip: Largest norm of all gradients together, or 0 for no limit.
        validation: Share of the training images of each class that chooses the epoch, in (0, 1).
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    adapter_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup: float = 0.1
    gradient_clip: float = 1.0
    validation: float = 0.1

    def __post_init__(self) -> None:
        for name, (fits, range_) in _RANGES.items():
            if not fits(getattr(self, name)):
                raise SpecError(f"{name} must be {range_}, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class FineTuneSpec:
    """Say what to fine-tune.

    Attributes:
        home: Folder of everything lightalign keeps.
        data: Dataset of classes, as `NAME` for the newest stores, or `NAME=PATH` for those of the
            dataset as it is there now.
        run: Name or folder of the run whose adapter is the start, or None for the newest.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        protocol: `full`, adapter and head together; or `lightcrl`, what LightCRL calls fine-tuning:
            its features are made without gradients, so that the head alone is trained.
        train_split: Split to train on.
        split: Split that is measured at the end, or None for `test`, or `val` where there is no
            `test`.
        seed: Seed of the head's start, of order, dropout and what is held out.
        options: How adapter and head are trained, by `full`.
        sgd: How the head alone is trained, by `lightcrl`.
        name: Name of the new run, or None for an automatic one.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    data: str
    run: str | None = None
    source: Mapping[str, Any] | None = None
    protocol: str = "full"
    train_split: str = "train"
    split: str | None = None
    seed: int = 0
    options: FineTuneOptions = field(default_factory=FineTuneOptions)
    sgd: SgdOptions = field(default_factory=lambda: SgdOptions(hidden=_HIDDEN))
    name: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        check_seed(self.seed)


def options_of(protocol: str, table: Table) -> dict[str, Any]:
    """Return the fields of a spec that hold the options of `protocol`, read from a table.

    Raises:
        SpecError: An option is unknown, of another type or out of range.
    """
    if protocol == "lightcrl":
        defaults = to_table(SgdOptions(hidden=_HIDDEN))
        return {"sgd": build(SgdOptions, {**defaults, **table}, where="fine-tune, lightcrl")}
    return {"options": build(FineTuneOptions, table, where="fine-tune")}


@dataclass(frozen=True, kw_only=True)
class FineTuneReport:
    """Say what was trained and measured.

    Attributes:
        folder: The new run folder.
        trained: Content of its `report.json`.
        path: The report file of the measurement.
        report: Its content.
    """

    folder: Path
    trained: Mapping[str, Any]
    path: Path
    report: Mapping[str, Any]


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
    runs.check_name(spec.home, spec.name)
    start = EvaluatedRun(spec.home, spec.run, device=spec.device)
    query = start.query(Modality.IMAGE)
    wanted = WantedData.of(spec.data, home=spec.home, options=spec.source)
    split = spec.split or usual_split(spec.home, wanted, query)
    spec = replace(spec, split=split)
    from .accuracy import DEFINITIONS as ACCURACY
    from .class_rows import open_both  # imports torch, as below
    from .fine_tune_full import FullProtocol
    from .fine_tune_lightcrl import LightCrlProtocol
    from .fine_tune_protocol import resolved

    splits = open_both(start, wanted, train_split=spec.train_split, split=split, progress=progress)
    train, test = splits.train, splits.evaluated
    progress.note(f"run {start.folder.name} is the start, {len(train)} images to train on")
    kind = FullProtocol if spec.protocol == "full" else LightCrlProtocol
    protocol = kind(spec, start, train)
    table = resolved(spec, start, train)
    with runs.new_run(spec.home, spec.name, "fine-tune", spec=table, can_go_on=False) as folder:
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
        found = Found(
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
        tuned = EvaluatedRun.unfinished(spec.home, folder, report, device=spec.device)
        path, evaluation = found.write(tuned, home=spec.home, owned=True)
        assert path is not None, "a run that was just made can be written"
        runs.write_report(folder, report)  # last: with it the run is finished
    return FineTuneReport(folder=folder, trained=report, path=path, report=evaluation)
