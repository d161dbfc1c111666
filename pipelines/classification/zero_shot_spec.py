"""Settings and report of a zero-shot classification; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.errors import SpecError

USUAL = ("ensemble",)  # prompts, where none are named


@dataclass(frozen=True, kw_only=True)
class ZeroShotSpec:
    """Settings of one zero-shot classification: the dataset, the run and the prompts.

    Attributes:
        home: Folder of everything lightalign keeps.
        data: `NAME` of a dataset of classes, for the newest stores; `NAME=PATH` for those of the
            dataset as it is there now.
        run: Name or folder of a run, or None for the newest.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        split: Split to evaluate on, or None for `test`, or else `val`.
        prompts: Names of prompts or TOML files; each is measured, and the plot and the failures
            are of the first.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    data: str
    run: str | None = None
    source: Mapping[str, Any] | None = None
    split: str | None = None
    prompts: tuple[str, ...] = USUAL
    weights: Mapping[str, Path] | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.prompts or len(set(self.prompts)) < len(self.prompts):
            raise SpecError(f"prompts must name at least one, each once; found {self.prompts}")


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
