"""Request, plan and report of a training; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.config import Table, check_seed
from ..inputs.store_selection import StorePair
from .options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Settings of one training.

    Attributes:
        home: Folder of everything lightalign keeps.
        preset: Name of a preset, or None for that of `preset_of`.
        fusion: Fusion to put into the preset, or None for the preset's own.
        data: `NAME` of a dataset, or None, for the newest stores; `NAME=PATH` for those of the
            dataset as it is there now.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        image_encoder: Name of the image encoder's card, or None for the newest stores.
        text_encoder: Name of the text encoder's card, or None for the newest stores.
        second_text_encoder: Name of the second text encoder's card, to align two text encoders by
            the texts of each image; or None, to align images and texts.
        image_features: What was kept of the images' tokens, or None for the newest stores.
        text_features: What was kept of the texts' tokens, or None for the newest stores.
        second_text_features: What was kept of them by the second text encoder, in the same way.
        seed: Seed of initialisation, order and dropout.
        overrides: `a.b=c` on the preset's tables.
        device: `auto`, `cpu` or `cuda`.
        name: Name of the run, or None for an automatic one.
        tensorboard: Whether to log for TensorBoard, too.
    """

    home: Path
    preset: str | None = None
    fusion: str | None = None
    data: str | None = None
    source: Mapping[str, Any] | None = None
    image_encoder: str | None = None
    text_encoder: str | None = None
    second_text_encoder: str | None = None
    image_features: str | None = None
    text_features: str | None = None
    second_text_features: str | None = None
    seed: int = 0
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    name: str | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """Report of one training.

    Attributes:
        folder: The run folder.
        report: Content of its `report.json`.
    """

    folder: Path
    report: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """Resolved settings of one training: nothing in it is a default any more.

    Attributes:
        table: Preset with fusion and overrides applied: `towers`, `objective`, `train`.
        options: Its `[train]` table.
        stores: Stores to train on.
        validation: Stores to validate on, or None.
        holdout: Share of the training images to validate on, or 0.
    """

    table: Table
    options: TrainOptions
    stores: StorePair
    validation: StorePair | None
    holdout: float
