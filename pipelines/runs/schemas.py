"""Types of the documents below `runs` and `evaluations`, as far as their readers need them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from ...featcache.documents import check
from ...featcache.errors import StoreCorruptError
from ...featcache.store.manifest import ShardFile

Count = Annotated[int, Meta(ge=0, lt=2**53)]
_FolderName = Annotated[str, Meta(pattern=r"\A\w[\w.-]*\Z")]


class StoreRecord(TypedDict):
    """Store that a run was trained on, as `provenance.describe_pair` writes it."""

    encoder: str
    kind: str
    encoder_key: NotRequired[str]  # this and the following came later than runs
    key: NotRequired[str]
    layer: NotRequired[int]
    dtype: NotRequired[str]
    width: NotRequired[Count]
    further: NotRequired[list["StoreRecord"]]  # other streams of the side


class SplitRecord(TypedDict):
    """Both stores of a split that a run was trained on, by side, and the split."""

    dataset: _FolderName
    split: _FolderName
    source: str
    image: NotRequired[StoreRecord]
    text: NotRequired[StoreRecord]
    first_text: NotRequired[StoreRecord]
    second_text: NotRequired[StoreRecord]


class UnpairedStoreRecord(StoreRecord):
    """Store of items without a partner, and what it is of."""

    dataset: _FolderName
    split: _FolderName
    source: str


class UnpairedRecord(TypedDict):
    """Stores of items without a partner, by side."""

    image: UnpairedStoreRecord
    text: UnpairedStoreRecord


class StoresRecord(TypedDict):
    """Stores that a run was trained on, and validated on where these are others."""

    train: SplitRecord
    validation: NotRequired[SplitRecord]
    unpaired: NotRequired[UnpairedRecord]


class BeganRecord(TypedDict):
    """Run that a fine-tuning began with, and the run that this one began with, and so on."""

    run: str
    stores: StoresRecord
    selected_by: NotRequired[str]
    began_with: NotRequired["BeganRecord"]


class EncoderRecord(TypedDict):
    """Encoder of one side, as `provenance.describe_encoders` writes it."""

    name: str
    identity: dict[str, Any]
    card: NotRequired[dict[str, Any]]
    further: NotRequired[list["EncoderRecord"]]  # other streams of the side


class CommandRecord(TypedDict):
    """Command that a run was asked for by: fields of `TrainSpec` or of `FineTuneSpec`.

    Evaluations go on from these.
    """

    data: NotRequired[str | None]
    source: NotRequired[dict[str, Any] | None]


class _SpecParts(TypedDict):
    """Parts of a run's spec that not every run has."""

    title: NotRequired[str]  # this and the following are of the preset
    source: NotRequired[str]
    check: NotRequired[dict[str, Any] | list[dict[str, Any]]]
    kind: NotRequired[str]  # `joint`, of an adapter that reads both sides together
    towers: NotRequired[dict[str, dict[str, Any]]]
    joint: NotRequired[dict[str, dict[str, Any]]]  # of these, as are `heads` and `rates`
    heads: NotRequired[dict[str, dict[str, Any]]]
    rates: NotRequired[dict[str, float]]
    objective: NotRequired[dict[str, Any]]
    task: NotRequired[dict[str, Any]]
    fit: NotRequired[dict[str, Any]]
    start: NotRequired[dict[str, Any]]
    finish: NotRequired[dict[str, Any]]
    unpaired: NotRequired[dict[str, Any]]
    distil: NotRequired[dict[str, Any]]
    preset: NotRequired[str]  # its name
    protocol: NotRequired[str]  # of a fine-tuning, as are `classes` and `began_with`
    classes: NotRequired[list[str]]
    began_with: NotRequired[BeganRecord]
    seed: NotRequired[int]
    processes: NotRequired[Count]
    command: NotRequired[CommandRecord]
    train: NotRequired[dict[str, Any]]
    splits: NotRequired[dict[str, str]]  # fingerprint of every split of the training data
    encoders: NotRequired[dict[str, EncoderRecord]]
    auto_layers: NotRequired[dict[str, int | float | str]]  # which were chosen, and by what
    versions: NotRequired[dict[str, Any]]
    checksum: NotRequired[str]  # of all the rest


class RunSpec(_SpecParts):
    """Content of `run.toml`: all keys that a training or a fine-tuning writes.

    `[train]` has the fields of `TrainOptions`, `FineTuneOptions` or `SgdOptions`, and `[towers]`,
    `[objective]`, `[task]`, `[fit]`, `[start]`, `[finish]`, `[unpaired]`, `[distil]`, `[joint]`,
    `[heads]` and `[rates]` are those of a preset.
    """

    stores: StoresRecord


class _ReportedSpec(_SpecParts):
    """Spec of a run in its `report.json`."""

    stores: NotRequired[StoresRecord]


class BestRecord(TypedDict):
    """Best epoch of a training."""

    validation: NotRequired[dict[str, float | dict[str, float] | None]]


class RunReport(TypedDict):
    """Content of `report.json`."""

    spec: _ReportedSpec
    kind: NotRequired[str]
    best: NotRequired[BestRecord]
    selected_by: NotRequired[str]
    num_parameters: NotRequired[Count]
    epochs: NotRequired[Count]
    seconds: NotRequired[float]
    warnings: NotRequired[list[str]]
    files: NotRequired[dict[str, ShardFile]]


class EpochRecord(TypedDict):
    """One line of `log.jsonl`."""

    epoch: Count
    loss: NotRequired[float]
    validation: NotRequired[dict[str, Any]]


class NumberRecord(TypedDict):
    """One measured number, as `Number.table` writes it."""

    value: float
    num: Count
    interval: NotRequired[tuple[float, float]]
    chance: NotRequired[float]
    unit: NotRequired[str]


class _Chosen(TypedDict):
    """Option value that was chosen for a number, or one value for each of many draws."""

    chosen: float | str | list[float] | None


class LineRecord(TypedDict):
    """One line of a plot."""

    x: list[float]
    y: list[float]
    low: NotRequired[list[float | None]]
    high: NotRequired[list[float | None]]


class CurveRecord(TypedDict):
    """One plot of some lines, or a confusion matrix."""

    title: str
    x_label: str
    y_label: str
    lines: NotRequired[dict[str, LineRecord]]
    names: NotRequired[list[str]]
    matrix: NotRequired[list[list[Count]]]


class AnswerRecord(TypedDict):
    """One item, or one class, that came first or is right."""

    id: NotRequired[str]
    name: NotRequired[str]
    text: NotRequired[str | None]
    score: NotRequired[float | None]


class FailureRecord(TypedDict):
    """One of the worst items."""

    query: str | list[str]
    direction: NotRequired[str]
    rank: NotRequired[int | None]
    texts: NotRequired[list[str | None]]
    facts: NotRequired[dict[str, float | None]]
    first: NotRequired[list[AnswerRecord]]
    right: NotRequired[list[AnswerRecord]]


class OptionsRecord(TypedDict):
    """Options of an evaluation, as far as a page goes on from them."""

    data: NotRequired[str | None]
    source: NotRequired[dict[str, Any] | None]


class TrainedRecord(TypedDict):
    """Spec of the run that was evaluated, as far as a page goes on from it."""

    command: NotRequired[CommandRecord]
    stores: NotRequired[StoresRecord]


class EvaluationReport(TypedDict):
    """Report of one evaluation."""

    schema: int
    kind: str
    dataset: _FolderName
    split: _FolderName
    metrics: dict[str, Any]
    source: NotRequired[str]
    split_hash: NotRequired[str]
    variant: NotRequired[str]
    options: NotRequired[OptionsRecord]
    training: NotRequired[TrainedRecord]
    definitions: NotRequired[dict[str, str]]
    curves: NotRequired[list[CurveRecord]]
    failures: NotRequired[list[FailureRecord]]
    warnings: NotRequired[list[str]]


def check_evaluation(report: Any, *, where: Path) -> EvaluationReport:
    """Return the report of an evaluation as it is, after it was compared with its type.

    Raises:
        StoreCorruptError: It is no report of an evaluation.
    """
    checked: EvaluationReport = check(report, EvaluationReport, where=where)
    # how deep the tables of numbers are differs by kind, which no type says
    _check_metrics(checked["metrics"], "metrics", where=where)
    for failure in checked.get("failures", ()):
        if not isinstance(failure["query"], str) and "texts" in failure:
            _check_lengths(where, "failures", failure["query"], failure["texts"])
    for curve in checked.get("curves", ()):
        _check_curve(curve, where=where)
    return checked


def _check_metrics(metrics: Mapping[str, Any], within: str, *, where: Path) -> None:
    """Refuse metrics of which a number is not as `Number.table` writes it."""
    for name, value in metrics.items():
        place = f"{within}.{name}"
        if isinstance(value, Mapping):
            if "value" in value and "num" in value:
                check(value, NumberRecord, where=f"{where} [{place}]")
            else:
                _check_metrics(value, place, where=where)
        elif name.startswith("chosen_"):
            check({"chosen": value}, _Chosen, where=f"{where} [{place}]")


def _check_curve(curve: CurveRecord, *, where: Path) -> None:
    if "matrix" in curve:
        names = curve.get("names", [])
        # a square: as many rows as names, and each as long
        _check_lengths(where, "curves", names, curve["matrix"], *curve["matrix"])
    elif "lines" not in curve:
        raise StoreCorruptError(f"{where}: a curve has neither lines nor a matrix")
    for line in curve.get("lines", {}).values():
        bounds = [line[name] for name in ("low", "high") if name in line]
        _check_lengths(where, "curves", line["x"], line["y"], *bounds)


def _check_lengths(where: Path, what: str, *parts: Any) -> None:
    if len({len(part) for part in parts}) > 1:
        raise StoreCorruptError(f"{where}: {what} hold lists of differing lengths")
