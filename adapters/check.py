"""Build a preset and compare what can be trained in it with its source."""

from dataclasses import dataclass

from ..featcache.modalities import known_sides
from .adapter import build_adapter, count_parameters
from .objective import build_objective
from .preset import read_preset

# Widths of a small image encoder and of a small text encoder, for presets of no given widths.
_WIDTHS = {"image": 384, "text": 384}


@dataclass(frozen=True)
class Check:
    """Trainable parameters of one preset, compared with those of its source.

    Attributes:
        preset: Its name.
        image_width: Features of an image token that it was built for.
        text_width: Features of a text token.
        parameters: Numbers that are trained, those of the objective among them.
        expected: As many as its source has, or None where there is no source to compare with.
        right: Whether both are equal, or there is nothing to compare with.
    """

    preset: str
    image_width: int
    text_width: int
    parameters: int
    expected: int | None
    right: bool


def check_preset(name: str) -> Check:
    """Build the preset called `name` and count its parameters.

    Raises:
        UnknownNameError: There is no such preset, or it names a part that does not exist.
        SpecError: It cannot be built.
    """
    preset = read_preset(name)
    stated = preset.get("check", {})
    widths = stated.get("widths", _WIDTHS)
    by_side = {side: widths[side.value] for side in known_sides(widths)}
    adapter = build_adapter(preset["towers"], widths=by_side, seed=0)
    parameters = count_parameters(adapter) + count_parameters(build_objective(preset["objective"]))
    expected = stated.get("parameters")
    return Check(
        preset=name,
        image_width=widths["image"],
        text_width=widths["text"],
        parameters=parameters,
        expected=expected,
        right=expected is None or expected == parameters,
    )
