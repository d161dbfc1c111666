"""Build a preset and compare what can be trained in it with its source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..featcache.config import Table
from ..featcache.modalities import known_sides
from .adapter import build_adapter, count_parameters
from .building import outlining
from .checkpoint import LIST_SIZES
from .head import HeadInputs, build_head
from .joint_adapter import JointAdapter, heads_read, outline_joint_adapter
from .objective import build_objective
from .preset import JOINT, kind_of, read_preset

# Widths of a small image encoder and of a small text encoder, for presets of no given widths.
_WIDTHS = {"image": 384, "text": 384}


@dataclass(frozen=True)
class Check:
    """Trainable parameters of one preset, compared with those of its source.

    Attributes:
        preset: Its name; of a joint preset also the head that is counted, or `all` with the heads
            that its objective reads, where that is not the adapter without heads.
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


def check_preset(name: str) -> list[Check]:
    """Build the preset called `name` and count its parameters, once for each of its `[[check]]`.

    Raises:
        UnknownNameError: There is no such preset, or it names a part that does not exist.
        SpecError: It cannot be built.
    """
    preset = read_preset(name)
    stated = preset.get("check", {})
    tables = stated if isinstance(stated, list) else [stated]
    if kind_of(preset, where=f"preset {name!r}") == JOINT:
        return [check for table in tables for check in _check_joint(name, preset, table)]
    return [_check_dual(name, preset, table) for table in tables]


def _check_dual(name: str, preset: Table, stated: Mapping[str, Any]) -> Check:
    widths = stated.get("widths", _WIDTHS)
    by_side = {side: widths[side.value] for side in known_sides(widths)}
    adapter = build_adapter(preset["towers"], widths=by_side, seed=0)
    parameters = count_parameters(adapter) + count_parameters(build_objective(preset["objective"]))
    return _compare(name, widths, parameters, stated.get("parameters"))


def _check_joint(name: str, preset: Table, stated: Mapping[str, Any]) -> Iterator[Check]:
    """Yield the count of the adapter without heads, of each stated head, and of all if stated."""
    widths = stated.get("widths", _WIDTHS)
    by_side = {side: widths[side.value] for side in known_sides(widths)}
    # of a list whose head is not counted, any number
    listed = {name: stated.get(key, 1) for name, key in LIST_SIZES.items()}
    # names and shapes are enough to count: large ones take gigabytes
    adapter = outline_joint_adapter(preset, widths=by_side, listed=listed)
    without_heads = count_parameters(adapter) - count_parameters(adapter.heads)
    yield _compare(name, widths, without_heads, stated.get("parameters"))
    for head, expected in stated.get("heads", {}).items():
        count = _count_head(head, preset, adapter, listed)
        yield _compare(f"{name} {head}", widths, count, expected)
    if "total" in stated:
        total = without_heads + sum(
            _count_head(head, preset, adapter, listed) for head in heads_read(preset)
        )
        yield _compare(f"{name} all", widths, total, stated["total"])


def _count_head(name: str, preset: Table, adapter: JointAdapter, listed: Mapping[str, int]) -> int:
    inputs = HeadInputs(adapter.pooled_width, adapter.token_width, adapter.sides, listed)
    with outlining(f"[heads].{name}"):
        return count_parameters(build_head(name, preset["heads"][name], inputs))


def _compare(name: str, widths: Mapping[str, int], parameters: int, expected: int | None) -> Check:
    return Check(
        preset=name,
        image_width=widths["image"],
        text_width=widths["text"],
        parameters=parameters,
        expected=expected,
        right=expected is None or expected == parameters,
    )
