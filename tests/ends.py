"""Run the command in a fork of this process, with standard streams as a shell would give them."""

import io
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class End:
    """End of one command.

    Attributes:
        code: Its exit code, or the negative number of the signal that ended it.
        out: What it printed on standard output, where that was kept.
        err: What it printed on standard error, where that was kept.
    """

    code: int
    out: str
    err: str


def forked(
    *arguments: str,
    home: Path,
    out: int | None = -1,
    err: int | None = -1,
    before: Callable[[], None] | None = None,
    meanwhile: Callable[[int], None] | None = None,
) -> End:
    """Run `lightalign ARGUMENTS` to its end and to that of its interpreter.

    Args:
        arguments: What follows the command's name.
        home: Folder of everything lightalign keeps; the streams are kept beside it.
        out: Descriptor to print on; None closes the stream, and -1 keeps what is printed.
        err: The same of standard error.
        before: Called in the child before the command.
        meanwhile: Called in this process with the number of the child.
    """
    streams = [home.with_name(f"{home.name}.{name}") for name in ("out", "err")]
    for path in streams:
        path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _be_the_command(arguments, home, [out, err], streams, before)
    if meanwhile is not None:
        meanwhile(child)
    _, status = os.waitpid(child, 0)
    said = [path.read_text() if path.is_file() else "" for path in streams]
    return End(os.waitstatus_to_exitcode(status), *said)


def _be_the_command(
    arguments: tuple[str, ...],
    home: Path,
    descriptors: list[int | None],
    streams: list[Path],
    before: Callable[[], None] | None,
) -> None:
    code = 70  # no code of ours: something broke before the command
    try:
        opened = [
            os.open(path, os.O_WRONLY | os.O_CREAT) if number == -1 else number
            for number, path in zip(descriptors, streams, strict=True)
        ]
        for number, descriptor in enumerate(opened, start=1):
            if descriptor is not None:
                os.dup2(descriptor, number)
        for number, descriptor in enumerate(opened, start=1):
            if descriptor is None:
                os.close(number)
        sys.stdout, sys.stderr = (
            None if descriptor is None else _text(number)
            for number, descriptor in enumerate(opened, start=1)
        )
        sys.argv = ["lightalign", *arguments]
        os.environ["LIGHTALIGN_HOME"] = str(home)
        code = _code_of_main(before)
    finally:
        os._exit(code)


def _code_of_main(before: Callable[[], None] | None) -> int:
    """Return the exit code that the interpreter would have."""
    from lightalign.cli import main

    try:
        if before is not None:
            before()
        main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120  # as Python says that a stream could not be flushed
    return code


def _text(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", line_buffering=descriptor > 1)
