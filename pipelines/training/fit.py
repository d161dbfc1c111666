"""Carry out a training that is resolved: in one process, or in all that torchrun started."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from ...adapters.preset import JOINT, kind_of
from ...featcache.config import Table, fingerprint
from ...featcache.errors import SpecError
from ...featcache.regular_files import is_there
from ...featcache.store import trust
from ..common import stopping
from ..common.progress import SILENT, Progress
from ..common.versions import library_versions
from ..runs import run_folder
from .closed_form import ClosedForm
from .distributed import joined
from .joint_spec import TrainJointSpec
from .options import TrainPlan
from .spec import TrainReport, TrainSpec
from .trainer import Trainer
from .training_inputs import TrainingInputs


def fit(
    spec: TrainSpec | TrainJointSpec,
    plan: TrainPlan,
    open_folder: Callable[[], AbstractContextManager[Path]],
    resolved: Table,
    progress: Progress,
    *,
    is_begun: bool = False,
    inputs: TrainingInputs | None = None,
) -> TrainReport:
    """Train what `plan` says, and write the run folder; the first of several processes writes.

    The block of `open_folder` holds the run folder, and is entered once nothing is known to stand
    against the training; `resolved` is what `run.toml` records of it. Of one that goes on
    (`is_begun`) a warning says what would be refused of a new one. `inputs` are the stores of
    the plan, if they are open already.

    Raises:
        LightalignError: The preset, the stores, the device or the loss are not usable, or another
            process has ended.
    """
    if "fit" in plan.table and resolved["processes"] > 1:
        raise SpecError("a training-free method is solved in one process: run it without torchrun")
    with ExitStack() as held, joined(spec.device) as (processes, device):
        # machines of one training may have other versions of a library, and train the same
        alike = {key: value for key, value in resolved.items() if key != "versions"}
        processes.check_alike(fingerprint(alike))
        trainer: ClosedForm | Trainer
        if "fit" in plan.table:
            trainer = ClosedForm(plan, home=spec.home, seed=spec.seed, device=device)
        else:
            trainer = Trainer(
                plan,
                home=spec.home,
                seed=spec.seed,
                device=device,
                processes=processes,
                inputs=inputs,
            )
        notes = _feature_notes(trainer, is_begun=is_begun)
        # a process that cannot train ends all of them before anything is written
        processes.barrier()

        def begin() -> str:
            folder = held.enter_context(open_folder())
            progress.note(f"run {folder.name}")
            return str(folder)

        folder = Path(processes.broadcast_from_rank0(begin))
        shown = progress if processes.is_first else SILENT
        for note in notes:
            shown.note(note)
        stop_note = stopping.keeping(run_folder.kept_of(folder, spec.home))
        with stop_note if processes.is_first else nullcontext():
            try:
                results = trainer.fit(folder, shown, tensorboard=spec.tensorboard)
            except Exception:
                if is_there(folder / run_folder.STATE):  # the command that goes on
                    shown.note(run_folder.kept_of(folder, spec.home))
                raise

        def end() -> dict[str, Any]:
            report = {
                "kind": run_folder.JOINT_KIND
                if kind_of(plan.table, where="the plan") == JOINT
                else "train",
                **results,
                "spec": resolved,
                "warnings": [*results.get("warnings", ()), *trust.warnings()],
                "versions": library_versions(),  # when it ended; those of its start are in the spec
            }
            # in this order: a run with both was stopped between the two, and is finished
            run_folder.write_report(folder, report)
            (folder / run_folder.STATE).unlink(missing_ok=True)
            return report

        return TrainReport(folder=folder, report=processes.broadcast_from_rank0(end))


def _feature_notes(trainer: ClosedForm | Trainer, *, is_begun: bool) -> list[str]:
    """Return warnings of features; a training that is begun can be given no other steps.

    Raises:
        SpecError: A tower of a new training learns nothing from what it reads.
    """
    try:
        return trainer.check_features()
    except SpecError as error:
        if not is_begun:
            raise
        return [f"warning: it goes on as it was begun, though a new run would not: {error}"]
