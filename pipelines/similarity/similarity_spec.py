"""Settings and report of an evaluation of text similarity; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.errors import SpecError

PUBLISHED_THRESHOLD = 0.9  # threshold of LightCRL


@dataclass(frozen=True, kw_only=True)
class SimilaritySpec:
    """Settings of one evaluation of text similarity.

    Attributes:
        home: Folder of everything lightalign keeps.
        data: `NAME` of a dataset of graded pairs, for the newest stores; `NAME=PATH` for those of
            the dataset as it is there now.
        run: Name or folder of a run; the newest if neither it nor an encoder is named.
        encoders: Text encoders whose own vectors are compared, besides those of the run.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        split: Split to evaluate on, or None for `val`, or `test` where there is no `val`.
        threshold: Cosine from which a pair is called alike, beside the one that is fitted.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    data: str
    run: str | None = None
    encoders: tuple[str, ...] = ()
    source: Mapping[str, Any] | None = None
    split: str | None = None
    threshold: float = PUBLISHED_THRESHOLD
    device: str = "auto"

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise SpecError(f"a threshold is a cosine in [-1, 1], found {self.threshold}")


@dataclass(frozen=True, kw_only=True)
class SimilarityReport:
    """Report of one evaluation of text similarity.

    Attributes:
        path: The report file, or None where it may not be written.
        report: Its content.
    """

    path: Path | None
    report: Mapping[str, Any]
