"""Settings and report of the export of a run; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from ...featcache.types import Modality

TARGETS: Mapping[str, tuple[str, ...]] = {  # and the packages that they need
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "sentence-transformers": ("sentence-transformers",),
}


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """Ask for the towers of one run in another library's form.

    Attributes:
        home: Folder of everything lightalign keeps.
        run: Name or folder of the run, or None for the newest.
        to: `onnx` or `sentence-transformers`.
        output: Folder to write; it must not be there, or be empty, or be replaced by `force`.
        towers: Modalities; none for all of `onnx`, and for the text of `sentence-transformers`,
            which takes one.
        whole: Whether the frozen encoders are exported, too; `onnx` only.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
        force: Replace an earlier export at `output`.
    """

    home: Path
    run: str | None
    to: str
    output: Path
    towers: tuple[str, ...] = ()
    whole: bool = True
    weights: Mapping[str, Path] = field(default_factory=dict)
    force: bool = False

    def __post_init__(self) -> None:
        if self.to not in TARGETS:
            raise unknown_name("export target", self.to, TARGETS)
        for tower in self.towers:
            if tower not in [modality.value for modality in Modality]:
                raise unknown_name("tower", tower, [modality.value for modality in Modality])
        if self.to == "sentence-transformers" and len(self.towers) > 1:
            raise SpecError("a sentence-transformers folder holds one tower: name one")
        if self.to == "sentence-transformers" and not self.whole:
            raise SpecError("a sentence-transformers folder holds its encoder: export it to onnx")


@dataclass(frozen=True, kw_only=True)
class ExportedRun:
    """Report of one exported run.

    Attributes:
        run: Folder of the run.
        path: Folder that was written.
        to: For which library.
        towers: What `lightalign.json` says of each tower.
        remedy: What to do for towers with encoders that were left out, or None.
        bytes: Size of all files.
    """

    run: Path
    path: Path
    to: str
    towers: Mapping[str, Any]
    remedy: str | None
    bytes: int
