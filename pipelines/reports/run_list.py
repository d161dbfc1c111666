"""List of the runs below a home folder, whatever state each one is in."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...featcache import atomic_files
from ...featcache.config import Table
from ...featcache.errors import LightalignError, StoreCorruptError
from ...featcache.regular_files import is_file, is_there
from ..classification.fine_tune_numbers import HeldOutImages
from ..inputs.store_selection import each_recorded
from ..runs import index_files, run_folder
from ..runs.log_reading import require_log
from ..runs.run_folder import RunState
from ..runs.schemas import EvaluationReport, check_evaluation
from ..training.tasks import Numbers, task_of


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """One run as `runs list` shows it.

    Attributes:
        state: `finished`, `stopped`, `running`, `stopped fine-tuning`, `damaged`, or `unreadable`
            where a file or folder of it may not be read, and may be whole.
        changed: When it was finished or, until then, begun; ISO 8601, in UTC.
        preset: Preset it was trained by, or the protocol of a fine-tuning.
        data: `DATASET/SPLIT` that it was trained on.
        encoders: By side: name of the encoder, kind and layer of its features, and stored type.
        numbers: Headline numbers in percent, by name.
        bytes: Size of all its files.
        problem: Reason why it cannot be read, or nothing.
        unread: Evaluations that are passed over: why each cannot be read, and what to do.
    """

    name: str
    state: str
    changed: str
    preset: str = ""
    data: str = ""
    encoders: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    bytes: int = 0
    problem: str = ""
    unread: tuple[str, ...] = ()


def list_runs(home: Path) -> list[RunEntry]:
    """Return all runs below `home`, newest first; one that cannot be read has a `problem`."""
    return [_entry(folder) for folder in run_folder.run_folders(home)]


def describe_run(home: Path, run: str) -> dict[str, Any]:
    """Return what is known of one run: state, spec, report, evaluations, and bytes of each file.

    Raises:
        RunNotFoundError: There is no such run.
        LightalignError: A file of it is damaged.
    """
    folder = run_folder.find_folder(home, run)
    entry = _entry(folder)
    if entry.problem:
        raise StoreCorruptError(f"run {folder.name} is {entry.state}: {entry.problem}")
    evaluations, unread = read_evaluations(folder)
    indexes = atomic_files.entries(folder / run_folder.INDEXES)
    described: dict[str, Any] = {
        **vars(entry),
        "folder": str(folder),
        "evaluations": sorted(evaluations),
        "unread": unread,
        "indexes": [path.name for path in indexes if is_file(path / index_files.MANIFEST)],
        "files": {
            str(file.relative_to(folder)): file.stat().st_size
            for file in atomic_files.files_below(folder)
        },
    }
    if entry.state in {state.value for state in (RunState.FINISHED, RunState.STOPPED)}:
        run_folder.check_files(folder, content=True)
    if entry.state == RunState.STOPPED.value:
        require_log(folder, run_folder.recorded_by_state(folder).get("log"))
    if is_there(folder / run_folder.SPEC):
        described["spec"] = run_folder.read_spec(folder)
    if is_there(folder / run_folder.REPORT):
        report = run_folder.read_report(folder)
        described["report"] = {key: value for key, value in report.items() if key != "spec"}
    return described


def run_rows(entries: list[RunEntry]) -> list[dict[str, Any]]:
    """Return one row for each run, for a table."""
    return [
        {
            "run": entry.name,
            "state": entry.state,
            "preset": entry.preset,
            "MB": round(entry.bytes / 1e6, 1),
            "what": entry.problem or _what(entry),
        }
        for entry in entries
    ]


def _what(entry: RunEntry) -> str:
    """Return data, encoders and headline numbers of a run in one line that may fold."""
    encoders = " with ".join(entry.encoders.values())
    numbers = ", ".join(f"{name} {value:.1f} %" for name, value in entry.numbers.items())
    return "; ".join(filter(None, (entry.data, encoders, numbers)))


def _entry(folder: Path) -> RunEntry:
    begun = datetime.fromtimestamp(run_folder.changed(folder) / 1e9, tz=timezone.utc)
    common: dict[str, Any] = {
        "name": folder.name,
        "changed": begun.isoformat(timespec="seconds"),
    }
    try:
        common["bytes"] = sum(file.stat().st_size for file in atomic_files.files_below(folder))
        state = run_folder.state_of(folder)
        if state is RunState.NOTHING:
            return RunEntry(
                **common, state="damaged", problem=f"{folder / run_folder.SPEC} is missing"
            )
        finished = state is RunState.FINISHED
        report = run_folder.read_report(folder) if finished else {}
        spec = report["spec"] if finished else run_folder.read_spec(folder)
        # files of a running training change while they are looked at
        if state is not RunState.RUNNING:
            run_folder.check_files(folder, content=False)
        evaluations, unread = read_evaluations(folder)
        return RunEntry(
            **common,
            state=state.value,
            **_described(spec),
            numbers=_headlines(folder, evaluations, report),
            unread=tuple(unread),
        )
    except LightalignError as error:
        return RunEntry(**common, state="damaged", problem=str(error))
    except OSError as error:
        state_then = "unreadable" if isinstance(error, PermissionError) else "damaged"
        problem = f"{error.filename} cannot be read: {error.strerror}"
        return RunEntry(**common, state=state_then, problem=problem)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"its report or spec lacks what a run has: {error}"
        return RunEntry(**common, state="damaged", problem=problem)


def _described(spec: Table) -> dict[str, Any]:
    """Return preset, data and encoders of a run's spec."""
    train = spec["stores"]["train"]
    sides = {side: store for side, store in train.items() if isinstance(store, Mapping)}
    return {
        "preset": str(spec.get("preset") or f"fine-tune {spec.get('protocol', '')}".strip()),
        "data": f"{train['dataset']}/{train['split']}",
        "encoders": {
            side: " + ".join(
                f"{store['encoder']} {store['kind']}@{store['layer']} {store['dtype']}"
                for store in each_recorded(of_side)
            )
            for side, of_side in sides.items()
        },
    }


def read_evaluations(folder: Path) -> tuple[dict[str, EvaluationReport], list[str]]:
    """Return the evaluations of a run by file name, and why which others are passed over.

    They are no part of the run: it is whole without them, and each can be measured again.
    """
    evaluations: dict[str, EvaluationReport] = {}
    unread = []
    for path in atomic_files.matching(folder, "*.json"):
        if path.name == run_folder.REPORT:
            continue
        try:
            evaluations[path.name] = check_evaluation(atomic_files.read_report(path), where=path)
        except (LightalignError, OSError) as error:
            reason = error if isinstance(error, LightalignError) else error.strerror
            unread.append(f"{path.name} is passed over: {reason}{way_out(path, error)}")
    return evaluations, unread


def way_out(path: Path, error: Exception) -> str:
    """Return how to remove a file that is no evaluation; one that may not be read may be one."""
    if isinstance(error, PermissionError):
        return ""
    return f"; `{shlex.join(['rm', '-r', str(path.absolute())])}` removes it"


def _first_recall(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the R@1 of one direction, or nothing where it was not measured."""
    recall = table.get("recall")
    first = recall.get("1") if isinstance(recall, Mapping) else None
    return first if isinstance(first, Mapping) and "value" in first else {}


def _headlines(
    folder: Path, evaluations: Mapping[str, EvaluationReport], report: Mapping[str, Any]
) -> dict[str, float]:
    """Return the numbers that tell runs apart: of the last retrieval, or else of the validation."""
    retrievals = sorted(
        (name for name in evaluations if name.startswith("retrieval-")),
        key=lambda name: ((folder / name).stat().st_mtime_ns, name),
    )
    if retrievals:
        evaluation = evaluations[retrievals[-1]]
        split = evaluation["split"]
        return {
            f"{split} {direction.replace('_', ' ')} R@1": _first_recall(table)["value"]
            for direction, table in evaluation["metrics"].items()
            if isinstance(table, Mapping) and _first_recall(table)
        }
    validation = report.get("best", {}).get("validation", {})
    return validation_numbers(report["spec"]).headlines(validation) if validation else {}


def validation_numbers(spec: Mapping[str, Any]) -> Numbers:
    """Return how the validation of a run is shown, by its spec: as its task or protocol says.

    Raises:
        SpecError: Its `[task]` is not usable.
        UnknownNameError: There is no such task.
    """
    return HeldOutImages() if "protocol" in spec else task_of(spec)
