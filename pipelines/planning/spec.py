"""Request and report of a plan of memory."""

from dataclasses import dataclass
from pathlib import Path

from ...featcache.config import Table, check_counts
from ...featcache.registry import unknown_name
from ...featcache.store.key import DTYPES
from .peak import PeakMemory

_CAPTIONS = 5  # of an image of Flickr and COCO


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """Settings of one memory plan: the training that is looked at.

    Features count as they come into a step. Those that lie on a GPU for good (`train.residency`)
    and what validation takes between the epochs are not in it.

    Attributes:
        preset: Name of a preset, or None for that of `preset_of`.
        fusion: Fusion to put into the preset, or None for the preset's own.
        overrides: `a.b=c` on the preset's tables.
        image_encoder: Name of the image encoder's card.
        text_encoder: Name of the text encoder's card.
        image_tokens: Tokens of an image, or None for all that the encoder gives.
        text_tokens: Tokens of the longest text of a batch.
        captions: Texts of an image, where the preset takes all of them.
        dtype: Stored type of the features.
        budget: Bytes that may be used, such as `6GB`, or None.
        measure: Whether to run three steps and measure.
        device: `auto`, `cpu` or `cuda`: where training, and measuring, is.
        home: Folder with encoder cards of one's own, or None for the usual one.
    """

    preset: str | None = None
    fusion: str | None = None
    overrides: tuple[str, ...] = ()
    image_encoder: str = "dino-vits16"
    text_encoder: str = "distilbert"
    image_tokens: int | None = None
    text_tokens: int = 32
    captions: int = _CAPTIONS
    dtype: str = "float16"
    budget: str | None = None
    measure: bool = False
    device: str = "auto"
    home: Path | None = None

    def __post_init__(self) -> None:
        check_counts(self, {"image_tokens": 1, "text_tokens": 1, "captions": 1})
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Predicted memory of one training.

    Attributes:
        spec: What was looked at, resolved: preset, batch, chunk, optimiser, rows.
        parameters: Numbers that are trained.
        predicted: Bytes at the peak of a step, by part.
        fits: Whether the peak is within the budget, or None without one.
        largest_chunk: Largest chunk, a power of two, whose peak is within the budget, or None.
        measured: Bytes that three steps took at most, or None.
        memory: Which memory it is: that of the `process`, or of the `GPU`.
    """

    spec: Table
    parameters: int
    predicted: PeakMemory
    fits: bool | None
    largest_chunk: int | None
    measured: int | None
    memory: str
