"""Plan the memory of a training before it begins, and find what fits a budget."""

from collections.abc import Mapping
from pathlib import Path

from ...adapters.preset import preset_of
from ...featcache.config import to_table
from ...featcache.encoders.card import EncoderCard
from ...featcache.encoders.references import find_card
from ...featcache.errors import OutOfMemoryError, SpecError
from ...featcache.hardware import resolve_device
from ...featcache.home import usual_home
from ...featcache.memory_errors import lack_of_memory
from ...featcache.types import Modality
from ..common.byte_sizes import parse_bytes
from ..training.options import TrainOptions, resolve_preset
from .shapes import InputShape
from .spec import MemoryPlan, PlanSpec


def run(spec: PlanSpec) -> MemoryPlan:
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
    from . import step as planned_step  # imports torch, as below; a mistake is reported without it

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
    return MemoryPlan(
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
