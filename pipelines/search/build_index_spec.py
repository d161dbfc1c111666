"""Settings and report of building indexes; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class IndexSpec:
    """Settings of building the indexes of one split.

    Attributes:
        home: Folder of everything lightalign keeps.
        run: Name or folder of a run, or None for the newest.
        side: `image`, `text` or `both`; of a run between two text encoders `first_text`,
            `second_text` or `both`. None for the first of them.
        data: `NAME` of a dataset, or None for the run's own, for the newest stores;
            `NAME=PATH` for those of the dataset as it is there now.
        source: Options of the dataset, by name; those of the training if None.
        split: Split to index.
        index: One of `index_plan.KINDS`, or a FAISS factory string.
        memory: Size that the index may have, such as `2GB`, or None for half of the free memory.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    run: str | None = None
    side: str | None = None
    data: str | None = None
    source: Mapping[str, Any] | None = None
    split: str = "test"
    index: str = "auto"
    memory: str | None = None
    device: str = "auto"


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
