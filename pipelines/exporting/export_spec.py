"""Settings and report of the export of a run; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import WEIGHTS, Home, RunName

TARGETS: Mapping[str, tuple[str, ...]] = {  # and the packages that they need
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "sentence-transformers": ("sentence-transformers",),
}


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """Settings of the export of one run.

    Attributes:
        towers: Modalities; none for all of `onnx`, and for the text of `sentence-transformers`,
            which takes one.
        whole: Whether the frozen encoders are exported, too; `onnx` only.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
    """

    home: Home
    run: RunName = None
    to: Annotated[
        str, Setting("onnx or sentence-transformers.", choices=tuple(TARGETS), noun="export target")
    ]
    output: Annotated[Path, Setting("Folder to write: a new or an empty one.")]
    towers: Annotated[
        tuple[str, ...],
        Setting(
            "image or text; all for onnx, text for sentence-transformers if none.",
            choices=("image", "text"),
            noun="tower",
            flag="--tower",
            merged=True,
        ),
    ] = ()
    whole: Annotated[
        bool,
        Setting("Leave the frozen encoders out; onnx only.", flag="--adapter-only", negates=True),
    ] = True
    weights: Annotated[Mapping[str, Path], WEIGHTS] = field(default_factory=dict)
    force: Annotated[bool, Setting("Replace an earlier export at --output.")] = False

    def __post_init__(self) -> None:
        check_settings(self)
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
