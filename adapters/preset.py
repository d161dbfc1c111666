"""Presets: published and own systems as TOML tables. Nothing here imports torch."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..featcache.config import Table, merge, resolve
from ..featcache.documents import read_toml
from ..featcache.errors import SpecError
from ..featcache.registry import list_names, unknown_name
from ..featcache.types import IMAGE_TEXT, Side, Sides
from ..featcache.types import TEXT_TEXT as TEXT_TEXT_SIDES

PRESETS = Path(__file__).parent.parent / "data" / "presets"
STEPS = Path(__file__).parent / "steps"
BOTH = "both"  # name of the tower that both sides share
JOIN = "join"  # the part that makes one stream of several
SLOT = "fuse"  # the slot of a tower that `with_fusion` fills
NO_FUSION = "none"
SUFFIX = "-fusion"
DEFAULT = "lightalign/base"
DEFAULT_OF_FUSIONS = "lightalign/fusion"
PLACES = {"first": "image", "second": "text"}  # of any two sides, and what parts call them
KIND = "kind"  # the key that says what a preset builds; a preset without it is of DUAL
DUAL, JOINT = "dual", "joint"  # each side alone, or both together
TEXT_TEXT = "text_text"  # the table of what is otherwise where both sides are texts


def list_presets(kind: str | None = None) -> list[str]:
    """List the names of all presets, or of those of a kind, sorted, such as `lightalign/base`."""
    names = sorted(
        path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.toml")
    )
    if kind is None:
        return names
    return [name for name in names if kind_of(read_preset(name), where=name) == kind]


def kind_of(table: Mapping[str, Any], *, where: str) -> str:
    """Return what a preset or the table of a checkpoint builds, `dual` or `joint`.

    Messages call the table `where`.

    Raises:
        SpecError: It is neither.
    """
    kind = table.get(KIND, DUAL)
    if kind not in (DUAL, JOINT):
        raise SpecError(f"{where}: kind must be {DUAL!r} or {JOINT!r}, found {kind!r}")
    return str(kind)


def preset_of(preset: str | None, fusion: str | None) -> str:
    """Return the preset that is named, or else our own, or that of our own with a slot `fuse`."""
    if preset is not None:
        return preset
    return DEFAULT if fusion is None else DEFAULT_OF_FUSIONS


def read_preset(name: str) -> Table:
    """Return the preset called `name`, with all that it extends merged under it.

    Raises:
        UnknownNameError: No preset has this name, or one that it extends has not.
        SpecError: A file is not TOML, or presets extend one another in a circle.
    """
    return resolve(name, _read_one)


def for_sides(preset: Table, sides: Sides) -> Table:
    """Return `preset` as it is between these two sides.

    Its table `text_text` holds what two text encoders change, option by option, such as
    `towers.both.fuse.tanh = true`; it is left out of the result. Its own towers `first_text` and
    `second_text` stand in the place of `image` and `text`.

    Between any other sides than images and texts, or two texts, a side reads the tower that is
    called after it, such as `towers.tone`; where there is none, the first side reads
    `towers.image` and the second `towers.text`. Both are then called after their sides.

    Raises:
        SpecError: `text_text` is no table.
    """
    table = {key: value for key, value in preset.items() if key != TEXT_TEXT}
    changes = preset.get(TEXT_TEXT, {})
    if not isinstance(changes, dict):
        raise SpecError(f"[{TEXT_TEXT}] must be a table, found {changes!r}")
    if sides == IMAGE_TEXT:
        return table
    if sides != TEXT_TEXT_SIDES:
        return _with_towers_of(table, sides)
    merged = merge(table, changes)
    names = [side.value for side in TEXT_TEXT_SIDES if side.value in changes.get("towers", {})]
    if not names:
        return merged
    return {**merged, "towers": {name: merged["towers"][name] for name in names}}


def _with_towers_of(table: Table, sides: Sides) -> Table:
    towers = table.get("towers", {})
    owners = [
        side.value if side.value in towers else usual.value
        for side, usual in zip(sides, IMAGE_TEXT, strict=True)
    ]
    # a tower of both sides is of any sides; what is malformed is refused where it is built
    if BOTH in towers or not all(owner in towers for owner in owners):
        return table
    named = zip(sides, owners, strict=True)
    return {**table, "towers": {side.value: towers[owner] for side, owner in named}}


def with_places(table: Table, sides: Sides) -> Table:
    """Return a preset whose options that name a side name its place, `first` or `second`.

    They are the `target` of a solver and the `teacher` of an objective. Between images and texts
    nothing changes: parts know these names themselves. Worked: between `audio` and `image`, the
    target `image` is `second`, where a part of its own would take it for the first.
    """
    if sides == IMAGE_TEXT:
        return table
    place_of = dict(zip((side.value for side in sides), PLACES, strict=True))
    changed = dict(table)
    for name, option in (("fit", "target"), ("start", "target"), ("objective", "teacher")):
        asked = table.get(name, {}).get(option)
        if isinstance(asked, str) and asked in place_of:
            changed[name] = {**table[name], option: place_of[asked]}
    return changed


def for_streams(preset: Table, counts: Mapping[Side, int], *, name: str) -> Table:
    """Return `preset` as it is for so many streams of each side.

    A slot of the part `join` is left out of towers of one stream. `name` is that of the preset.

    Raises:
        SpecError: A side has several streams, and its tower does not join them.
    """
    towers = dict(preset.get("towers", {}))
    for owner, tower in towers.items():
        of_owner = {side: count for side, count in counts.items() if owner in (BOTH, side.value)}
        joins = [slot for slot, entry in _slots(tower) if entry.get("part") == JOIN]
        several = next((side for side, count in of_owner.items() if count > 1), None)
        if several is None:
            others = {slot: entry for slot, entry in tower.items() if slot not in joins}
            towers[owner] = others if joins else tower
        elif not joins:
            raise SpecError(
                f"preset {name!r} takes one {several.label} stream, found {of_owner[several]}: "
                f"name one encoder and one layer, or take a preset with a slot of the part "
                f"{JOIN!r}, such as {DEFAULT}"
            )
    return {**preset, "towers": towers} if towers else preset


def _slots(tower: Any) -> list[tuple[str, Any]]:
    if not isinstance(tower, dict):
        return []
    return [(slot, entry) for slot, entry in tower.items() if isinstance(entry, dict)]


def list_fusions() -> list[tuple[str, str]]:
    """List the fusions as (name, what it does in one line), `none` first.

    The lines are the first of the modules' docstrings, read without importing the modules.
    """
    fusions = [(NO_FUSION, "Leave the tokens as they are; the control.")]
    for step in list_names(STEPS):
        if step.endswith(SUFFIX):
            text = (STEPS / f"{step.replace('-', '_')}.py").read_text(encoding="utf-8")
            docstring = ast.get_docstring(ast.parse(text)) or ""
            name = step.removesuffix(SUFFIX).replace("-", "_")
            fusions.append((name, docstring.partition("\n")[0]))
    return fusions


def with_fusion(preset: Table, fusion: str) -> Table:
    """Return `preset` with `fusion`, at its defaults, in the slot `fuse` of each tower that has it.

    A fusion is a name of `list_fusions`, in which a hyphen may stand for an underscore.

    Raises:
        UnknownNameError: No fusion has this name.
        SpecError: No tower of the preset has a slot `fuse`.
    """
    name = fusion.replace("-", "_")
    fusions = [listed for listed, _ in list_fusions()]
    if name not in fusions:
        raise unknown_name("fusion", fusion, fusions)
    towers: dict[str, Any] = preset.get("towers", {})
    if not any(SLOT in tower for tower in towers.values()):
        slots = {owner: list(tower) for owner, tower in towers.items()}
        raise SpecError(
            f"fusion {fusion!r} needs a slot {SLOT!r} in a tower of the preset, found {slots}: "
            f"take a preset that has one, such as {DEFAULT_OF_FUSIONS}"
        )
    part = "identity" if name == NO_FUSION else fusion.replace("_", "-") + SUFFIX
    entry = {"part": part}
    changed = {
        owner: {slot: entry if slot == SLOT else current for slot, current in tower.items()}
        for owner, tower in towers.items()
    }
    return {**preset, "towers": changed}


def _read_one(name: str) -> Table:
    if name not in list_presets():
        raise unknown_name("preset", name, list_presets())
    return read_toml(PRESETS / f"{name}.toml")
