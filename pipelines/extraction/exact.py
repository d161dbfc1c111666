"""Runs on features of bfloat16, which are not exported with their encoders, and the way out."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...featcache.config import Table
from ...featcache.errors import StoreCorruptError, StoreNotFoundError
from ...featcache.known_datasets import version_of
from ...featcache.sources.opening import is_drawn, parse_data
from ...featcache.store.catalog import find_store
from ...featcache.store.manifest import read_whole_manifest
from .extract_command import command_of
from .recorded import spec_of
from .spec import ExtractSpec

EXACT = "float32"  # the precision that exports compute in
USUAL_DTYPE = "float16"  # of stores; its rounding moves no cosine by as much as exports may
ROUNDED = ("bfloat16", "int8")  # stored types whose rounding does


def inexact_sides(table: Mapping[str, Any], sides: Iterable[str]) -> dict[str, str]:
    """Return by side the encoders of a run's `table` that computed otherwise than exports do."""
    described = table.get("encoders", {})
    return {
        side: described[side]["name"]
        for side in sides
        if side in described and described[side]["identity"].get("precision", EXACT) != EXACT
    }


def why_inexact(encoder: str) -> str:
    """Return why a tower is not exported with an encoder that computed in bfloat16."""
    return (
        f"encoder {encoder!r} computed in bfloat16 when its features were extracted, and an "
        f"export computes in {EXACT}"
    )


def exact_commands(
    table: Mapping[str, Any],
    sides: Iterable[str],
    *,
    home: Path,
    weights: Mapping[str, Path],
    dtype: str | None = None,
) -> str:
    """Return the command that extracts sides of a run again, as they were but in float32.

    Args:
        table: What `run.toml` holds.
        sides: Sides of the run.
        home: Folder of everything lightalign keeps.
        weights: Weights by encoder name, where they are not found otherwise.
        dtype: Another stored type, or None for that of before.
    """
    specs: list[ExtractSpec] = []
    for side in sides:
        spec = _exact_spec(table, side, home)
        spec = replace(spec, dtype=dtype or spec.dtype)
        weights_path = weights.get(spec.encoders[0])
        if weights_path is not None:
            specs.append(replace(spec, weights=weights_path.absolute()))
            continue
        # sides that differ by their encoder alone are one command, which opens the data once
        alike = [other for other in specs if replace(other, encoders=spec.encoders) == spec]
        for other in alike:
            specs.remove(other)
            spec = replace(spec, encoders=(*other.encoders, *spec.encoders))
        specs.append(spec)
    return " && ".join(map(command_of, specs))


def _exact_spec(table: Mapping[str, Any], side: str, home: Path) -> ExtractSpec:
    """Return the extraction of all splits of a side's training data, in the exports' precision."""
    trained: Table = table["stores"]["train"]
    stored: Table = trained.get(side, {})  # earlier versions wrote less
    command: Table = table.get("command", {})
    dataset = trained["dataset"]
    version = version_of(home, dataset, str(trained.get("split")), str(trained.get("source")))
    data = _place(dataset, command.get("data"), home) if version is None else version.data
    try:
        manifest = read_whole_manifest(find_store(home, stored.get("key", "")))
    # without the store the run itself says most of it
    except (StoreNotFoundError, StoreCorruptError):
        recorded: Table = {
            option: (stored[name],)
            for option, name in (("features", "kind"), ("layers", "layer"))
            if name in stored
        }
        return ExtractSpec(
            encoders=(table["encoders"][side]["name"],),
            data=data,
            home=home,
            source=command.get("source") or {},
            dtype=stored.get("dtype", USUAL_DTYPE),
            precision=EXACT,
            **recorded,
        )
    return replace(
        spec_of(manifest, home, data=data),
        precision=EXACT,
        split=None,
        compile=False,
        batch_size=None,
        rows_per_shard=None,
        on_error=None,
    )


def _place(dataset: str, recorded: str | None, home: Path) -> str:
    """Return what `--data` has to name; a place that nobody wrote down is left to be filled in."""
    name, path = (None, None) if recorded is None else parse_data(recorded)
    if recorded is not None and name == dataset and path is not None:
        return recorded
    is_placed = is_drawn(dataset) or (home / "datasets" / dataset).exists()
    return dataset if is_placed else f"{dataset}=/PATH"
