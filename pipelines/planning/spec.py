"""Requests and reports of planning."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.bounds import MOST
from ...featcache.settings import Setting, check_settings
from ...featcache.store.key import DTYPES
from ..common.shared_settings import HOME, Device
from ..training.spec import Fusion, Overrides, Preset


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
    num_answers: Annotated[
        int,
        Setting("Answers of questions that a joint preset tells apart.", least=2, most=MOST),
    ] = 3129  # of VQAv2
    dtype: Annotated[str, Setting("Stored type of the features.", choices=DTYPES)] = "float16"
    budget: Annotated[str | None, Setting("Memory that may be used, such as 6GB.")] = None
    measure: Annotated[bool, Setting("Run three steps and measure, too.")] = False
    device: Device = "auto"
    home: Annotated[Path | None, HOME] = None

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Bytes of each part of memory at the peak of a training step.

    Attributes:
        weights: What is trained, with a moving average if there is one.
        gradients: One number for each that is trained, where they are there at the peak.
        optimiser: Its moments.
        features: Features of the batch, or of the chunks that are at hand.
        activations: What embedding keeps for its gradient, and what else it needs meanwhile.
        loss: Similarities, with their gradients and what they are made of.
        pooled: What towers that begin with a pool make of all rows, which is kept for the whole
            training, and what making it takes. How many rows there are a plan does not know: it
            has 0 here, and pools in each step instead, as a training does where they do not fit.
    """

    weights: int
    gradients: int
    optimiser: int
    features: int
    activations: int
    loss: int
    pooled: int = 0

    @property
    def total(self) -> int:
        """Return the sum."""
        return sum(vars(self).values())


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


@dataclass(frozen=True, kw_only=True)
class TrainEstimate:
    """Estimated cost of one training.

    Attributes:
        preset: Name of the preset.
        fusion: Fusion that was put into it, or None for its own.
        parameters: Numbers that are trained.
        images: Images that are trained on.
        batch_size: Images, or mixtures of them, of the largest batch; right pairs of a joint
            training.
        chunk_size: Rows, or pairs of a joint training, whose graph is in memory at once, or 0 for
            all.
        rows: Tokens and width of a row, by side: with chunks of the longest, else the mean of the
            batch with most padding.
        texts_of_an_image: Texts of an image in its batch.
        reads_pairs: Whether pairs are read together, as a joint adapter does.
        predicted: Bytes at the peak of a step, by part, as `plan` predicts them.
        memory: Which memory it is: that of the `process`, or of the `GPU`.
        residency: Where the features are meanwhile, by side; the peak holds those of batches.
        epochs: Epochs; early stopping may end before.
        steps: Steps of all epochs.
        epoch_seconds: Time of the steps of an epoch, with rows that were pooled before, if they
            are.
        pooling_seconds: Time of pooling the tokens of all rows, once, or 0 where each step does.
        validation_seconds: Time of the validation after each, or 0 without one.
        minutes: Time of all epochs, of all seeds where there are several. Opening the stores, what
            `[start]` solves before the first step, and writing weights are not in it.
        probe_steps: Steps that were timed.
        probe_seconds: Time that the probe took, with its warm-up and validation.
    """

    preset: str
    fusion: str | None
    parameters: int
    images: int
    batch_size: int
    chunk_size: int
    rows: Mapping[str, str]
    texts_of_an_image: int
    reads_pairs: bool
    predicted: PeakMemory
    memory: str
    residency: Mapping[str, Mapping[str, Any]]
    epochs: int
    steps: int
    epoch_seconds: float
    pooling_seconds: float
    validation_seconds: float
    minutes: float
    probe_steps: int
    probe_seconds: float
