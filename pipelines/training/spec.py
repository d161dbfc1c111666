"""Request, plan and report of a training; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, Home, Seed, SourceOptions

Preset: TypeAlias = Annotated[
    str | None, Setting("Preset; our own, with a slot for --fusion, if none.")
]
Fusion: TypeAlias = Annotated[str | None, Setting("Fusion; see `lightalign list fusions`.")]
Overrides: TypeAlias = Annotated[
    tuple[str, ...], Setting("Change one value of the spec; repeatable.", flag="--set")
]


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Settings of one training.

    Attributes:
        data: `NAME` of a dataset, for the newest stores; `NAME=PATH` for those of the dataset as it
            is there now.
        second_text_encoder: Name of the second text encoder's card, to align two text encoders by
            the texts of each image; or None, to align images and texts.
        unpaired_images: Folder, name or start of the key of a store, or `DATASET/SPLIT` for the
            newest one there that is like that of the pairs; `unpaired_texts` alike.
        overrides: `a.b=c` on the preset's tables.
        name: Name of the run, or None for an automatic one.
    """

    home: Home
    preset: Preset = None
    fusion: Fusion = None
    data: Annotated[str | None, Setting("Dataset; the newest stores if none.")] = None
    source: SourceOptions = None
    image_encoder: Annotated[
        str | None, Setting("Encoder of the images; the newest store if none.")
    ] = None
    text_encoder: Annotated[
        str | None, Setting("Encoder of the texts; the newest store if none.")
    ] = None
    second_text_encoder: Annotated[
        str | None, Setting("Align the text encoder with this one, not with images.")
    ] = None
    image_features: Annotated[
        str | None, Setting("tokens, cls, mean, pooled or grid:HxW; the newest store if none.")
    ] = None
    text_features: Annotated[
        str | None, Setting("tokens, cls, mean, last or pooled; the newest store if none.")
    ] = None
    second_text_features: Annotated[
        str | None, Setting("Those of the second text encoder, in the same way.")
    ] = None
    unpaired_images: Annotated[
        str | None,
        Setting("Store, or DATASET/SPLIT, of images without texts to learn from, too."),
    ] = None
    unpaired_texts: Annotated[
        str | None, Setting("Store, or DATASET/SPLIT, of texts without images, beside those.")
    ] = None
    seed: Seed = 0
    overrides: Overrides = ()
    device: Device = "auto"
    name: Annotated[str | None, Setting("Name of the run.")] = None
    tensorboard: Annotated[
        bool, Setting("Log for TensorBoard, too, into RUN/tensorboard.", flag="--tensorboard")
    ] = False

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """Report of one training.

    Attributes:
        folder: The run folder.
        report: Content of its `report.json`.
    """

    folder: Path
    report: Mapping[str, Any]
