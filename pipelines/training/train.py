"""Train a light adapter on the features of two stores."""

from contextlib import nullcontext
from pathlib import Path

from ...adapters.preset import JOINT, kind_of, preset_of
from ...featcache.config import Table, build, to_table, without_none
from ...featcache.errors import SpecError
from ...featcache.known_datasets import version_of
from ..common.progress import SILENT, Progress
from ..common.torchrun import Launch
from ..common.versions import library_versions
from ..inputs.store_selection import recorded_pair
from ..inputs.unpaired_stores import recorded_unpaired
from ..runs import run_folder
from ..runs.provenance import command_of, describe_encoders, describe_pair, describe_unpaired
from .joint_plan import PRESET_KEYS as JOINT_KEYS
from .joint_plan import resolve as resolve_joint
from .joint_spec import TrainJointSpec
from .options import PRESET_KEYS, TrainOptions, TrainPlan
from .plan import HOLDOUT, resolve
from .spec import TrainReport, TrainSpec
from .tasks import PairedTask, task_of
from .unpaired_options import UNPAIRED


def run(spec: TrainSpec, progress: Progress = SILENT) -> TrainReport:
    """Train an adapter and write its run folder.

    Raises:
        LightalignError: The preset, the stores or the loss are not usable.
    """
    if Launch.of_environment().is_first:
        run_folder.check_name(spec.home, spec.name)
    plan = resolve(spec, progress)
    preset = preset_of(spec.preset, spec.fusion)
    label = spec.fusion or preset.replace("/", "-")
    resolved = _run_toml(spec, plan, preset)
    if spec.seeds is not None:
        _require_seeds_matter(plan)
    # imports torch, for seconds; a mistake is reported without it
    from .fit import fit
    from .members import fit_members

    return (fit if spec.seeds is None else fit_members)(
        spec,
        plan,
        lambda: run_folder.new_run(spec.home, spec.name, label, spec=resolved),
        resolved,
        progress,
    )


def resolved_joint(spec: TrainJointSpec) -> Table:
    """Return what `run.toml` of a joint training would hold, without training anything.

    Raises:
        LightalignError: The preset or the stores are not usable.
    """
    return _run_toml(spec, resolve_joint(spec), spec.preset)


def run_joint(spec: TrainJointSpec, progress: Progress = SILENT) -> TrainReport:
    """Train a joint adapter and write its run folder.

    Raises:
        LightalignError: The preset, the stores or the loss are not usable.
    """
    if Launch.of_environment().is_first:
        run_folder.check_name(spec.home, spec.name)
    plan = resolve_joint(spec, progress)
    resolved = _run_toml(spec, plan, spec.preset)
    label = spec.preset.replace("/", "-")
    # imports torch, for seconds; a mistake is reported without it
    from .fit import fit

    return fit(
        spec,
        plan,
        lambda: run_folder.new_run(spec.home, spec.name, label, spec=resolved),
        resolved,
        progress,
    )


def _require_seeds_matter(plan: TrainPlan) -> None:
    """Refuse several seeds of a training that has none or no pairs, or in several processes."""
    if "fit" in plan.table:
        raise SpecError(
            "--seeds is for presets that take steps, and this one is solved: leave it out"
        )
    if not isinstance(task_of(plan.table), PairedTask):
        raise SpecError("--seeds shares the stores of pairs, of which this [task] has none")
    if Launch.of_environment().count > 1:
        raise SpecError("--seeds trains in one process: run it without torchrun")


def resume(
    home: Path, run: str, *, device: str, progress: Progress = SILENT, joint: bool = False
) -> TrainReport:
    """Resume a training that was stopped, after its last whole epoch.

    On a CPU its weights end with the same bytes as if it had never been stopped.

    Args:
        home: Folder of everything lightalign keeps.
        run: Name or folder of the run.
        device: `auto`, `cpu` or `cuda`.
        progress: Receives notes and the progress.
        joint: Whether the run is of a joint adapter, or else of one that aligns two sides.

    Raises:
        RunNotFoundError: There is no such run, or it has finished.
        RunInUseError: Another process trains it.
        StoreNotFoundError: A store that it is trained on is no longer there.
        SpecError: It cannot go on, or not in this number of processes.
    """
    folder = run_folder.find_unfinished(home, run)
    launch = Launch.of_environment()
    with run_folder.owning(folder) if launch.is_first else nullcontext(folder):
        # asked again: the run may have finished before it was locked
        run_folder.find_unfinished(home, str(folder))
        table = run_folder.read_spec(folder)
        is_joint = kind_of(table, where=str(folder / run_folder.SPEC)) == JOINT
        if is_joint != joint:
            raise SpecError(
                f"{folder.name} is a run of the other kind: "
                f"`{run_folder.resumption(folder, home)}` goes on with it"
            )
        # earlier versions had one process and did not say so
        count = table.setdefault("processes", 1)
        if count != launch.count:
            raise SpecError(
                f"{folder} was begun by {count} processes, these are {launch.count}: go on with "
                f"torchrun and {count} processes, or in one process if that is 1"
            )
        spec, plan = _as_begun(table, folder, home=home, device=device, progress=progress)
        from .fit import fit
        from .members import fit_members

        if isinstance(spec, TrainJointSpec) or spec.seeds is None:
            return fit(spec, plan, lambda: nullcontext(folder), table, progress, is_begun=True)
        return fit_members(spec, plan, lambda: nullcontext(folder), table, progress, is_begun=True)


def _as_begun(
    table: Table, folder: Path, *, home: Path, device: str, progress: Progress
) -> tuple[TrainSpec | TrainJointSpec, TrainPlan]:
    """Return what a run was asked for and what that meant then, as its `run.toml` says.

    Raises:
        SpecError: The table is not that of a training.
        StoreNotFoundError: A store that it is trained on is not there.
    """
    where = str(folder / run_folder.SPEC)
    is_joint = kind_of(table, where=where) == JOINT
    modules = {"towers", "joint", "heads"} if is_joint else {"towers"}
    missing = {"command", "objective", "train", "stores", *modules} - set(table)
    if missing or "protocol" in table:
        reason = "it is a fine-tuning" if not missing else f"{where} lacks {sorted(missing)}"
        raise SpecError(
            f"run {folder.name} cannot go on, {reason}: remove it by `{run_folder.removal(folder)}`"
        )
    command = {**table["command"], "home": str(home), "device": device}
    spec_class: type[TrainSpec | TrainJointSpec] = TrainJointSpec if is_joint else TrainSpec
    spec = build(spec_class, command, where=f"{where} [command]")
    options = build(TrainOptions, table["train"], where=f"{where} [train]")
    encoders = table.get("encoders", {})
    recorded = table["stores"]
    stores = recorded_pair(home, recorded["train"], run=folder.name, encoders=encoders)
    validation, holdout = None, 0.0
    if "validation" in recorded:
        validation = recorded_pair(home, recorded["validation"], run=folder.name, encoders=encoders)
    elif options.validation != "none":
        holdout = HOLDOUT if isinstance(options.validation, str) else options.validation
    unpaired = None
    if UNPAIRED in recorded:
        unpaired = recorded_unpaired(home, recorded[UNPAIRED], run=folder.name, encoders=encoders)
    keys = JOINT_KEYS if is_joint else PRESET_KEYS
    parts = {key: value for key, value in table.items() if key in keys}
    progress.note(f"training on {stores.dataset}/{stores.split}, as it was begun")
    plan = TrainPlan(
        table=parts,
        options=options,
        stores=stores,
        validation=validation,
        holdout=holdout,
        unpaired=unpaired,
    )
    return spec, plan


def _run_toml(spec: TrainSpec | TrainJointSpec, plan: TrainPlan, preset: str) -> Table:
    """Return the content of `run.toml`, in which nothing is a default any more.

    It is as the file gives it back, so that the report of a training that was stopped is the same
    as that of one that was not.
    """
    stores = {"train": describe_pair(plan.stores)}
    if plan.validation is not None:
        stores["validation"] = describe_pair(plan.validation)
    command = command_of(spec)
    if plan.unpaired is not None:
        stores[UNPAIRED] = describe_unpaired(plan.unpaired)
        # by key, as a folder may be called from here alone and a split get newer stores
        keys = {side.value: entry.key for side, entry in plan.unpaired.entries.items()}
        command |= {f"unpaired_{side}s": key for side, key in keys.items()}
    version = version_of(spec.home, plan.stores.dataset, plan.stores.split, plan.stores.source)
    table = {
        **{key: value for key, value in plan.table.items() if key != "train"},
        "preset": preset,
        "seed": spec.seed,
        "processes": Launch.of_environment().count,
        "command": command,
        "train": to_table(plan.options),
        "stores": stores,
        # the fingerprint of every split of the data, where the home remembers them
        "splits": {} if version is None else dict(version.splits),
        "encoders": describe_encoders(plan.stores),
        "auto_layers": plan.auto_layers,
        "versions": library_versions(),
    }
    return without_none(table)
