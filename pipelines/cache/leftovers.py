"""Leftovers in a home folder: remains of killed processes, and files that no command has written.

Remains within a store or run go when it is written or removed again. All others are found and
cleared here, without disturbing a living process.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...featcache import atomic_files, known_datasets
from ...featcache.errors import RunInUseError, RunNotFoundError
from ...featcache.file_locks import holder
from ...featcache.home import is_in_home
from ...featcache.store import verified_files
from ...featcache.store.locks import SPLIT_LOCK, lock_files, owning_split
from ...featcache.store.manifest import has_manifest
from ..runs import index_files, run_folder
from .remove import needs_pairs

_DEPTH = 4  # of a store: features, dataset, split, store
_OF_RUNS = {
    *(run_folder.SPEC, run_folder.TABLE, run_folder.WEIGHTS, run_folder.HEAD, run_folder.STATE),
    *(run_folder.LOG, run_folder.REPORT, run_folder.TENSORBOARD, run_folder.INDEXES),
    run_folder.MEMBERS,
}
_OF_INDEXES = {index_files.MANIFEST, *index_files.CONTENT}
_REPORTS = {".json", ".svg", ".html", ".png"}  # evaluations, plots and pages of any name


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """File or folder that belongs to no store, no run and no evaluation.

    Attributes:
        path: Where it is.
        problem: What it is.
        is_ours: Whether lightalign has written it, so that `clear_leftovers` removes it; what else
            lies there is its owner's.
        is_unread: Whether it may not be read: a folder, which may hold anything, or a file of ours.
    """

    path: Path
    problem: str
    is_ours: bool = True
    is_unread: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def find_leftovers(home: Path) -> list[Leftover]:
    """Return all files and folders of a home that belong to nothing there.

    Those that a living process is writing are not among them; those that may not be read are.

    Raises:
        LockError: The file system has no locks.
    """
    datasets = atomic_files.entries(home / known_datasets.FOLDER)
    parts = (
        _of_features(home),
        _of_runs(home),
        _each(atomic_files.entries(home / "evaluations"), _in_files),
        _each(atomic_files.entries(home / verified_files.FOLDER), _in_files),
        _each(datasets, _in_known, lock="*.lock"),
    )
    return [leftover for part in parts for leftover in _or_unread(part, home)]


def clear_leftovers(home: Path) -> list[Leftover]:
    """Remove the leftovers of lightalign itself and return them; all else stays.

    So do those of another home, to which a link leads: they are cleared from there.

    Raises:
        LockError: The file system has no locks.
    """
    ours = [
        leftover
        for leftover in find_leftovers(home)
        if leftover.is_ours and is_in_home(leftover.path.parent, home)
    ]
    for leftover in ours:
        inside = leftover.path.relative_to(home).parts
        # the folder of a dataset without splits has no lock to take: it goes if it is still empty
        if inside[0] == "features" and len(inside) == _DEPTH - 2:
            atomic_files.remove_empty(leftover.path)
        elif inside[0] == "features":
            _clear_split(home.joinpath(*inside[: _DEPTH - 1]))
        elif inside[0] == "runs":
            _clear_run(leftover.path, home)
        else:
            atomic_files.clear(leftover.path)
    return [leftover for leftover in ours if not leftover.path.exists()]


def _or_unread(leftovers: Iterable[Leftover], folder: Path) -> Iterator[Leftover]:
    """Yield the leftovers of a folder, or the folder itself where it may not be read."""
    # around the iteration: a generator opens the folder when its first value is asked for
    try:
        yield from leftovers
    except PermissionError as error:
        yield Leftover(
            path=Path(error.filename or folder),
            problem=f"cannot be read: {error.strerror}",
            is_ours=False,
            is_unread=True,
        )


def _each(
    paths: Iterable[Path],
    look: Callable[[Path], Leftover | None],
    *,
    lock: str | None = None,
    has_temporaries: bool = True,
) -> Iterator[Leftover]:
    """Yield the leftovers among some paths; a path that vanishes meanwhile is none.

    Args:
        paths: What lies in one folder.
        look: Tells what is neither a temporary nor a lock.
        lock: Pattern of the names of locks there.
        has_temporaries: Whether we write temporaries there.
    """
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            if has_temporaries and atomic_files.is_temporary(path):
                leftover = _dead(path) if atomic_files.is_abandoned(path) else None
            elif lock is not None and path.match(lock):
                leftover = _dead(path) if _is_dead_lock(path) else None
            else:
                leftover = look(path)
            if leftover is not None and os.path.lexists(path):
                yield leftover


def _is_dead_lock(path: Path) -> bool:
    """Return whether nobody holds a lock file, or will: its process locks what it has just made."""
    if holder(path) is not None:
        return False
    atomic_files.settle(path)
    return holder(path) is None


def _is_empty(folder: Path) -> bool:
    """Return whether nothing is in a folder; the process that has just made it writes next."""
    if atomic_files.entries(folder):
        return False
    atomic_files.settle(folder)
    return folder.is_dir() and not atomic_files.entries(folder)


def _of_features(home: Path) -> Iterator[Leftover]:
    for dataset in atomic_files.entries(home / "features"):
        yield from _or_unread(_of_dataset(dataset), dataset)


def _of_dataset(dataset: Path) -> Iterator[Leftover]:
    if not dataset.is_dir():
        yield from _each([dataset], _foreign, has_temporaries=False)
    elif _is_empty(dataset):
        yield Leftover(path=dataset, problem="an empty folder")
    for split in atomic_files.entries(dataset):
        if split.is_dir():
            yield from _or_unread(_of_split(split), split)
        else:
            yield from _each([split], _foreign, has_temporaries=False)


def _of_split(split: Path, *, is_owned: bool = False) -> Iterator[Leftover]:
    """Yield the leftovers of a split; while another process holds it none of ours.

    Args:
        split: Its folder.
        is_owned: Whether the caller holds its lock.
    """
    if _is_empty(split):
        yield Leftover(path=split, problem="an empty folder")
    leftovers = list(_each(atomic_files.entries(split), _in_split, lock=SPLIT_LOCK))
    # asked last: whoever holds it now may have begun what was listed
    is_held = holder(split / SPLIT_LOCK) is not None and not is_owned
    yield from (leftover for leftover in leftovers if not (leftover.is_ours and is_held))


def _in_split(path: Path) -> Leftover | None:
    if path.is_dir():
        return None if has_manifest(path) else _without_manifest(path)
    if not (path.name.startswith("pairs--") and path.suffix in {".json", ".safetensors"}):
        return _foreign(path)
    if needs_pairs(path.parent, path):
        return None
    return Leftover(path=path, problem="pairs of a dataset of which no store is left")


def _dead(path: Path) -> Leftover:
    return Leftover(path=path, problem="left by a process that is dead")


def _without_manifest(folder: Path) -> Leftover | None:
    """Return a folder of features without a manifest; None where a living process begins it."""
    # the manifest is the first file of a store, so before it there are only locks and temporaries
    locks = set(lock_files(folder))
    if any(holder(path) is not None for path in locks):
        return None
    rest = [path for path in folder.iterdir() if path not in locks]
    if all(atomic_files.is_temporary(path) for path in rest):
        return Leftover(path=folder, problem="a store that was not begun")
    return Leftover(path=folder, problem="holds no manifest", is_ours=False)


def _of_runs(home: Path) -> Iterator[Leftover]:
    for folder in atomic_files.entries(run_folder.runs_folder(home)):
        if folder.is_dir() and not atomic_files.is_temporary(folder):
            yield from _or_unread(_of_run(folder), folder)
        else:
            yield from _each([folder], _foreign)


def _of_run(folder: Path) -> Iterator[Leftover]:
    """Yield the leftovers in a run and its indexes, unless a process is writing them."""
    indexes = atomic_files.entries(folder / run_folder.INDEXES)
    leftovers = [
        *_each(atomic_files.entries(folder), _in_run, lock=run_folder.LOCK),
        *_each(indexes, _in_indexes),
    ]
    for index in indexes:
        leftovers += _each(atomic_files.entries(index), _in_index, has_temporaries=False)
    for member in atomic_files.entries(folder / run_folder.MEMBERS):
        if member.is_dir() and not atomic_files.is_temporary(member):
            leftovers += _each(atomic_files.entries(member), _in_run, lock=run_folder.LOCK)
        else:
            leftovers += _each([member], _foreign)
    # the lock is asked last: who holds it may have begun while the folder was read
    if holder(folder / run_folder.LOCK) is None:
        yield from leftovers


def _in_run(path: Path) -> Leftover | None:
    if path.name == run_folder.STATE and (path.parent / run_folder.REPORT).is_file():
        return Leftover(path=path, problem="the state of a training that is finished")
    return _closed(path) if path.name in _OF_RUNS or path.suffix in _REPORTS else _foreign(path)


def _in_indexes(path: Path) -> Leftover | None:
    return None if (path / index_files.MANIFEST).is_file() else _foreign(path)


def _in_index(path: Path) -> Leftover | None:
    if path.name in _OF_INDEXES:
        return _closed(path)
    is_index = (path.parent / index_files.MANIFEST).is_file()  # else all of it is named already
    return _foreign(path) if is_index else None


def _in_files(path: Path) -> Leftover | None:
    return _closed(path) if path.suffix in _REPORTS else _foreign(path)


def _in_known(path: Path) -> Leftover | None:
    return _closed(path) if path.suffix == ".toml" else _foreign(path)


def _closed(path: Path) -> Leftover | None:
    """Return a file of ours that may not be read; None for any other, or a folder."""
    if os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        return None
    reason = os.strerror(errno.EACCES)
    return Leftover(path=path, problem=f"cannot be read: {reason}", is_ours=False, is_unread=True)


def _foreign(path: Path) -> Leftover:
    return Leftover(path=path, problem="not written by lightalign", is_ours=False)


def _clear_split(split: Path) -> None:
    with owning_split(split):
        for leftover in list(_of_split(split, is_owned=True)):
            if leftover.path == split / SPLIT_LOCK or not leftover.is_ours:
                continue
            if atomic_files.is_temporary(leftover.path):
                atomic_files.clear(leftover.path)
            else:
                atomic_files.remove(leftover.path)


def _clear_run(path: Path, home: Path) -> None:
    """Remove a leftover of the runs; one inside a run goes when the lock of the run is taken."""
    if path.parent == run_folder.runs_folder(home):
        atomic_files.clear(path)
        return
    folder = path.parent if path.parent.name != run_folder.INDEXES else path.parent.parent
    # a living process is at it, and clears it itself
    with suppress(RunInUseError, RunNotFoundError):
        if path.name == run_folder.STATE:
            run_folder.tidy(folder)
        else:
            with run_folder.owning(folder):
                pass  # which has cleared it
