"""Options of an extraction beside what it encodes; nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..bounds import MOST, MOST_THREADS
from ..registry import list_names
from ..settings import Setting
from .key import COMPRESSIONS, DTYPES

_CONTAINERS = tuple(list_names(Path(__file__).parent / "containers"))


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """Options of an extraction beside what it encodes.

    A command names those alone that are not as here.

    Attributes:
        weights: Taken instead of the card's own places.
        features: One store each.
        layers: One store each; -1 is after the final norm.
        compression: Compressed shards are read whole.
        precision: Of matrix products; for `auto` see `choose_precision`.
        workers: 0 decodes and tokenises between forward passes.
        max_bad: Share of a split, in [0, 1].
    """

    split: Annotated[str | None, Setting("One split; all if not given.")] = None
    weights: Annotated[Path | None, Setting("Weights file or local hub folder to use.")] = None
    features: Annotated[
        tuple[str, ...],
        Setting(
            "tokens (default), cls, mean, last, pooled or grid:HxW; repeatable or with commas.",
            each_once=True,
            commas="cls,mean",
        ),
    ] = ("tokens",)
    layers: Annotated[
        tuple[int, ...],
        Setting(
            "Layers counted from the end, such as -1,-4; repeatable.",
            each_once=True,
            commas="-1,-4",
        ),
    ] = (-1,)
    format: Annotated[str, Setting("zarr or hdf5.", choices=_CONTAINERS)] = "zarr"
    dtype: Annotated[
        str, Setting("Stored type: float16, bfloat16, float32 or int8.", choices=DTYPES)
    ] = "float16"
    compression: Annotated[str, Setting("none, zstd or blosc-lz4.", choices=COMPRESSIONS)] = "none"
    precision: Annotated[
        str, Setting("Compute type: auto (bfloat16 where safe), float32, bfloat16.")
    ] = "auto"
    compile: Annotated[
        bool, Setting("Compile the encoders: minutes first, then faster.", flag="--compile")
    ] = False
    batch_size: Annotated[
        int | None, Setting("Items per forward pass; chosen by memory if none.", least=1, most=MOST)
    ] = None
    workers: Annotated[
        int, Setting("Threads that decode and tokenise.", least=0, most=MOST_THREADS)
    ] = 2
    max_bad: Annotated[
        float, Setting("Share of items that may be unreadable.", least=0, most=1)
    ] = 0.01
    on_error: Annotated[str | None, Setting("Instead of --max-bad: skip, fail or max=N items.")] = (
        None
    )
    device: Annotated[str, Setting("auto, cpu or cuda.")] = "auto"
