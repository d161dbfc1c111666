"""Planned step of what a plan names, and its memory."""

from pathlib import Path

from ...adapters.preset import JOINT, kind_of, preset_of, read_preset
from ...featcache.encoders.card import EncoderCard
from ...featcache.encoders.references import find_card
from ...featcache.errors import SpecError
from ...featcache.hardware import resolve_device
from ...featcache.home import usual_home
from ...featcache.types import Modality
from ..training.joint_plan import resolve_joint_preset
from ..training.options import resolve_preset
from .joint_memory import JointStepMemory
from .joint_step import PlannedJointStep
from .memory import StepMemory
from .planned import InputShape
from .spec import PlanSpec
from .step import PlannedStep
from .trained_memory import TrainedMemory


def planned_step(spec: PlanSpec) -> PlannedStep | PlannedJointStep:
    """Return the step of the training that a plan names.

    Raises:
        SpecError: The preset cannot be trained in steps, or an option is wrong.
        UnknownNameError: There is no such preset, fusion, part or encoder.
    """
    preset = preset_of(spec.preset, spec.fusion)
    is_joint = kind_of(read_preset(preset), where=preset) == JOINT
    if is_joint:
        if spec.fusion is not None:
            raise SpecError(
                f"--fusion goes into a preset that aligns two sides, and {preset!r} reads both "
                "together: leave it out"
            )
        table, options = resolve_joint_preset(preset, spec.overrides, home=spec.home)
    else:
        table, options = resolve_preset(spec.preset, spec.fusion, spec.overrides)
    if "fit" in table:
        raise SpecError(f"preset {preset!r} is solved in closed form: it has no steps to plan")
    image = _card(spec.image_encoder, Modality.IMAGE, spec.home)
    text = _card(spec.text_encoder, Modality.TEXT, spec.home)
    device = resolve_device(spec.device)
    image_tokens = spec.image_tokens or image.layout.tokens_per_item
    assert image_tokens is not None, "images have as many tokens each"
    # only items of one token are mixed, in float32
    mixes = options.mixup.alpha > 0
    shape = InputShape(
        tokens={
            Modality.IMAGE: 1 if mixes else image_tokens,
            Modality.TEXT: 1 if mixes else spec.text_tokens,
        },
        widths={Modality.IMAGE: image.width, Modality.TEXT: text.width},
        texts=spec.captions if options.captions == "all" else 1,  # joint presets count pairs
        feature_bytes=2 if spec.dtype == "float16" and not mixes else 4,  # all others are widened
        ready=3 if device.type == "cpu" else 1,
    )
    if is_joint:
        return PlannedJointStep(
            table=table, options=options, shape=shape, device=device, num_answers=spec.num_answers
        )
    return PlannedStep(table=table, options=options, shape=shape, device=device)


def memory_of(planned: PlannedStep | PlannedJointStep) -> TrainedMemory:
    """Return the memory of a planned step.

    Raises:
        SpecError: What it makes at small sizes does not tell of larger ones.
    """
    if isinstance(planned, PlannedJointStep):
        return JointStepMemory(planned)
    return StepMemory(planned)


def _card(name: str, modality: Modality, home: Path | None) -> EncoderCard:
    card = find_card(name, home=usual_home() if home is None else home)
    if card.modality is not modality:
        raise SpecError(f"encoder {name!r} reads {card.modality.value}s, not {modality.value}s")
    return card
