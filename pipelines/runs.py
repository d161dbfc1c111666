"""Run folders: one a training, with everything that rebuilds and explains it.

<home>/runs/<name>/
    run.toml                resolved spec: towers, objective, training, stores, versions
    adapter.toml            towers, objective and widths: what rebuilds the adapter
    adapter.safetensors     the best weights so far
    head.safetensors        of a fine-tuned run: what turns embeddings into scores of classes
    state.safetensors       all that going on needs, after the last epoch, until the run is finished
    log.jsonl               one line an epoch
    tensorboard/            the same numbers, if asked
    report.json             written last; a run without it has not finished
"""

import re
import shutil
import time
from pathlib import Path
from typing import Any

from ..featcache import files
from ..featcache.datasets import absolute_data
from ..featcache.errors import RunNotFoundError, SpecError
from ..featcache.spec import Table, to_table

REPORT = "report.json"
SPEC = "run.toml"
LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
WEIGHTS = "adapter.safetensors"
TABLE = "adapter.toml"
HEAD = "head.safetensors"
STATE = "state.safetensors"


def runs_folder(home: Path) -> Path:
    """Return where runs lie below `home`."""
    return home / "runs"


def new_run(home: Path, name: str | None, label: str) -> Path:
    """Make and return a fresh run folder.

    Args:
        home: Folder of everything lightalign keeps.
        name: Name of the run, or None for the time and `label`.
        label: What the run is, for the automatic name.

    Raises:
        SpecError: The name is not a plain folder name, or is that of a finished run.
    """
    check_name(home, name)
    stem = name or f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    for attempt in range(1000):
        folder = runs_folder(home) / (stem if attempt == 0 else f"{stem}-{attempt + 1}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if name is None:
                continue
            check_name(home, name)  # another process may have finished it meanwhile
            _clear(folder)  # of a training that was stopped, which begins anew
        return folder
    raise SpecError(f"{runs_folder(home)} holds a thousand runs named {stem!r}")


def check_name(home: Path, name: str | None) -> None:
    """Refuse the name of a new run that cannot be given.

    Raises:
        SpecError: The name is not a plain folder name, or is that of a finished run.
    """
    if name is None:
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise SpecError(f"run name {name!r} may hold letters, digits, '.', '_' and '-' only")
    if (runs_folder(home) / name / REPORT).is_file():
        raise SpecError(f"a run named {name!r} exists in {runs_folder(home)}")


def _clear(folder: Path) -> None:
    for name in (SPEC, LOG, WEIGHTS, TABLE, HEAD, STATE):
        (folder / name).unlink(missing_ok=True)
    if (folder / TENSORBOARD).is_dir():
        shutil.rmtree(folder / TENSORBOARD)


def find_run(home: Path, run: str | None) -> Path:
    """Return the folder of a finished run: by path, by name, or the newest.

    The newest is that of a training: one that was fine-tuned on classes has to be named.

    Raises:
        RunNotFoundError: There is no such finished run.
    """
    finished = sorted(
        (path.parent for path in runs_folder(home).glob(f"*/{REPORT}")),
        key=lambda folder: ((folder / REPORT).stat().st_mtime_ns, folder.name),
    )
    if run is None:
        if not finished:
            raise RunNotFoundError(
                f"no finished run in {runs_folder(home)}: run `lightalign train-adapter` first"
            )
        trained = (one for one in reversed(finished) if read_report(one).get("kind") != "fine-tune")
        return next(trained, finished[-1])
    for folder in (runs_folder(home) / run, Path(run).expanduser().resolve()):
        if (folder / REPORT).is_file():
            return folder
        if (folder / SPEC).is_file():
            raise RunNotFoundError(f"the run in {folder} has not finished: it has no {REPORT}")
    names = [folder.name for folder in finished]
    raise RunNotFoundError(f"no run {run!r} in {runs_folder(home)}; finished: {names or 'none'}")


def find_unfinished(home: Path, run: str) -> Path:
    """Return the folder of a run that was stopped: by name or by path.

    Raises:
        RunNotFoundError: There is no such run, or it has finished.
    """
    for folder in (runs_folder(home) / run, Path(run).expanduser().resolve()):
        if (folder / REPORT).is_file():
            raise RunNotFoundError(f"the run in {folder} has finished: there is nothing to go on")
        if (folder / SPEC).is_file():
            return folder
    stopped = sorted(
        path.parent.name
        for path in runs_folder(home).glob(f"*/{SPEC}")
        if not (path.parent / REPORT).is_file()
    )
    raise RunNotFoundError(f"no run {run!r} in {runs_folder(home)}; stopped: {stopped or 'none'}")


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report of a finished run."""
    report: dict[str, Any] = files.read_json(folder / REPORT)
    return report


def command_of(spec: Any) -> Table:
    """Return what a training was asked for, so that it can be asked for again in any folder.

    Where files lie on this machine, and what computes, is left out; but not where the dataset is.

    Args:
        spec: A dataclass with the fields `home`, `device` and `name`.
    """
    left_out = {"home", "device", "name"}
    command = {key: value for key, value in to_table(spec).items() if value is not None}
    if "data" in command:
        command["data"] = absolute_data(command["data"])
    return {key: value for key, value in command.items() if key not in left_out}
