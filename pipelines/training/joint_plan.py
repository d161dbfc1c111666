"""Resolve the request of a joint training to a plan: its preset, its stores, its validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...adapters.preset import JOINT, kind_of, read_preset
from ...featcache import atomic_files
from ...featcache.config import Table, apply_overrides, build
from ...featcache.errors import SpecError
from ...featcache.home import command_line, usual_home
from ...featcache.registry import list_names, unknown_name
from ...featcache.types import sides_of
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import (
    DatasetQuery,
    SideQuery,
    StoreQuery,
    choose_sides,
    require_pair,
    sides_asked,
    stream_queries,
)
from ..runs import run_folder
from .joint_spec import TrainJointSpec
from .options import TrainOptions, TrainPlan
from .plan import choose_validation
from .tasks import TASKS, task_of

OBJECTIVES = Path(__file__).parents[2] / "adapters" / "joint_objectives"
_READ = ("answers", "itm")  # objectives whose targets are read from stores
PRESET_KEYS = frozenset(
    {
        *("kind", "title", "source", "check", "task", "towers", "joint", "heads", "objective"),
        *("train", "rates"),
    }
)


def resolve(spec: TrainJointSpec, progress: Progress = SILENT) -> TrainPlan:
    """Resolve `spec` to a plan, without training anything.

    Raises:
        SpecError: A preset, override or option is wrong.
        UnknownNameError: There is no such preset, objective, part or task.
        StoreNotFoundError: No two stores match.
        RunNotFoundError: There is no such run to draw wrong pairs by.
    """
    if spec.tensorboard:
        from .log import require_tensorboard

        require_tensorboard()
    table, options = resolve_joint_preset(
        spec.preset, spec.overrides, objectives=spec.objectives, home=spec.home
    )
    by_side = choose_sides(
        image=_streams(spec, "image"),
        text=_streams(spec, "text"),
        second_text=[SideQuery()],
        home=spec.home,
    )
    sides = sides_asked(by_side)
    table = {**table, "task": _task_table(spec, table)}
    task_of(table).check_sides(sides_of([side.value for side in sides]))
    data = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
    stores = require_pair(spec.home, StoreQuery.of(data, "train", by_side), progress)
    encoders = [
        f"{side.label}s by {entry.description.encoder} ({entry.description.what})"
        for side, entries in stores.streams.items()
        for entry in entries
    ]
    progress.note(f"training on {stores.dataset}/{stores.split}: {', '.join(encoders)}")
    validation, holdout = choose_validation(spec.home, stores, data, options.validation, progress)
    return TrainPlan(
        table=table, options=options, stores=stores, validation=validation, holdout=holdout
    )


def resolve_joint_preset(
    preset: str,
    overrides: Sequence[str],
    *,
    objectives: Mapping[str, float] | None = None,
    home: Path | None,
) -> tuple[Table, TrainOptions]:
    """Return the preset of a joint adapter with values changed, and its `[train]` table.

    Args:
        preset: Name of the preset.
        overrides: `a.b=c` on its tables.
        objectives: Weight of each objective in the place of its own, or None for these.
        home: Home that a command in a message is of, or None for the usual one.

    Raises:
        SpecError: It is a preset of another kind, or an override or option is wrong.
        UnknownNameError: There is no such preset or objective.
    """
    table = read_preset(preset)
    if kind_of(table, where=preset) != JOINT:
        command = command_line(
            "train-adapter", "--preset", preset, home=usual_home() if home is None else home
        )
        raise SpecError(
            f"preset {preset!r} aligns two sides and reads neither beside the other: "
            f"`{command}` trains it"
        )
    table = with_objectives(table, objectives, preset=preset)
    table = apply_overrides(table, overrides)
    if kind_of(table, where=preset) != JOINT:
        raise SpecError(
            f"kind of a joint preset is {JOINT!r}, found {table['kind']!r}: leave it out"
        )
    unknown = sorted(set(table) - PRESET_KEYS)
    if unknown:
        raise SpecError(f"a preset has no {unknown[0]!r}; known: {sorted(PRESET_KEYS)}")
    for name in ("towers", "joint", "heads", "objective", *({"task", "rates"} & set(table))):
        if not isinstance(table.get(name), Mapping):
            raise SpecError(f"[{name}] must be a table, found {table.get(name)!r}")
    _check_heads(table)
    # heads that no objective reads would be trained by nothing
    heads = {name: head for name, head in table["heads"].items() if name in table["objective"]}
    train = {"captions": "each", **table.get("train", {})}
    options = build(TrainOptions, train, where="[train]")
    if options.captions != "each" or options.mixup.alpha or options.queue:
        raise SpecError(
            "[train] of a joint preset counts pairs, captions = 'each', without mixup and queue"
        )
    return {**table, "heads": heads}, options


def _check_heads(table: Table) -> None:
    """Check that objectives read all heads, and that stores are read for all objectives.

    Raises:
        SpecError: A head has the name of no objective, or an objective is one that no store is
            read for.
    """
    if unread := sorted(set(table["heads"]) - set(list_names(OBJECTIVES))):
        raise SpecError(
            f"[heads].{unread[0]} is read by no objective: leave it out, heads are called "
            f"{', '.join(list_names(OBJECTIVES))}"
        )
    if not_read := sorted(set(table["objective"]) & set(list_names(OBJECTIVES)) - set(_READ)):
        raise SpecError(
            f"[objective].{not_read[0]} has targets that no store is read for: leave it out, "
            f"{' and '.join(_READ)} can be trained"
        )


def with_objectives(table: Table, weights: Mapping[str, float] | None, *, preset: str) -> Table:
    """Return a preset with these objectives in the place of its own, whose options they keep.

    Raises:
        UnknownNameError: There is no such objective.
        SpecError: The preset has no head for one.
    """
    if weights is None:
        return table
    names = list_names(OBJECTIVES)
    own: Mapping[str, Any] = table.get("objective", {})
    for name in weights:
        if name not in names:
            raise unknown_name("objective", name, names)
        if name not in table.get("heads", {}):
            raise SpecError(
                f"preset {preset!r} has no head for {name!r}, but for "
                f"{', '.join(sorted(table.get('heads', {}))) or 'nothing'}: take another preset"
            )
    objectives = {name: {**own.get(name, {}), "weight": weight} for name, weight in weights.items()}
    return {**table, "objective": objectives}


def _task_table(spec: TrainJointSpec, table: Table) -> Table:
    """Return `[task]`: of answers where they are learnt, and with the run of wrong pairs."""
    part = "answers" if "answers" in table["objective"] else "matching"
    options = dict(table.get("task", {}))
    if options.get("part", part) != part:
        if any(override.partition("=")[0].strip() == "task.part" for override in spec.overrides):
            raise SpecError(
                f"[task] part follows from the objectives {sorted(table['objective'])} and is "
                f"{part!r}, found {options['part']!r}: leave it out, or name others by --objective"
            )
        # options of answers are none of a training that learns none
        accepted = TASKS.load(part).__init__.__kwdefaults__ or {}
        options = {name: value for name, value in options.items() if name in accepted}
    options["part"] = part
    if spec.negatives_from is not None:
        if "itm" not in table["objective"]:
            raise SpecError("--negatives-from is of the objective itm: add it, or leave this out")
        folder = run_folder.find_run(spec.home, spec.negatives_from)
        options["negatives_from"] = run_folder.named(folder, spec.home)
        options["negatives_sha256"] = atomic_files.sha256_file(folder / run_folder.WEIGHTS)
    return options


def _streams(spec: TrainJointSpec, side: str) -> list[SideQuery]:
    encoder, features = getattr(spec, f"{side}_encoder"), getattr(spec, f"{side}_features")
    return stream_queries(
        side,
        () if encoder is None else (encoder,),
        kinds=(features or "tokens",),
        layers=getattr(spec, f"{side}_layers") or (),
    )
