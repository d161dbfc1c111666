"""Options of an extraction beside what it encodes; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ..bounds import MOST, MOST_THREADS
from ..registry import list_names
from ..settings import Setting
from .key import COMPRESSIONS, DTYPES

MASKED_TOKENS, MASKED_BOXES = "masked-tokens", "masked-boxes"  # names of views
MASK_SHARE = 0.15  # of BERT
VIEW_DEFAULTS = {"mask_share": MASK_SHARE, "view_seed": 0}  # of options that `--set` alone gives
MOST_VARIANTS = 1_000  # a row each: more would be a slip, and 15 % of few tokens soon repeat

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
        mlm_variants: 0 is none; a store of their own beside that of the texts as they are.
        mask_boxes: One row a box of an image; a store of their own, too.
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
    mlm_variants: Annotated[
        int,
        Setting("Also encode each text so often with tokens masked.", least=0, most=MOST_VARIANTS),
    ] = 0
    mask_boxes: Annotated[
        bool,
        Setting("Also encode each image with each of its boxes blacked out.", flag="--mask-boxes"),
    ] = False
    device: Annotated[str, Setting("auto, cpu or cuda.")] = "auto"


def options_of_view(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an extraction that ask for the view of a description."""
    if view["name"] == MASKED_BOXES:
        return {"mask_boxes": True}
    called = {"variants": "mlm_variants", "mask_share": "mask_share", "seed": "view_seed"}
    return {called[name]: value for name, value in view["options"].items() if name in called}
