"""Request, options and report of a fine-tuning; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ...featcache.bounds import MOST_SEED
from ...featcache.config import Table, build, to_table
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import ClassData, Device, Home, SourceOptions, TrainSplit
from .sgd_options import SgdOptions

PROTOCOLS = ("full", "lightcrl")
_HIDDEN = 256  # features between the two matrices of the head, as published


@dataclass(frozen=True, kw_only=True)
class FineTuneOptions:
    """Options of fine-tuning adapter and head together; the best epoch is kept.

    Attributes:
        learning_rate: The head starts at random.
        warmup: After the rise the rates follow half a cosine down to 0.
    """

    epochs: Annotated[int, Setting("Passes over the images.", least=1)] = 20
    batch_size: Annotated[int, Setting("Images of a step.", least=1)] = 64
    learning_rate: Annotated[float, Setting("Highest learning rate of the head.", above=0)] = 1e-3
    adapter_rate: Annotated[float, Setting("Highest learning rate of the adapter.", above=0)] = 3e-4
    weight_decay: Annotated[float, Setting("Decay of matrices, by AdamW.", least=0)] = 0.05
    warmup: Annotated[
        float,
        Setting("Share of the steps over which rates rise.", least=0, below=1, called="a share"),
    ] = 0.1
    gradient_clip: Annotated[
        float, Setting("Largest norm of all gradients together; 0: no limit.", least=0)
    ] = 1.0
    validation: Annotated[
        float,
        Setting(
            "Share of each class's training images that chooses the epoch.",
            above=0,
            below=1,
            called="a share",
        ),
    ] = 0.1

    def __post_init__(self) -> None:
        check_settings(self)


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
        data: `NAME` for the newest stores, or `NAME=PATH` for those of the dataset as it is there
            now.
        protocol: `full`, adapter and head together; or `lightcrl`, what LightCRL calls fine-tuning:
            its features are made without gradients, so that the head alone is trained.
        options: How adapter and head are trained, by `full`.
        sgd: How the head alone is trained, by `lightcrl`.
        name: Name of the new run, or None for an automatic one.
    """

    home: Home
    data: ClassData
    run: Annotated[str | None, Setting("Run that is the start; newest if none.", argument=True)] = (
        None
    )
    source: SourceOptions = None
    protocol: Annotated[
        str,
        Setting(
            "full, or lightcrl: the head alone, as published under this name.", choices=PROTOCOLS
        ),
    ] = "full"
    train_split: TrainSplit = "train"
    split: Annotated[
        str | None, Setting("Split to measure at the end; test, or else val, if none.")
    ] = None
    seed: Annotated[
        int, Setting("Seed of start, order, dropout, held-out images.", least=0, most=MOST_SEED)
    ] = 0
    options: FineTuneOptions = field(default_factory=FineTuneOptions)
    sgd: SgdOptions = field(default_factory=lambda: SgdOptions(hidden=_HIDDEN))
    name: Annotated[str | None, Setting("Name of the new run.")] = None
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self)


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
