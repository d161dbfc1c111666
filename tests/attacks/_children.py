"""Run commands of lightalign in forked children that can crash, hang or eat memory alone."""

import gc
import importlib
import io
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

MEMORY = 4 * 2**30  # bytes of address space that a child may take beyond what it begins with
GRACE = 2.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Outcome:
    """How one command ended.

    Attributes:
        code: Exit code; minus the number of the signal that ended it.
        out: What it printed on standard output.
        err: What it printed on standard error.
        seconds: Wall-clock time.
        hung: Whether it was still running at the limit.
        deaf: Whether it went on running after SIGTERM.
    """

    code: int
    out: str
    err: str
    seconds: float
    hung: bool
    deaf: bool


# of other people, what commands import first when they need it
LIBRARIES = (
    *(
        "faiss",
        "h5py",
        "hdf5plugin",
        "pyarrow.parquet",
        "sklearn.linear_model",
        "sklearn.neighbors",
    ),
    *("torch", "torchvision.transforms.v2"),
)
SLOW_LIBRARIES = ("onnxruntime", "sentence_transformers", "timm", "transformers.models.auto")


def import_everything(*, thorough: bool) -> None:
    """Import what the commands import, so that a child that is forked afterwards begins at once.

    Args:
        thorough: Import what pretrained encoders and exports need, too, which takes longer.
    """
    import lightalign.cli
    from lightalign.pipelines.commands.application import app

    root = Path(lightalign.__file__).parent
    ours = [
        ".".join(("lightalign", *path.relative_to(root).with_suffix("").parts))
        for folder in ("featcache", "adapters", "pipelines")
        for path in sorted((root / folder).rglob("*.py"))
        if thorough or path.parent.name != "encoders" or path.stem == "toy"
    ]
    for name in (*LIBRARIES, *(SLOW_LIBRARIES if thorough else ()), *ours):
        importlib.import_module(name.removesuffix(".__init__"))
    sys.modules["torch"].set_num_threads(1)
    with redirect_stdout(io.StringIO()):  # what the parser imports when it first runs
        app(["cache", "ls", "--home", "/nowhere"], standalone_mode=False)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page it looks at


def run_command(arguments: list[str], *, scratch: Path, limit: float) -> Outcome:
    """Run `lightalign ARGUMENTS` in a child; end it at `limit` seconds."""

    def command() -> None:
        from lightalign.cli import main

        sys.argv = ["lightalign", *arguments]
        main()

    return run_child(command, scratch=scratch, limit=limit)


def run_child(work: Callable[[], None], *, scratch: Path, limit: float) -> Outcome:
    """Run `work` in a forked child of its own process group, its output in files of `scratch`."""
    out, err = scratch / "stdout", scratch / "stderr"
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_child(work, out, err)
    status, hung, deaf = _wait(child, began + limit)
    _kill(-child)  # what it has started itself
    return Outcome(
        code=os.waitstatus_to_exitcode(status),
        out=out.read_text(encoding="utf-8", errors="replace"),
        err=err.read_text(encoding="utf-8", errors="replace"),
        seconds=time.monotonic() - began,
        hung=hung,
        deaf=deaf,
    )


def _wait(child: int, deadline: float) -> tuple[int, bool, bool]:
    """Return the status of the child, whether it hung, and whether SIGTERM did not end it."""
    pause = 0.002
    hung = deaf = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status, hung, deaf
        now = time.monotonic()
        if not hung and now > deadline:
            hung = True
            os.kill(child, signal.SIGTERM)
        elif not deaf and now > deadline + GRACE:
            deaf = True
            _kill(-child)
            os.kill(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)


def _kill(target: int) -> None:
    try:
        os.kill(target, signal.SIGKILL)
    except ProcessLookupError:
        return


def _be_child(work: Callable[[], None], out: Path, err: Path) -> None:
    """Run `work` and leave the process, whatever happens, without what the parent has yet to do."""
    code = 1
    try:
        os.setpgid(0, 0)
        for path, number in ((Path(os.devnull), 0), (out, 1), (err, 2)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(path, flags, 0o600), number)
        os.fsync = lambda _descriptor: None  # nobody pulls the plug
        _limit_memory()
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        work()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for thread in threading.enumerate():  # as the interpreter waits for them at its end
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
