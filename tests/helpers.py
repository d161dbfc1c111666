"""What tests of several packages share."""

import ctypes
import io
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from lightalign.cli import main
from lightalign.featcache import atomic_files
from lightalign.pipelines.runs import run_folder

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)  # that `main` takes


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder` by its path.

    But for what a home remembers of the times and places of files, which are never the same twice.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder / "verified"
    }


def slow(*cases: Any) -> list[Any]:
    """Return cases of a parametrised test that only `pytest -m slow` runs.

    Args:
        cases: Values of one argument, or tuples of those of several.
    """
    marked = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=pytest.mark.slow) for case in marked]


@contextmanager
def changed_report(run: Path) -> Iterator[dict[str, Any]]:
    """Give the report of a run to be changed, and write it again."""
    report = atomic_files.read_report(run / "report.json")
    yield report
    atomic_files.write_report(run / "report.json", report)


def write_spec(run: Path, table: Mapping[str, Any]) -> None:
    """Have a finished run be of another spec from its beginning."""
    run_folder.write_run_toml(run, dict(table))
    with changed_report(run) as report:
        del report["files"][run_folder.SPEC]


def lightalign(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has torch already; return output and exit code."""
    command = ["lightalign", *arguments]
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        patch.setenv("LIGHTALIGN_HOME", str(home))
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def temporary_of(path: Path, process: int) -> Path:
    """Return the name under which process `process` of some machine prepared `path` once."""
    return path.with_name(f".tmp-0f1e2d3c-{process}-{path.name}")


def give_up_root_rights() -> None:
    """Let this process read and write only what the modes of the files allow, also as root.

    Root keeps being the owner, so that a private folder above is no hindrance, but loses
    CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER (capabilities(7)), for good.
    """
    library = ctypes.CDLL(None, use_errno=True)
    version_3, this_process = 0x20080522, 0
    head = (ctypes.c_uint32 * 2)(version_3, this_process)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    if library.capget(head, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for index in range(3):
        sets[index] &= ~0b1110
    if library.capset(head, sets):
        raise OSError(ctypes.get_errno(), "capset")


def folder_for_everyone(prefix: str) -> Path:
    """Make a folder into which every user may look; pytest's own are private."""
    for place in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if all(path.stat().st_mode & 0o001 for path in (place, *place.parents)):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            folder.chmod(0o755)
            return folder
    pytest.skip("no folder for temporary files is open to every user")
