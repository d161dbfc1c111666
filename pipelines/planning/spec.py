"""Request and report of a plan of memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.bounds import MOST
from ...featcache.settings import Setting, check_settings
from ...featcache.store.key import DTYPES
from ..common.shared_settings import HOME, Device
from ..training.spec import Fusion, Overrides, Preset
from .peak import PeakMemory


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """Settings of one memory plan: the training that is looked at.

    Features count as they come into a step. Those that lie on a GPU for good (`train.residency`)
    and what validation takes between the epochs are not in it.

    Attributes:
        image_encoder: Name of the image encoder's card.
        text_encoder: Name of the text encoder's card.
        device: Where training, and measuring, is.
        home: Folder with encoder cards of one's own, or None for the usual one.
    """

    preset: Preset = None
    fusion: Fusion = None
    overrides: Overrides = ()
    image_encoder: Annotated[str, Setting("Encoder of the images.")] = "dino-vits16"
    text_encoder: Annotated[str, Setting("Encoder of the texts.")] = "distilbert"
    image_tokens: Annotated[
        int | None, Setting("Tokens of an image; all of its encoder if none.", least=1, most=MOST)
    ] = None
    text_tokens: Annotated[
        int, Setting("Tokens of a batch's longest text.", least=1, most=MOST)
    ] = 32
    captions: Annotated[
        int, Setting("Texts of an image, if a batch has all of them.", least=1, most=MOST)
    ] = 5  # as in Flickr and COCO
    dtype: Annotated[str, Setting("Stored type of the features.", choices=DTYPES)] = "float16"
    budget: Annotated[str | None, Setting("Memory that may be used, such as 6GB.")] = None
    measure: Annotated[bool, Setting("Run three steps and measure, too.")] = False
    device: Device = "auto"
    home: Annotated[Path | None, HOME] = None

    def __post_init__(self) -> None:
        check_settings(self)


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

    spec: dict[str, Any]
    parameters: int
    predicted: PeakMemory
    fits: bool | None
    largest_chunk: int | None
    measured: int | None
    memory: str
