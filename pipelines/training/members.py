"""Train one plan with several seeds, and make the adapter of the run of what comes out."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...adapters.adapter import Adapter, count_parameters
from ...adapters.checkpoint import MEMBERS, load_adapter, save_adapter
from ...adapters.ensemble import ensemble_of
from ...adapters.without_bank import without_bank
from ...featcache import atomic_files
from ...featcache.config import Table
from ...featcache.hardware import resolve_device
from ...featcache.regular_files import is_there
from ...featcache.store import trust
from ..common import stopping
from ..common.progress import Progress
from ..common.versions import library_versions
from ..runs import run_folder
from .distil_options import DISTIL
from .fit import fit
from .log import RunLog
from .options import TrainPlan
from .spec import TrainReport, TrainSpec
from .tasks import Best, PairedTask, task_of
from .training_inputs import TrainingInputs
from .validation import Validation

# of reports: what is summed over all that were trained, and what members have in common
_SUMMED = ("seconds", "seconds_waiting")
_SHARED = (
    "num_images",
    "num_links_lost",
    "precision",
    "device",
    "processes",
    "residency",
    "num_unpaired",
)


class MemberProgress(Progress):
    """Progress of one member, whose lines and bars begin with its label, such as `2 of 5`."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        self.shows_downloads = progress.shows_downloads

    def note(self, message: str) -> None:
        """Receive one line that a user should see."""
        self._progress.note(f"{self._label}: {message}")

    def start(self, label: str, total: int, *, unit: str, done: int = 0) -> None:
        """Receive the beginning of a counted piece of work."""
        self._progress.start(f"{self._label}: {label}", total, unit=unit, done=done)

    def advance(self, count: int) -> None:
        """Receive that `count` more units are finished."""
        self._progress.advance(count)

    def detail(self, message: str) -> None:
        """Receive what the work is spending its time on at the moment."""
        self._progress.detail(message)

    def finish(self) -> None:
        """Receive that the piece of work is over."""
        self._progress.finish()


def fit_members(
    spec: TrainSpec,
    plan: TrainPlan,
    open_folder: Callable[[], AbstractContextManager[Path]],
    resolved: Table,
    progress: Progress,
    *,
    is_begun: bool = False,
) -> TrainReport:
    """Train `plan` with each seed, one after the other, and write the run; see `fit`.

    Members that have finished before a stop are left as they are, and the one that was being
    trained goes on after its last whole epoch. The stores are opened once, and held-out images are
    those of the first seed, so that no member validates on what another was trained on.

    Raises:
        LightalignError: See `fit`; or a file of a finished member is damaged or missing.
    """
    assert spec.seeds is not None, "others have no members"
    task = task_of(plan.table)
    assert isinstance(task, PairedTask), "others were refused"
    device = resolve_device(spec.device)
    shared_plan = replace(plan, holdout_seed=spec.seed)
    seeds = range(spec.seed, spec.seed + spec.seeds)
    with ExitStack() as held:
        inputs = TrainingInputs.open(plan, home=spec.home, device=device)
        folder = held.enter_context(open_folder())
        progress.note(f"run {folder.name}")
        held.enter_context(stopping.keeping(run_folder.kept_of(folder, spec.home)))
        reports = []
        for number, seed in enumerate(seeds, start=1):
            label = MemberProgress(progress, f"{number} of {spec.seeds}")
            label.note(f"seed {seed}")
            reports.append(
                _fit_member(spec, shared_plan, folder, resolved, label, seed=seed, inputs=inputs)
            )
            stopping.keep(run_folder.kept_of(folder, spec.home))
        chosen_by = task.best_by(plan.options.select_by)
        best = max(range(len(reports)), key=lambda place: _score(chosen_by, reports[place]))
        members = [run_folder.member_folder(folder, seed) for seed in seeds]
        _, held_out = inputs.rows(shared_plan, spec.seed)
        validation = Validation.choose(inputs.split, inputs.stores, held_out)
        trained = list(reports)
        if spec.ensemble is None:
            results = _keep_best(folder, members[best], reports[best])
        elif spec.ensemble == DISTIL:
            ensemble = _ensemble(members).to(device).requires_grad_(False)
            # a step of [finish] is put behind the student, too, and cosines are taught without it
            teacher = without_bank(ensemble)
            label = MemberProgress(progress, "student")
            label.note(f"learning from {spec.seeds} seeds, with seed {seeds.stop}")
            taught = replace(inputs, ensemble=teacher)
            trained.append(
                _fit_member(
                    spec, shared_plan, folder, resolved, label, seed=seeds.stop, inputs=taught
                )
            )
            results = {
                **_keep_best(folder, run_folder.member_folder(folder, seeds.stop), trained[-1]),
                "student": {
                    "seed": seeds.stop,
                    "taught_by": _measured(teacher, validation, task, device),
                },
            }
        else:
            results = _average(folder, members, validation, task=task, best=best, device=device)
        report = {
            "kind": "train",
            **results,
            **{key: reports[best][key] for key in _SHARED if key in reports[best]},
            "selected_by": reports[best]["selected_by"],
            "members": [
                {"seed": seed, "epochs": report["epochs"], "best": report["best"]}
                for seed, report in zip(seeds, reports, strict=True)
            ],
            "spread": spread([report["best"].get("validation", {}) for report in reports]),
            **{name: sum(each[name] for each in trained) for name in _SUMMED},
            "spec": resolved,
            "warnings": list(
                dict.fromkeys(
                    [
                        *(warning for report in trained for warning in report["warnings"]),
                        *trust.warnings(),
                    ]
                )
            ),
            "versions": library_versions(),
        }
        run_folder.write_report(folder, report)
        return TrainReport(folder=folder, report=report)


def _fit_member(
    spec: TrainSpec,
    plan: TrainPlan,
    folder: Path,
    resolved: Table,
    progress: Progress,
    *,
    seed: int,
    inputs: TrainingInputs,
) -> Mapping[str, Any]:
    """Return the report of a member that is trained, gone on with, or finished already."""
    place = run_folder.member_folder(folder, seed)
    if is_there(place / run_folder.REPORT):
        # all of it, as the run is made of it: a stop may have been long ago
        run_folder.check_files(place, content=True)
        (place / run_folder.STATE).unlink(missing_ok=True)
        progress.note("finished before")
        return run_folder.read_report(place)
    of_run = {"seeds", "ensemble"}
    command = {key: value for key, value in resolved["command"].items() if key not in of_run}
    member = {**resolved, "seed": seed, "command": {**command, "seed": seed}}
    if inputs.ensemble is None:
        member.pop(DISTIL, None)  # of the student alone
    is_begun = is_there(place / run_folder.SPEC)
    return fit(
        replace(spec, seed=seed, seeds=None, ensemble=None),
        plan,
        lambda: nullcontext(place) if is_begun else run_folder.new_member(folder, seed, member),
        member,
        progress,
        is_begun=is_begun,
        inputs=inputs,
    ).report


def _score(chosen_by: Best, report: Mapping[str, Any]) -> float:
    """Return what the best member has most of; without a validation all are equal."""
    validation = report["best"].get("validation")
    return 0.0 if validation is None else chosen_by.score(validation)


def _keep_best(folder: Path, member: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Make the adapter of a member, with its log, that of the run; return what is reported."""
    # the weights last: their metadata says which table they belong to
    for name in (run_folder.LOG, run_folder.TABLE, run_folder.WEIGHTS):
        atomic_files.write_bytes(folder / name, (member / name).read_bytes())
    names = ("best", "finish", "epochs", "steps", "num_parameters")
    return {name: report[name] for name in names if name in report}


def _average(
    folder: Path,
    members: Sequence[Path],
    validation: Validation | None,
    *,
    task: PairedTask,
    best: int,
    device: torch.device,
) -> dict[str, Any]:
    """Make all members one adapter, which is that of the run; return what is reported.

    The objective that is saved with it is that of the member `best`.
    """
    adapter = _ensemble(members)
    _, objective, table = load_adapter(members[best])
    save_adapter(folder, adapter, objective, table={**table, MEMBERS: len(members)})
    # as of each member: `best` is without a step of [finish], whose validation is beside it
    plain = without_bank(adapter.to(device))
    record = {"epoch": 0, "members": len(members), **_measured(plain, validation, task, device)}
    finished: dict[str, Any] = {}
    if plain is not adapter and validation is not None:
        finished["finish"] = _measured(adapter, validation, task, device)
    with RunLog(folder, tensorboard=False) as log:
        log.go_on(epochs=0, next_step=0)
        log.append(record)
    return {
        "best": record,
        **finished,
        "ensemble": "average",
        "num_parameters": count_parameters(adapter),
    }


def _ensemble(members: Sequence[Path]) -> Adapter:
    """Return the adapters of finished members as one, at rest."""
    return ensemble_of([load_adapter(member)[0] for member in members]).eval()


def _measured(
    adapter: Adapter, validation: Validation | None, task: PairedTask, device: torch.device
) -> dict[str, Any]:
    """Return the `validation` of an ensemble; nothing where no pairs validate."""
    if validation is None:
        return {}
    return {"validation": task.measure(validation.embed(adapter, device))}


def spread(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of each number over several records of one form.

    The deviation is that of a sample, divided by n - 1: of 1, 2 and 3 it is 1.
    """
    if not all(records):
        return {}
    numbers: dict[str, Any] = {}
    for name, value in records[0].items():
        values = [record[name] for record in records]
        if isinstance(value, Mapping):
            numbers[name] = spread(values)
        else:
            numbers[name] = {
                "mean": statistics.fmean(values),
                "deviation": statistics.stdev(values),
            }
    return numbers
