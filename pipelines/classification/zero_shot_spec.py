"""Settings and report of a zero-shot classification; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import ClassData, Device, EncoderWeights, Home, RunName, SourceOptions

USUAL = ("ensemble",)  # prompts, where none are named


@dataclass(frozen=True, kw_only=True)
class ZeroShotSpec:
    """Settings of one zero-shot classification: the dataset, the run and the prompts.

    Attributes:
        data: `NAME` of a dataset of classes, for the newest stores; `NAME=PATH` for those of the
            dataset as it is there now.
        prompts: Each is measured, and the plot and the failures are of the first.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
    """

    home: Home
    data: ClassData
    run: RunName = None
    source: SourceOptions = None
    split: Annotated[str | None, Setting("Split; test, or else val, if none.")] = None
    prompts: Annotated[
        tuple[str, ...],
        Setting(
            "bare, single, ensemble or a TOML file; repeatable or with commas.",
            each_once=True,
            commas="bare,single",
        ),
    ] = USUAL
    weights: EncoderWeights = None
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class ZeroShotReport:
    """Report of one zero-shot classification.

    Attributes:
        path: The report file, or None where it may not be written.
        report: Its content.
        plot: The confusion plot, an SVG file beside it, or None.
    """

    path: Path | None
    report: Mapping[str, Any]
    plot: Path | None
