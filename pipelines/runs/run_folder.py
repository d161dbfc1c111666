"""Run folders: one a training, with everything that rebuilds and explains it.

<home>/runs/<name>/
    run.toml                resolved spec: towers, objective, training, stores, versions; written
                            once, with the folder itself
    adapter.toml            towers, objective and widths: what rebuilds the adapter
    adapter.safetensors     the best weights so far
    head.safetensors        of a fine-tuned run: what turns embeddings into scores of classes
    state.safetensors       all that going on needs, after the last epoch, until the run is finished
    log.jsonl               one line an epoch
    tensorboard/            the same numbers, if asked
    report.json             written last; a run without it has not finished
    index/                  saved indexes
    members/seed-N/         of a run of several seeds: a run folder a seed, without a lock
    run.lock                held by the process that writes into the folder
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from ...adapters.preset import DUAL, JOINT, kind_of
from ...featcache import atomic_files
from ...featcache.config import Table, fingerprint, to_toml
from ...featcache.documents import check, parse_toml, read_toml
from ...featcache.errors import (
    LightalignError,
    RunInUseError,
    RunNotFoundError,
    SpecError,
    StoreCorruptError,
)
from ...featcache.file_locks import FileLock, holder
from ...featcache.home import command_line, expanded, is_in_home, require_utf8
from ...featcache.regular_files import is_there, size_of
from ...featcache.store.remedies import removal_of_run
from ...featcache.store.verified_files import promise_of, require
from .schemas import RunReport, RunSpec
from .state_record import OtherFiles, other_files

REPORT = "report.json"
SPEC = "run.toml"
LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
WEIGHTS = "adapter.safetensors"
TABLE = "adapter.toml"
HEAD = "head.safetensors"
STATE = "state.safetensors"
_RESULT = (SPEC, TABLE, WEIGHTS, HEAD)  # what evaluations read beside the report
LOCK = "run.lock"
_RUNS = "runs"  # folder of all runs of a home
INDEXES = "index"  # folder of saved indexes
MEMBERS = "members"  # folder of the runs of each seed
JOINT_KIND = "train-joint"  # in the report of a run whose adapter reads two sides together


def runs_folder(home: Path) -> Path:
    """Return where runs lie below `home`."""
    return home / _RUNS


def removal(folder: Path) -> str:
    """Return the command that removes a run, as it can be run anywhere."""
    return removal_of_run(whole_run(folder))


def whole_run(folder: Path) -> Path:
    """Return the run that a member belongs to, or the folder itself."""
    above = folder.parent.parent
    return above if folder.parent.name == MEMBERS and is_there(above / SPEC) else folder


def members_of(folder: Path) -> list[Path]:
    """Return the folders of the members of a run, of any state; nothing where it has none."""
    places = atomic_files.entries(folder / MEMBERS)
    return [place for place in places if not atomic_files.is_temporary(place)]


def member_folder(folder: Path, seed: int) -> Path:
    """Return where the member of a seed lies in its run."""
    return folder / MEMBERS / f"seed-{seed}"


@contextmanager
def new_member(folder: Path, seed: int, spec: Table) -> Iterator[Path]:
    """Make the folder of a member, with its spec, in a run that is owned; it stays."""
    place = member_folder(folder, seed)
    with atomic_files.making(place.parent), atomic_files.replacing(place) as temporary:
        temporary.mkdir()
        write_run_toml(temporary, spec)
    yield place


def resumption(folder: Path, home: Path) -> str:
    """Return the command that goes on with a stopped run, as it can be run anywhere."""
    verb = "train-joint" if _is_joint(folder) else "train-adapter"
    return command_line(verb, "--resume", named(folder, home), home=home)


def _is_joint(folder: Path) -> bool:
    """Return whether a run is of a joint adapter, as far as its spec can be read."""
    try:
        return kind_of(read_spec(folder), where=SPEC) == JOINT
    except (LightalignError, OSError):
        return False


def kept_of(folder: Path, home: Path) -> str:
    """Return what is kept of a training that is stopped now, and the command that goes on."""
    folder = whole_run(folder)
    again = resumption(folder, home)
    if is_there(folder / STATE) or _has_members(folder):
        return f"finished epochs are kept: `{again}` goes on"
    return f"no epoch has finished: `{again}` begins it again"


def _has_members(folder: Path) -> bool:
    """Return whether a member has an epoch to go on from, or is finished."""
    return any(is_there(member / name) for member in members_of(folder) for name in (STATE, REPORT))


def named(folder: Path, home: Path) -> str:
    """Return what a command has to call a run: its name, or the folder of one that is elsewhere."""
    inside = os.path.realpath(folder.parent) == os.path.realpath(runs_folder(home))
    return folder.name if inside else str(folder.absolute())


@contextmanager
def owning(
    folder: Path, *, wait: bool = False, tell: Callable[[str], None] | None = None
) -> Iterator[Path]:
    """Lock the folder of a run; whatever writes into it does so within this block.

    With `wait`, for what is written in a moment, another holder is waited for; after some seconds
    `tell` receives, once, who it is.

    Raises:
        RunInUseError: Another process holds it.
        RunNotFoundError: The run is no longer there.
    """
    if wait and _is_ours(folder):
        # this process holds the lock: to wait for itself would never end
        yield folder
        return
    lock = FileLock(folder / LOCK)
    try:
        if wait:
            lock.wait(tell)
        else:
            _claim(lock, folder)
    except FileNotFoundError as error:
        raise RunNotFoundError(f"run {folder.name} is no longer in {folder.parent}") from error
    with _held(lock):
        members = folder / MEMBERS
        for place in (folder, folder / INDEXES, members, *members_of(folder)):
            atomic_files.clear_abandoned(place)
        yield folder


_HELD: dict[Path, FileLock] = {}  # locks of runs that this process holds, by the run's folder


def _is_ours(folder: Path) -> bool:
    lock = _HELD.get(folder.resolve())
    # a forked child inherits the table, and not the lock
    return lock is not None and lock.held


@contextmanager
def _held(lock: FileLock) -> Iterator[None]:
    """Release the lock of a run in the end, and know until then that it is ours."""
    folder = lock.path.parent.resolve()
    _HELD[folder] = lock
    try:
        with lock:
            yield
    finally:
        _HELD.pop(folder)


def _claim(lock: FileLock, folder: Path) -> None:
    """Take the lock of a run unless a living process has it."""
    while not lock.claim():
        who = holder(lock.path)
        # without a living holder the next claim succeeds: it has ended, or somebody only looked
        if who is not None:
            raise RunInUseError(f"run {folder.name} is in use by {who}")


def owning_place(path: Path) -> AbstractContextManager[Any]:
    """Return a block within which `path` may be written: anywhere in a run, under its lock."""
    for folder in path.resolve().parents:
        # another program may have a file of that name higher up
        if folder.parent.name == _RUNS and (folder / SPEC).is_file():
            return owning(folder, wait=True)
    return nullcontext()


@contextmanager
def new_run(
    home: Path, name: str | None, label: str, *, spec: Table, can_go_on: bool = True
) -> Iterator[Path]:
    """Make a run folder that holds its spec and is locked from its first moment on.

    A failure removes it again if nothing is in it that a later call could go on from.
    `name` is None for the time and `label`; `can_go_on` says whether a training that people stop
    can go on later.

    Raises:
        SpecError: The name is not a plain folder name, or is that of a finished run.
        RunInUseError: A run of that name is being trained, or was stopped.
    """
    check_name(home, name)
    folder, lock = _begin(home, name, label, spec)
    with _held(lock):
        try:
            yield folder
        except BaseException as error:
            stopped = not isinstance(error, Exception)
            usable = any((folder / name).is_file() for name in (STATE, REPORT))
            usable = usable or _has_members(folder)
            if not usable and not (stopped and can_go_on):
                _discard(folder)
            raise


def _begin(home: Path, name: str | None, label: str, spec: Table) -> tuple[Path, FileLock]:
    """Make a run folder with its spec and its lock, or leave nothing."""
    place = runs_folder(home)
    stem = name or f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    with atomic_files.making(place):
        atomic_files.clear_abandoned(place)
        lock = None
        try:
            with atomic_files.workspace(place / stem) as space:
                prepared = space / stem
                prepared.mkdir()
                write_run_toml(prepared, spec)
                lock = FileLock(prepared / LOCK)
                lock.wait()
                # the folder takes its name with spec and lock in it: nobody ever sees a run without
                # them
                lock.path = _give_name(prepared, home, name) / LOCK
            atomic_files.sync(place)
        except BaseException:
            if lock is not None:
                _discard(lock.path.parent)
                lock.release()
            raise
    return lock.path.parent, lock


def _discard(folder: Path) -> None:
    """Remove a run of no use that this process has made, even where the disk is full."""
    # what goes wrong here is not raised: why the run ended is to be told
    try:
        atomic_files.remove_whole(folder)
    except OSError:
        # removing whole goes through a temporary, for which a full disk has no room
        with suppress(OSError):
            atomic_files.remove(folder)


def _give_name(prepared: Path, home: Path, name: str | None) -> Path:
    """Move a run folder to its name; where a folder of that name is, nothing is moved."""
    stem = prepared.name
    for attempt in range(1000):
        folder = runs_folder(home) / (stem if attempt == 0 else f"{stem}-{attempt + 1}")
        try:
            prepared.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
            # asked again: another process may have made it meanwhile
            check_name(home, name)
            if name is None:
                continue
            raise SpecError(f"{folder} is there and holds no run: take another name") from error
        return folder
    raise SpecError(f"{runs_folder(home)} holds a thousand runs named {stem!r}")


def check_name(home: Path, name: str | None) -> None:
    """Refuse the name of a new run that cannot be given.

    Raises:
        SpecError: The name is not a plain folder name, or is that of a finished run.
        RunInUseError: A run of that name is being trained, or was stopped.
    """
    if name is None:
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise SpecError(
            f"{name!r:.300} cannot name a run: it may hold the letters A to Z and a to z, digits, "
            "'.', '_' and '-', and begins with a letter or digit; at most 201 of them"
        )
    folder = runs_folder(home) / name
    state = state_of(folder)
    if state is RunState.FINISHED:
        raise SpecError(
            f"a run named {name!r} exists in {runs_folder(home)}: take another name, or remove it "
            f"by `{removal(folder)}`"
        )
    if state is RunState.RUNNING:
        who = holder(folder / LOCK)
        if who is not None:
            raise RunInUseError(f"run {name!r} is in use by {who}: take another name")
        # its process has ended between both looks: what it left decides now
        check_name(home, name)
        return
    if state is RunState.STOPPED:
        raise RunInUseError(
            f"run {name!r} was stopped and is not finished: go on with it by "
            f"`{resumption(folder, home)}`, or remove it by `{removal(folder)}`"
        )
    if state is RunState.FINE_TUNE_STOPPED:
        raise RunInUseError(
            f"run {name!r} is a fine-tuning that was stopped, which cannot go on: remove it by "
            f"`{removal(folder)}`"
        )


class RunState(Enum):
    """State of what lies in a run folder."""

    NOTHING = "nothing"
    RUNNING = "running"
    STOPPED = "stopped"
    FINE_TUNE_STOPPED = "stopped fine-tuning"
    FINISHED = "finished"


def state_of(folder: Path) -> RunState:
    """Return the state of a run; `NOTHING` where there is none, or no run.

    Raises:
        SpecError: It was stopped, and its spec is damaged.
    """
    if is_there(folder / REPORT):
        return RunState.FINISHED
    if not is_there(folder / SPEC):
        return RunState.NOTHING
    if holder(folder / LOCK) is not None:
        return RunState.RUNNING
    # it may have finished between the first look and that at the lock
    if is_there(folder / REPORT):
        return RunState.FINISHED
    stopped = read_spec(folder)
    return RunState.FINE_TUNE_STOPPED if "protocol" in stopped else RunState.STOPPED


def remove_run(home: Path, run: str) -> Path:
    """Remove a run with its indexes and evaluations, and return its folder.

    Raises:
        RunNotFoundError: There is no such folder among the runs.
        RunInUseError: A living process writes it.
    """
    if is_in_home(runs_folder(home), home):
        # an earlier removal may have been killed half way
        atomic_files.clear_abandoned(runs_folder(home))
    folder = find_folder(home, run)
    if not is_in_home(folder.parent, home) and folder.parent == runs_folder(home).resolve():
        raise RunNotFoundError(
            f"{folder} lies elsewhere, where a link of {home} leads: remove it by "
            f"`{removal(folder)}`"
        )
    if folder.parent != runs_folder(home).resolve():
        raise RunNotFoundError(f"{folder} is not in {runs_folder(home)}: name its home with --home")
    # only the link goes; the run that it leads to stays, but must not be in use
    if folder.is_symlink():
        with owning(folder.resolve()):
            folder.unlink()
        return folder
    with owning(folder):
        atomic_files.remove_whole(folder)
    return folder


def find_folder(home: Path, run: str) -> Path:
    """Return the folder of a run in whatever state: by name or by path.

    Raises:
        RunNotFoundError: There is no such folder.
    """
    place = runs_folder(home).resolve()
    below = [place / run] if run not in {"", ".", ".."} and "/" not in run else []
    for folder in (*below, _resolved(run)):
        inside = folder.parent == place and not atomic_files.is_temporary(folder)
        if folder.is_dir() and (inside or is_there(folder / SPEC)):
            return folder
    names = sorted(path.name for path in run_folders(home))
    raise RunNotFoundError(f"no run {run!r} in {place}; there are: {names or 'none'}")


def run_folders(home: Path) -> list[Path]:
    """Return all folders of runs, finished or not, whatever is in them, newest first."""
    place = runs_folder(home)
    if is_there(place) and not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    folders = [
        path
        for path in atomic_files.entries(place)
        if _is_folder(path) and not atomic_files.is_temporary(path)
    ]
    return sorted(folders, key=lambda path: (-changed(path), path.name))


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder; a link to where nobody may look may be to one."""
    try:
        return path.is_dir()
    except PermissionError:
        return True


def changed(folder: Path) -> int:
    """Return when a run was finished or, until then, begun, in nanoseconds since the epoch.

    One that may not be looked into is taken to be as young as its folder: it is not older.
    """
    try:
        for name in (REPORT, SPEC):
            if is_there(folder / name):
                return (folder / name).lstat().st_mtime_ns
    except PermissionError:
        return folder.lstat().st_mtime_ns
    return 0


def is_finished(folder: Path) -> bool:
    """Return whether a run has finished; one that may not be looked into may have.

    The same is to be said of each where many are looked through: what was asked for is refused.
    """
    try:
        return is_there(folder / REPORT)
    except PermissionError:
        return True


def find_run(home: Path, run: str | None, *, kind: str | None = DUAL) -> Path:
    """Return the folder of a finished run: by path, by name, or the newest.

    The newest is that of a training: one that was fine-tuned on classes has to be named.

    Args:
        home: Folder of everything lightalign keeps.
        run: Name or folder of the run, or None for the newest.
        kind: `dual` for one whose adapter embeds each side alone, `joint` for one whose adapter
            reads both together, or None for either.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It is of the other kind.
        RunInUseError: It is still being trained.
        StoreCorruptError: A file of it is another now than when the run finished.
    """
    finished = sorted(
        (folder for folder in run_folders(home) if is_finished(folder)),
        key=lambda folder: (changed(folder), folder.name),
    )
    if run is None:
        of_kind = [folder for folder in finished if kind in (None, _kind_of(folder))]
        if not of_kind:
            verb, what = ("train-joint", "joint run") if kind == JOINT else ("train-adapter", "run")
            raise RunNotFoundError(
                f"no finished {what} in {runs_folder(home)}: run "
                f"`{command_line(verb, home=home)}` first"
            )
        return check_result(_newest(of_kind))
    for folder in _places(home, run):
        if is_there(folder / REPORT):
            require_utf8(folder, what="run")
            return _of_kind(check_result(folder), kind, home)
        if is_there(folder / SPEC):
            _refuse_unfinished(folder, home)
            # it has finished since the look at its report
            return _of_kind(check_result(folder), kind, home)
    names = [folder.name for folder in finished]
    raise RunNotFoundError(f"no run {run!r} in {runs_folder(home)}; finished: {names or 'none'}")


def _kind_of(folder: Path) -> str:
    """Return the kind of a run; what cannot be read is taken for a dual one, and refused later."""
    return JOINT if _is_joint(folder) else DUAL


def _of_kind(folder: Path, kind: str | None, home: Path) -> Path:
    """Return a run that is of a kind.

    Raises:
        SpecError: It is of the other.
    """
    if kind in (None, _kind_of(folder)):
        return folder
    if kind == JOINT:
        raise SpecError(
            f"run {folder.name} embeds each side alone and reads no pair together: name a run of "
            f"`{command_line('train-joint', home=home)}`"
        )
    raise SpecError(
        f"run {folder.name} reads an image and a text together and embeds neither alone: name a "
        f"run of `{command_line('train-adapter', home=home)}`, or see "
        f"`{command_line('runs', 'show', named(folder, home), home=home)}`"
    )


def _places(home: Path, run: str) -> tuple[Path, Path]:
    """Return where a run may lie that is called so: below the home, or at that path."""
    return runs_folder(home) / run, _resolved(run)


def _resolved(run: str) -> Path:
    """Return the path that a run may be called by; of a loop of links, the loop."""
    place = expanded(Path(run))
    return place if "\0" in run else Path(os.path.realpath(place))


def _refuse_unfinished(folder: Path, home: Path) -> None:
    """Refuse a run that has not finished, and say what can be done about it; pass if it has now."""
    who = holder(folder / LOCK)
    if who is not None:
        raise RunInUseError(f"run {folder.name} is being trained by {who}: wait until it is done")
    state = state_of(folder)
    if state is RunState.FINISHED:
        return
    way = f"remove it by `{removal(folder)}`"
    if state is RunState.STOPPED:
        way = f"go on with it by `{resumption(folder, home)}`, or {way}"
    raise RunNotFoundError(f"the run in {folder} has not finished: it has no {REPORT}; {way}")


def _newest(finished: list[Path]) -> Path:
    """Return the last of some finished runs that is of a training, or else the last."""
    for folder in reversed(finished):
        try:
            report = read_report(folder)
        except StoreCorruptError as error:
            raise StoreCorruptError(
                f"the newest run cannot be told, name a run: {error}"
            ) from error
        except PermissionError as error:
            raise StoreCorruptError(
                f"the newest run cannot be told, name a run: {error.filename} cannot be read: "
                f"{error.strerror}"
            ) from error
        if report.get("kind") != "fine-tune":
            return folder
    return finished[-1]


def find_unfinished(home: Path, run: str) -> Path:
    """Return the folder of a run that was stopped: by name or by path.

    Raises:
        RunNotFoundError: There is no such run, or it has finished.
    """
    for folder in map(whole_run, _places(home, run)):
        if is_there(folder / REPORT):
            # a run may be another user's, and only be read
            with suppress(OSError):
                tidy(folder)
            raise RunNotFoundError(f"the run in {folder} has finished: there is nothing to go on")
        if is_there(folder / SPEC):
            require_utf8(folder, what="run")
            return folder
    stopped = sorted(
        folder.name
        for folder in run_folders(home)
        if not is_finished(folder) and is_there(folder / SPEC)
    )
    raise RunNotFoundError(f"no run {run!r} in {runs_folder(home)}; stopped: {stopped or 'none'}")


def tidy(folder: Path) -> None:
    """Remove files that a finished run no longer needs, and the leftovers of killed processes.

    Raises:
        LockError: The file system has no locks.
        RunNotFoundError: The run was removed meanwhile.
    """
    if not any((folder / name).exists() for name in (LOCK, STATE)):
        return
    # whoever holds the run tidies it in the end
    with suppress(RunInUseError), owning(folder):
        if (folder / REPORT).is_file():
            (folder / STATE).unlink(missing_ok=True)


def write_run_toml(folder: Path, spec: Table) -> None:
    """Write `run.toml`, the spec of a run, with a checksum of itself; nothing else writes it."""
    # the checksum is of what a reader will see: TOML turns tuples into lists
    table = parse_toml(to_toml(spec))
    content = to_toml({**table, "checksum": fingerprint(table)})
    atomic_files.write_bytes(folder / SPEC, content.encode())


def read_spec(folder: Path) -> Table:
    """Return the spec of a run, finished or not.

    Raises:
        SpecError: It is not there, or is no TOML.
        StoreCorruptError: It is no spec of a run, or another now than when the run began.
    """
    try:
        table = read_table(folder)
        check(table, RunSpec, where=folder / SPEC)
    except (SpecError, StoreCorruptError) as error:
        raise type(error)(f"{error}: {ways_out(folder)}") from error
    return table


def read_table(folder: Path) -> Table:
    """Return what stands in the spec of a run, without its checksum; earlier versions wrote none.

    Raises:
        SpecError: It is not there, or is no TOML.
        StoreCorruptError: It is another now than when the run began.
    """
    table = read_toml(folder / SPEC)
    checksum = table.pop("checksum", None)
    if checksum is not None and checksum != fingerprint(table):
        raise StoreCorruptError(
            f"{folder / SPEC}: checksum differs: it is not as it was when the run began"
        )
    return table


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the report of a run with the checksums of its files: with it the run is finished."""
    names = (*_RESULT, LOG)
    there = [name for name in names if (folder / name).is_file()]
    there += [
        str((member / name).relative_to(folder))
        for member in members_of(folder)
        for name in (*names, REPORT)
        if (member / name).is_file()
    ]
    promises = {name: promise_of(folder / name) for name in there}
    atomic_files.write_report(folder / REPORT, {**report, "files": promises})


def check_result(folder: Path) -> Path:
    """Return the folder of a finished run whose files are those that its training has written.

    Reports of earlier versions hold no checksums.

    Raises:
        StoreCorruptError: One is missing or is another now.
    """
    promises = read_report(folder).get("files", {})
    require_files(
        folder,
        {name: promises[name] for name in _RESULT if name in promises},
        ways_out(folder),
    )
    return folder


def ways_out(folder: Path) -> str:
    """Return what to do where a file of a finished run is damaged."""
    return f"restore it, or remove the run by `{removal(folder)}` and train again"


def check_files(folder: Path, *, content: bool) -> None:
    """Pass if all files of a run are what they were when they were written, as far as is recorded.

    With `content` the checksums of all are compared; otherwise that of the spec, and sizes.

    Raises:
        StoreCorruptError: One is missing or is another now.
    """
    if is_there(folder / REPORT):
        promises = read_report(folder).get("files", {})
    else:
        # of the spec alone: a stop may have come after better weights and before the state
        best_files = recorded_by_state(folder).get("best_files", {})
        promises = {SPEC: best_files[SPEC]} if SPEC in best_files else {}
    # checksums of weights take seconds a run; of the spec, which decides everything, it is always
    # compared
    compared = set(promises) if content else {SPEC} & set(promises)
    for name in sorted(set(promises) - compared):
        size = size_of(folder / name)
        if size != promises[name]["bytes"]:
            problem = "is not there" if size < 0 else f"has {size} bytes"
            raise StoreCorruptError(f"{folder / name} {problem}: {ways_out(folder)}")
    require_files(folder, {name: promises[name] for name in compared}, ways_out(folder))


def require_files(folder: Path, promises: Mapping[str, Any], advice: str) -> None:
    """Pass if files of a run are what they were promised to be.

    `promises` holds `promise_of` each file; `advice` is what to do where one is not.

    Raises:
        StoreCorruptError: One is missing or is another now.
    """
    try:
        require(folder, promises)
    except StoreCorruptError as error:
        raise StoreCorruptError(f"{error}: {advice}") from error


def recorded_by_state(folder: Path) -> OtherFiles:
    """Return what the state of a stopped run records of the other files; nothing without one.

    Raises:
        StoreCorruptError: It is no state.
    """
    if not is_there(folder / STATE):
        return OtherFiles()
    return other_files(folder / STATE, advice=ways_out(folder))


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report of a finished run.

    Raises:
        StoreCorruptError: It is no report.
    """
    try:
        report: dict[str, Any] = atomic_files.read_report(folder / REPORT)
        check(report, RunReport, where=folder / REPORT)
    except FileNotFoundError as error:
        raise StoreCorruptError(f"{folder / REPORT} is missing: {ways_out(folder)}") from error
    except StoreCorruptError as error:
        raise StoreCorruptError(f"{error}: {ways_out(folder)}") from error
    return report
