"""Request, options and report of a fine-tuning; nothing here imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...featcache.config import Table, build, check_seed, to_table
from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from .sgd_options import SgdOptions

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
    """Options of fine-tuning adapter and head together.

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
class FineTuneSpec:
    """Settings of one fine-tuning.

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


@dataclass(frozen=True, kw_only=True)
class FineTuneReport:
    """Report of one fine-tuning: its new run and the measurement at its end.

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
