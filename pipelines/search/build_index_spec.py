"""Settings and report of building indexes; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, Home, RunData, RunName, SourceOptions

BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class IndexSpec:
    """Settings of building the indexes of one split.

    Attributes:
        data: `NAME` of a dataset, for the newest stores; `NAME=PATH` for those of the dataset as it
            is there now.
        source: Options of the dataset, by name; those of the training if None.
        index: One of `index_plan.KINDS`, or a FAISS factory string.
    """

    home: Home
    run: RunName = None
    side: Annotated[
        str | None, Setting("A side, such as image or text, or both; the first if none.")
    ] = None
    source: SourceOptions = None
    index: Annotated[str, Setting("auto, flat, ivf, hnsw, pq or a FAISS factory string.")] = "auto"
    memory: Annotated[
        str | None, Setting("What it may take, such as 2GB; half of the free if none.")
    ] = None
    split: Annotated[str, Setting("Split to index.")] = "test"
    data: RunData = None
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """Report of the indexes that were built.

    Attributes:
        run: The run folder.
        folders: Folder of each index, by side.
        manifests: Its manifest, by side.
        paths: The report of what each approximate index finds, by side.
        warnings: What to know before they are used.
        seconds: Time it took.
    """

    run: Path
    folders: Mapping[str, Path]
    manifests: Mapping[str, Mapping[str, Any]]
    paths: Mapping[str, Path]
    warnings: tuple[str, ...]
    seconds: float
