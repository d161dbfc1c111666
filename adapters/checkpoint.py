"""A trained adapter on disk: `adapter.toml` to rebuild it, `adapter.safetensors` to fill it.

The tensor file holds the SHA-256 of its tensors and of the table that it belongs to, so that a
damaged or exchanged file is noticed. It is written last: a crash leaves the old or the new pair,
or, where the table has changed too, a mismatch that loading reports.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import safetensors
import safetensors.torch
import torch
from msgspec import Meta
from torch import Tensor, nn
from typing_extensions import NotRequired, TypedDict

from ..featcache.atomic_files import replacing, write_bytes
from ..featcache.config import Table, canonical_json, fingerprint, to_toml
from ..featcache.documents import check, parse_json, read_toml
from ..featcache.errors import RunNotFoundError, SpecError, StoreCorruptError
from ..featcache.modalities import known_sides
from ..featcache.regular_files import check_regular
from ..featcache.store.remedies import removal_of_run
from ..featcache.types import Side
from ..featcache.writing import write_bytes as write_whole
from .adapter import Adapter, build_adapter, outline_adapter
from .ensemble import MOST_MEMBERS, ensemble_of
from .objective import Objective, build_objective
from .preset import DUAL, JOINT, KIND, kind_of

TABLE_FILE = "adapter.toml"
TENSOR_FILE = "adapter.safetensors"
HASHES = "lightalign"  # name of our entry in the metadata of the tensor file
STRUCTURE = ("towers", "objective", "widths")  # the keys of the table that decide the modules
# of a joint adapter
JOINT_STRUCTURE = (KIND, "towers", "joint", "heads", "objective", "widths", "num_answers")
# keys that say how many entries the lists have that its heads tell apart
LIST_SIZES = {"answers": "num_answers", "tokens": "num_tokens", "classes": "num_classes"}
MEMBERS = "members"  # another, of an ensemble: how many adapters of these towers it is


# what a folder holds where the kind of the key was asked for
_IN_WORDS = {
    DUAL: "a joint adapter, which reads items of both sides together and embeds none alone: take "
    "an adapter that train-adapter has trained",
    JOINT: "an adapter that embeds each side alone and reads no two items together: take one that "
    "train-joint has trained",
}


class _Structure(TypedDict):
    """Keys of the table that decide the modules."""

    towers: dict[str, dict[str, Any]]
    objective: dict[str, Any]
    widths: dict[str, int | list[int]]
    members: NotRequired[Annotated[int, Meta(ge=2, le=MOST_MEMBERS)]]


def save_adapter(
    folder: Path, adapter: Adapter, objective: Objective, *, table: Mapping[str, Any]
) -> None:
    """Save an adapter and its objective in a folder, each file atomically.

    `table` is the resolved preset or spec with the `towers` and the `objective` that they were
    built from; whatever else it holds is kept, and the adapter's input widths become `[widths]`.
    The table of an ensemble says how many `members` of these towers it has.

    Raises:
        SpecError: The table has no `towers` or no `objective`.
    """
    full = {**table, "widths": widths_table(adapter.stream_widths)}
    if missing := [key for key in STRUCTURE if key not in full]:
        raise SpecError(f"cannot save an adapter: its table has no [{missing[0]}]")
    write_checkpoint(folder, _state(adapter, objective), table=full)


def widths_table(stream_widths: Mapping[Side, Sequence[int]]) -> Table:
    """Return `[widths]` of a checkpoint: a number a side, or one for each of its streams."""
    return {
        side.value: list(of_streams) if len(of_streams) > 1 else of_streams[0]
        for side, of_streams in stream_widths.items()
    }


def write_checkpoint(folder: Path, state: Mapping[str, Tensor], *, table: Table) -> None:
    """Write both files of a checkpoint of any kind, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / TABLE_FILE) as temporary:
        write_whole(temporary, to_toml(table, where=str(temporary)).encode())
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    written = read_toml(folder / TABLE_FILE)  # as a reader will see it: lists, not tuples
    hashes = {"table": table_hash(written), "tensors": tensor_hash(tensors)}
    # one entry, because safetensors writes several in a random order: equal weights, equal bytes
    metadata = {HASHES: canonical_json(hashes)}
    write_bytes(folder / TENSOR_FILE, safetensors.torch.save(tensors, metadata))


def load_adapter(folder: Path) -> tuple[Adapter, Objective, Table]:
    """Load what `save_adapter` saved, on the CPU and in evaluation mode.

    Returns:
        The adapter, its objective, and the table with `widths`.

    Raises:
        RunNotFoundError: The folder holds no checkpoint.
        StoreCorruptError: A file is damaged, or the two do not belong together.
        SpecError: The table is not TOML or does not describe an adapter.
        UnknownNameError: The table names a part that this version does not have.
    """
    table, tensors = read_checkpoint(folder, kind=DUAL)
    check(table, _Structure, where=folder / TABLE_FILE)
    widths = {side: table["widths"][side.value] for side in known_sides(table["widths"])}
    objective = build_objective(table["objective"])
    # before anything is allocated: the numbers of the table may be of any size
    outlines = [
        outline_adapter(table["towers"], widths=widths) for _ in range(table.get(MEMBERS, 1))
    ]
    outline = _one_of(outlines, table)
    check_shapes(_state(outline, objective), tensors, where=folder / TENSOR_FILE)
    adapters = [build_adapter(table["towers"], widths=widths, seed=0) for _ in outlines]
    adapter = _one_of(adapters, table)
    nn.ModuleDict({"adapter": adapter, "objective": objective}).load_state_dict(tensors)
    return adapter.eval(), objective.eval(), table


def read_checkpoint(folder: Path, *, kind: str) -> tuple[Table, dict[str, Tensor]]:
    """Read both files of a checkpoint of one kind, `dual` or `joint`.

    Returns:
        The table, which is not yet compared with a type, and the tensors by name.

    Raises:
        RunNotFoundError: The folder holds no checkpoint.
        StoreCorruptError: A file is damaged, or the two do not belong together.
        SpecError: The table is not TOML, or says that the adapter is of another kind.
    """
    for name in (TABLE_FILE, TENSOR_FILE):
        if not (folder / name).is_file():
            raise RunNotFoundError(f"no trained adapter in {folder}: {name} is not there")
    table = read_toml(folder / TABLE_FILE)
    if kind_of(table, where=str(folder / TABLE_FILE)) != kind:
        raise SpecError(f"{folder} holds {_IN_WORDS[kind]}")
    weights = folder / TENSOR_FILE
    tensors, metadata = read_tensors(weights)
    if metadata.get("tensors") != tensor_hash(tensors):
        raise StoreCorruptError(
            f"{weights} is damaged: its tensors do not match their checksum; {_ways_out(weights)}"
        )
    if metadata.get("table") != table_hash(table):
        decisive = "towers, joint steps, heads" if kind == JOINT else "towers"
        raise StoreCorruptError(
            f"{weights} was saved with another {TABLE_FILE}: {decisive}, objective or widths have "
            f"changed since; {_ways_out(weights)}"
        )
    return table, tensors


def _one_of(adapters: list[Adapter], table: Table) -> Adapter:
    return ensemble_of(adapters) if MEMBERS in table else adapters[0]


def _state(adapter: Adapter, objective: Objective) -> dict[str, Tensor]:
    return nn.ModuleDict({"adapter": adapter, "objective": objective}).state_dict()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file and our entry of its metadata, empty if there is none.

    Raises:
        StoreCorruptError: It is no whole safetensors file.
    """
    try:
        check_regular(path)
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            entry = parse_json((file.metadata() or {}).get(HASHES, "{}"), where=f"{path}: metadata")
        return tensors, check(entry, dict[str, Any], where=f"{path}: metadata")
    except PermissionError:
        raise
    except (safetensors.SafetensorError, OSError, MemoryError) as error:
        raise StoreCorruptError(
            f"{path} is not a whole safetensors file ({error}); {_ways_out(path)}"
        ) from error


def _ways_out(path: Path) -> str:
    """Return what to do where a file of a run is damaged."""
    removal = removal_of_run(path.parent.absolute())
    return f"restore the file, or remove the run by `{removal}` and train it again"


def check_shapes(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, where: Path
) -> None:
    """Check that the tensors of a file are those of a module, by name and shape.

    `expected` may be on the meta device, where nothing is allocated.

    Raises:
        StoreCorruptError: One is missing, too many, or of another shape.
    """
    right, stored = (
        {name: tuple(value.shape) for name, value in state.items()} for state in (expected, tensors)
    )
    if differing := sorted(name for name, _ in right.items() ^ stored.items()):
        raise StoreCorruptError(
            f"{where} does not fit its table: {differing[0]!r} should have shape "
            f"{right.get(differing[0])}, found {stored.get(differing[0])}; it was saved by another "
            "version"
        )


def table_hash(table: Table) -> str:
    """Return the hash of the keys of a table that decide the modules, in hexadecimal."""
    keys = JOINT_STRUCTURE if table.get(KIND) == JOINT else STRUCTURE
    decisive = {key: table.get(key) for key in keys}
    # these came later, and tables without them keep their hashes
    later = [key for key in (MEMBERS, "num_tokens", "num_classes") if key in table]
    decisive |= {key: table[key] for key in later}
    return fingerprint(decisive)


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of all tensors, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
