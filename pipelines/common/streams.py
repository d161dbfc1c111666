"""Standard streams that may be full, closed, or of a terminal that is gone.

A message on standard error that cannot be written is dropped, and the work goes on. Standard output
is the result of a command, and losing it is an error.
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


class _MessageStream(io.FileIO):
    """Stream for messages, which drops what cannot be written."""

    def write(self, content: Any) -> int:
        size = memoryview(content).nbytes
        try:
            written = super().write(content)
        except OSError:
            return size
        return size if written is None else written  # None: it would have to wait


class _ResultStream(io.FileIO):
    """Stream for the result, whose loss is an error of its own."""

    def write(self, content: Any) -> int | None:  # type: ignore[override]  # None: it has to wait
        try:
            return super().write(content)
        except BrokenPipeError:
            raise  # of a reader who has seen enough, which needs no word
        except OSError as error:
            raise ResultLostError(f"cannot print the result: {error.strerror}") from error


def prepare() -> None:
    """Replace the standard streams, so that a message that cannot be written ends no work."""
    _open_closed()
    for name, kind in (("stdout", _ResultStream), ("stderr", _MessageStream)):
        stream = getattr(sys, name)
        if name not in _CLOSED and isinstance(stream, io.TextIOWrapper):
            # a stream in memory has no descriptor to redirect
            with suppress(OSError):
                setattr(sys, name, _as_kind(stream, kind))


def _as_kind(stream: io.TextIOWrapper, kind: Callable[..., io.FileIO]) -> io.TextIOWrapper:
    # what the old stream holds would otherwise come after what the new one writes
    stream.flush()
    raw = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",  # what it cannot show must not lose the result
        line_buffering=stream.line_buffering or kind is _MessageStream,
        write_through=stream.write_through,
    )


def _open_closed() -> None:
    """Open the standard streams that are closed, as by a service, on the null device.

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
    """Check that there is a standard output for a program to read.

    Raises:
        ResultLostError: It was closed before the command began.
    """
    if "stdout" in _CLOSED:
        raise ResultLostError(f"cannot print the result: {os.strerror(errno.EBADF)}")


def flush_result() -> None:
    """Flush the result.

    Raises:
        ResultLostError: It cannot be written.
        BrokenPipeError: Its reader has seen enough.
    """
    sys.stdout.flush()


def drop_result() -> None:
    """Drop the rest of a result that cannot be written, so that the interpreter ends in silence."""
    try:
        sys.stdout.flush()
    except OSError:
        # the interpreter flushes once more at its end, and would print an error of its own
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
