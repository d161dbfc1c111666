"""Settings and report of an evaluation of text similarity; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, Home, SourceOptions

PUBLISHED_THRESHOLD = 0.9  # of LightCRL


@dataclass(frozen=True, kw_only=True)
class SimilaritySpec:
    """Settings of one evaluation of text similarity.

    Attributes:
        data: `NAME` of a dataset of graded pairs, for the newest stores; `NAME=PATH` for those of
            the dataset as it is there now.
        encoders: Text encoders whose own vectors are compared, besides those of the run.
    """

    home: Home
    data: Annotated[str, Setting("qqp, mrpc, stsb, sick or text-pair-table, or =PATH.")]
    run: Annotated[
        str | None, Setting("Run; the newest if none and no --encoder.", argument=True)
    ] = None
    encoders: Annotated[
        tuple[str, ...],
        Setting("Text encoder to compare as it is; repeatable.", flag="--encoder", merged=True),
    ] = ()
    source: SourceOptions = None
    split: Annotated[str | None, Setting("Split to evaluate on; val, or else test, if none.")] = (
        None
    )
    threshold: Annotated[
        float, Setting("Cosine from which a pair is alike, beside a fitted one.", least=-1, most=1)
    ] = PUBLISHED_THRESHOLD
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class SimilarityReport:
    """Report of one evaluation of text similarity.

    Attributes:
        path: The report file, or None where it may not be written.
        report: Its content.
    """

    path: Path | None
    report: Mapping[str, Any]
