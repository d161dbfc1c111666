"""Standard streams as a command has them: full, closed, or of a terminal that is gone.

What is said on standard error beside the work is lost where nobody can take it, and the work goes
on. What is printed on standard output is the result, and losing it is an error.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...featcache.errors import ResultLostError

_STANDARD_ERROR = 2  # the last of the descriptors of standard streams
_CLOSED: set[str] = set()  # streams that were closed before the command began


class _Said(io.FileIO):
    """Stream that loses what cannot be written."""

    def write(self, content: Any) -> int:
        size = memoryview(content).nbytes
        try:
            written = super().write(content)
        except OSError:
            return size
        return size if written is None else written  # None: it would have to wait


class _Result(io.FileIO):
    """Stream that says that it is the result which cannot be written."""

    def write(self, content: Any) -> int | None:  # type: ignore[override]  # None: it has to wait
        try:
            return super().write(content)
        except BrokenPipeError:
            raise  # of a reader who has seen enough, which needs no word
        except OSError as error:
            raise ResultLostError(f"cannot print the result: {error.strerror}") from error


def prepare() -> None:
    """Make the standard streams such that no line of progress ends the work."""
    _open_closed()
    for name, kind in (("stdout", _Result), ("stderr", _Said)):
        stream = getattr(sys, name)
        if name not in _CLOSED and isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # of one that has no descriptor
                setattr(sys, name, _as_kind(stream, kind))


def _as_kind(stream: io.TextIOWrapper, kind: Callable[..., io.FileIO]) -> io.TextIOWrapper:
    # what the old stream holds would otherwise come after what the new one writes
    stream.flush()
    raw = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",  # what it cannot show must not lose the result
        line_buffering=stream.line_buffering or kind is _Said,
        write_through=stream.write_through,
    )


def _open_closed() -> None:
    """Open what a service has closed: what is said there is for nobody, and goes into no file.

    Without this the next file that is opened, such as a shard, would be what libraries print into.
    """
    _CLOSED.clear()
    # the system gives the lowest free descriptor, so this fills the closed ones
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            _CLOSED.add(name)
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def require_output() -> None:
    """Pass if there is a standard output for what a program is to read there.

    Raises:
        ResultLostError: It was closed before the command began.
    """
    if "stdout" in _CLOSED:
        raise ResultLostError(f"cannot print the result: {os.strerror(errno.EBADF)}")


def flush_result() -> None:
    """Write what is left of the result.

    Raises:
        ResultLostError: It cannot be written.
        BrokenPipeError: Its reader has seen enough.
    """
    sys.stdout.flush()


def drop_result() -> None:
    """Let what is left of a result that cannot be written be no error of the interpreter's end."""
    try:
        sys.stdout.flush()
    except OSError:
        # the interpreter flushes once more at its end, and would print an error of its own
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
