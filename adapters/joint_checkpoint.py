"""A trained joint adapter on disk, in the two files of `checkpoint`; its table says `joint`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from msgspec import Meta
from torch import Tensor, nn
from typing_extensions import NotRequired, TypedDict

from ..featcache.config import Table
from ..featcache.documents import check
from ..featcache.errors import SpecError
from ..featcache.modalities import known_sides
from .checkpoint import (
    JOINT_STRUCTURE,
    LIST_SIZES,
    TABLE_FILE,
    TENSOR_FILE,
    check_shapes,
    read_checkpoint,
    widths_table,
    write_checkpoint,
)
from .joint_adapter import JointAdapter, build_joint_adapter, outline_joint_adapter
from .joint_objective import JointObjectives, build_joint_objectives
from .preset import JOINT, KIND

_MOST_LISTED = 2**24  # entries of a list; those of datasets have some thousand
_Count: TypeAlias = Annotated[int, Meta(ge=1, le=_MOST_LISTED)]


class _JointStructure(TypedDict):
    """Keys of the table that decide the modules."""

    kind: str
    towers: dict[str, dict[str, Any]]
    joint: dict[str, dict[str, Any]]
    heads: dict[str, dict[str, Any]]
    objective: dict[str, dict[str, Any]]
    widths: dict[str, int | list[int]]
    num_answers: NotRequired[_Count]
    num_tokens: NotRequired[_Count]
    num_classes: NotRequired[_Count]


def save_joint_adapter(
    folder: Path,
    adapter: JointAdapter,
    objectives: JointObjectives,
    *,
    table: Mapping[str, Any],
) -> None:
    """Save a joint adapter and its objectives in a folder, each file atomically.

    `table` is the resolved preset with the `towers`, `joint`, `heads` and `objective` that they
    were built from; whatever else it holds is kept, and the adapter's input widths and entries of
    lists become `[widths]`, `num_answers`, `num_tokens` and `num_classes`.

    Raises:
        SpecError: The table lacks one of these.
    """
    full = {
        **table,
        KIND: JOINT,
        **{LIST_SIZES[name]: adapter.listed.get(name) for name in LIST_SIZES},
        "widths": widths_table(adapter.stream_widths),
    }
    if missing := [key for key in JOINT_STRUCTURE if key not in full]:
        raise SpecError(f"cannot save a joint adapter: its table has no [{missing[0]}]")
    write_checkpoint(folder, _state(adapter, objectives), table=full)


def load_joint_adapter(folder: Path) -> tuple[JointAdapter, JointObjectives, Table]:
    """Load what `save_joint_adapter` saved, on the CPU and in evaluation mode.

    Returns:
        The joint adapter, its objectives, and the table with `widths`.

    Raises:
        RunNotFoundError: The folder holds no checkpoint.
        StoreCorruptError: A file is damaged, or the two do not belong together.
        SpecError: The table is not TOML, is of an adapter that embeds each side alone, or does not
            describe a joint adapter.
        UnknownNameError: The table names a part that this version does not have.
    """
    table, tensors = read_checkpoint(folder, kind=JOINT)
    check(table, _JointStructure, where=folder / TABLE_FILE)
    widths = {side: table["widths"][side.value] for side in known_sides(table["widths"])}
    listed = {name: table[key] for name, key in LIST_SIZES.items() if key in table}
    objectives = build_joint_objectives(table["objective"])
    # before anything is allocated: the numbers of the table may be of any size
    outline = outline_joint_adapter(table, widths=widths, listed=listed)
    check_shapes(_state(outline, objectives), tensors, where=folder / TENSOR_FILE)
    adapter = build_joint_adapter(table, widths=widths, listed=listed, seed=0)
    nn.ModuleDict({"adapter": adapter, "objective": objectives}).load_state_dict(tensors)
    return adapter.eval(), objectives.eval(), table


def _state(adapter: JointAdapter, objectives: JointObjectives) -> dict[str, Tensor]:
    return nn.ModuleDict({"adapter": adapter, "objective": objectives}).state_dict()
