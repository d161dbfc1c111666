"""Say before a training how much memory it will take, and what fits a budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..adapters.preset import preset_of
from ..featcache.backends import resolve_device
from ..featcache.card import EncoderCard
from ..featcache.description import DTYPES
from ..featcache.errors import OutOfMemoryError, SpecError
from ..featcache.home import usual_home
from ..featcache.memory_errors import lack_of_memory
from ..featcache.references import find_card
from ..featcache.registry import unknown_name
from ..featcache.spec import Table, check_counts, to_table
from ..featcache.types import Modality, Side, Sides, sides_of
from .sizes import parse_bytes
from .train import TrainOptions, resolve_preset

_CAPTIONS = 5  # of an image of Flickr and COCO


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """Say which training to look at.

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
class PooledShape:
    """Say what the first steps of a tower leave of a row, where rows are pooled once.

    Attributes:
        num_steps: How many steps.
        width: Features of the one token that is left, in float32.
        num_bytes: Bytes of all rows that are kept for the whole training.
    """

    num_steps: int
    width: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class InputShape:
    """Say what one row of each side is.

    Between two text encoders the texts of the first side stand in the place of the images.

    Attributes:
        tokens: Tokens of an image and of a text.
        widths: Features of one of their tokens.
        texts: Texts of an image in its batch.
        feature_bytes: Bytes of one feature as it is loaded.
        ready: Batches or chunks that are in this memory at once: the one that is used, and where
            features stay on the CPU one that waits and one that is being loaded.
        pooled: What is left of a row of a side whose rows are pooled once; a step reads that.
    """

    tokens: Mapping[Side, int]
    widths: Mapping[Side, int]
    texts: int
    feature_bytes: int = 2
    ready: int = 3
    pooled: Mapping[Side, PooledShape] = field(default_factory=dict)

    @property
    def sides(self) -> Sides:
        """Return the two sides in their order."""
        return sides_of([side.value for side in self.tokens])

    def row_bytes(self, side: Side) -> int:
        """Return the bytes of one row as it comes into a step."""
        if side in self.pooled:
            return self.pooled[side].width * 4
        return self.tokens[side] * self.widths[side] * self.feature_bytes

    def rows(self, side: Side, images: int) -> int:
        """Return how many rows of a side so many images bring."""
        return images if side is self.sides[0] else images * self.texts


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Say what is in memory when most is, in bytes.

    Attributes:
        weights: What is trained, with a moving average if there is one.
        gradients: One number for each that is trained, where they are there at the peak.
        optimiser: Its moments.
        features: Features of the batch, or of the chunks that are at hand.
        activations: What embedding keeps for its gradient, and what else it needs meanwhile.
        loss: Embeddings, similarities and their gradients.
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
class Planned:
    """Say what a training will take.

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
    predicted: Peak
    fits: bool | None
    largest_chunk: int | None
    measured: int | None
    memory: str


def run(spec: PlanSpec) -> Planned:
    """Predict the peak of memory of one training, and measure it if asked.

    Raises:
        SpecError: The preset cannot be trained in steps, an option is wrong, or this system does
            not say how much memory a process takes.
        UnknownNameError: There is no such preset, fusion, part or encoder.
        OutOfMemoryError: The measured steps do not fit, or what is planned is too large to measure.
    """
    preset = preset_of(spec.preset, spec.fusion)
    table, options = resolve_preset(spec.preset, spec.fusion, spec.overrides)
    if "fit" in table:
        raise SpecError(f"preset {preset!r} is solved in closed form: it has no steps to plan")
    budget = None if spec.budget is None else parse_bytes(spec.budget)
    cards = {
        Modality.IMAGE: _card(spec.image_encoder, Modality.IMAGE, spec.home),
        Modality.TEXT: _card(spec.text_encoder, Modality.TEXT, spec.home),
    }
    from . import planned_step  # imports torch, as below; a mistake is reported without it

    device = resolve_device(spec.device)
    shape = _shape(spec, options, cards, on_cpu=device.type == "cpu")
    step = planned_step.PlannedStep(table=table, options=options, shape=shape, device=str(device))
    model, parameters = step.model()
    images = options.mixup.mixtures(options.batch_size)
    try:
        peak = model.peak(images, options.chunk_size)
        largest = None if budget is None else model.largest_chunk(images, budget)
    except (MemoryError, RuntimeError) as error:
        if lack_of_memory(error) is None:
            raise
        raise OutOfMemoryError(
            "what is planned is measured at a small size, and that does not fit this machine: "
            f"{str(error).splitlines()[0]:.200}; lower the tokens, the captions or train.queue"
        ) from error
    measured = step.measure() if spec.measure else None
    return Planned(
        spec={
            **to_table(spec),
            "preset": preset,
            "batch_size": options.batch_size,
            "chunk_size": options.chunk_size,
            "optimiser": options.optimiser,
            "image": f"{shape.tokens[Modality.IMAGE]} x {shape.widths[Modality.IMAGE]}",
            "text": f"{shape.tokens[Modality.TEXT]} x {shape.widths[Modality.TEXT]}",
            "texts_of_an_image": shape.texts,
        },
        parameters=parameters,
        predicted=peak,
        fits=None if budget is None else peak.total <= budget,
        largest_chunk=largest,
        measured=measured,
        memory="process" if device.type == "cpu" else "GPU",
    )


def _shape(
    spec: PlanSpec, options: TrainOptions, cards: Mapping[Modality, EncoderCard], *, on_cpu: bool
) -> InputShape:
    image_tokens = spec.image_tokens or cards[Modality.IMAGE].layout.tokens_per_item
    assert image_tokens is not None, "images have as many tokens each"
    mixes = options.mixup.alpha > 0  # items of one token, widened
    text_tokens = spec.text_tokens
    if mixes:
        image_tokens = text_tokens = 1
    return InputShape(
        tokens={Modality.IMAGE: image_tokens, Modality.TEXT: text_tokens},
        widths={modality: card.width for modality, card in cards.items()},
        texts=spec.captions if options.captions == "all" else 1,
        feature_bytes=2 if spec.dtype == "float16" and not mixes else 4,  # all others are widened
        ready=3 if on_cpu else 1,
    )


def _card(name: str, modality: Modality, home: Path | None) -> EncoderCard:
    card = find_card(name, home=usual_home() if home is None else home)
    if card.modality is not modality:
        raise SpecError(f"encoder {name!r} reads {card.modality.value}s, not {modality.value}s")
    return card
