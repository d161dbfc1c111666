"""Commands in forked children: what they print, how they end, and what they leave.

The parent has imported everything once and starts no thread, so that a child costs a few
milliseconds and no imports.
"""

import io
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from file_operations import FileOperations

# Fields that tell how long something took or how much memory was free: no two runs agree on them.
TIMES = frozenset({"seconds", "seconds_waiting", "images_per_second", "free_bytes"})
_PAGE_TIMES = re.compile(
    r"\d+(?:\.\d+)? ?(?:ms|s|min|h)\b|\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d)?)?"
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """End of one command.

    Attributes:
        code: Its exit code, or the negative number of the signal that killed it.
        lines: What it wrote on standard error, without notes of progress.
        operations: Names of its file operations, if it came to its end.
    """

    code: int
    lines: tuple[str, ...]
    operations: tuple[str, ...] = ()


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    watched: FileOperations | None = None,
    kill_after: float | None = None,
) -> Ended:
    """Run `lightalign` with these arguments in a child, its output in files of `folder`.

    Args:
        arguments: What follows the command's name.
        folder: Where `out` and `err` are written.
        watched: Counter to install in the child.
        kill_after: Seconds after which it is killed, wherever it is; or None.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_command(arguments, folder, watched, writing)
    os.close(writing)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)  # not yet waited for: the number is still its own
    with os.fdopen(reading) as pipe:
        names = pipe.read()
    _, status = os.waitpid(child, 0)
    err = folder / "err"
    lines = err.read_text(errors="replace").splitlines() if err.is_file() else []
    return Ended(
        code=os.waitstatus_to_exitcode(status),
        lines=tuple(lines),
        operations=tuple(names.split()),
    )


def _be_the_command(
    arguments: Sequence[str], folder: Path, watched: FileOperations | None, writing: int
) -> None:
    code = 70  # no code of ours: something broke before the command
    try:
        for number, name in ((1, "out"), (2, "err")):
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        sys.argv = ["lightalign", *arguments]
        os.chdir("/")
        from lightalign.cli import main

        if watched is not None:
            watched.install()
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
        except BaseException:
            traceback.print_exc()
            code = 1
        os.write(writing, " ".join(watched.names if watched else ()).encode())
    finally:
        os._exit(code)


def content(*folders: Path) -> dict[str, Any]:
    """Return every file and folder below `folders` by its path, without times."""
    parts: dict[str, Any] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = f"{folder.name}/{path.relative_to(folder)}"
            if name == "home/verified" or path.match("home/verified/*.json"):
                continue  # times and inodes of files; where it cannot be written, nothing is lost
            parts[name] = "folder" if path.is_dir() else _timeless(path)
    return parts


def _timeless(path: Path) -> Any:
    if path.suffix == ".json":
        return _without_times(_parse(path.read_text()))
    if path.suffix == ".jsonl":
        return [_without_times(_parse(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".html":
        return _PAGE_TIMES.sub("TIME", path.read_text())
    return path.read_bytes()


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = TIMES | ({"checksum"} if "seconds" in value else set())  # which covers the time
        if {"log.jsonl", "run.toml"} <= set(value):
            left_out |= {"log.jsonl"}  # its checksum, in a report: each line has times
        return {key: _without_times(part) for key, part in value.items() if key not in left_out}
    if isinstance(value, list):
        return [_without_times(part) for part in value]
    return value


def differences(actual: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return one line for each path that is extra, missing or other than expected."""
    lines = [f"extra {name}" for name in actual if name not in expected]
    lines += [f"missing {name}" for name in expected if name not in actual]
    both = (name for name in expected if name in actual)
    return lines + [f"differs {name}" for name in both if actual[name] != expected[name]]


def copy_of(folder: Path, place: Path) -> Path:
    """Copy a prepared folder to a place that is cleared before."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, symlinks=True)
    return place
