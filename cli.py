"""The command line: how the process begins and ends, with its errors, signals and streams.

The commands are in `pipelines/commands`, and are imported when `main` has taken the signals: what
ends them while they are imported is told as well.
"""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from .featcache.errors import LightalignError
from .featcache.memory_errors import lack_of_memory
from .pipelines.common import stopping, streams
from .pipelines.common.printable import printable

_PATIENCE = 5.0  # seconds that a stopped command has to end its threads and the shard it writes
_STANDARD_ERROR = 2  # its descriptor
_NO_MEMORY = b"lightalign: not enough memory\n"
_ENDINGS: list[threading.Timer] = []  # that end it when these are over
_LINES: list[str] = []  # the line of a stopped command, once it was said
_USERS_OWN = {  # system errors that are not ours to mend
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EEXIST,  # a link to nothing where a folder is to be made
    errno.EBUSY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.EXDEV,
    errno.ENOENT,  # what went away while it was being used
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENOLCK,
    errno.EINVAL,
    errno.ENXIO,
    errno.ETXTBSY,
    errno.EBUSY,
}


class _StoppedError(BaseException):
    """Carry a signal through the parser, which would turn KeyboardInterrupt into exit code 1."""


def _take_signals() -> None:
    """End in order where a user, a system or a terminal that closes asks for it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which nohup has asked for
        signal.signal(signal.SIGHUP, _stop)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for asked_again in (signal.SIGINT, signal.SIGTERM):  # nothing is waited for
        signal.signal(asked_again, lambda again, _: _end(again))
    # a terminal that closes says so twice, itself and by its shell; services say it after SIGTERM
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ending = threading.Timer(_PATIENCE, _end, [number])
    ending.daemon = True  # nobody waits for it
    with suppress(RuntimeError):  # without memory for a thread it ends as soon as it can
        ending.start()
        _ENDINGS.append(ending)
    raise _StoppedError(number)


def _complain(message: str) -> None:
    """Write one line on standard error, in which nothing acts on a terminal."""
    with suppress(OSError):  # where nobody can be told, the exit code says it all the same
        sys.stderr.write(f"lightalign: {printable(message)}\n")
        sys.stderr.flush()


def _fail(message: str) -> NoReturn:
    _complain(message)
    sys.exit(2)


def _fail_without_memory(error: Exception) -> None:
    """Pass if it was not memory that was lacking; else there is nothing wrong with the command."""
    try:
        lacking = lack_of_memory(error)
        if lacking is not None:
            _fail(f"not enough memory, also of what `ulimit -v` allows: {lacking}")
    except MemoryError:  # for so little, too: the interpreter could not even end itself
        os.write(_STANDARD_ERROR, _NO_MEMORY)
        os._exit(2)


def _end(number: int) -> NoReturn:
    """End the process although one of its threads does not, such as one that reads a dead disk.

    What it was writing is left as a kill would leave it: not there, or whole.
    """
    if not _LINES:
        with suppress(OSError):  # of a terminal that is gone
            os.write(_STANDARD_ERROR, f"lightalign: {_stopped_line()}\n".encode())
    os._exit(128 + number)


def _finish(number: int, earlier: Collection[threading.Thread]) -> NoReturn:
    """Wait for the threads that the command has begun, as long as `_end` lets it, and exit."""
    for thread in threading.enumerate():
        if thread not in earlier and not thread.daemon:
            thread.join()
    _complain(_stopped_line())
    while _ENDINGS:
        _ENDINGS.pop().cancel()
    sys.exit(128 + number)  # what shells report for a program ended by a signal


def _stopped_line() -> str:
    line = f"stopped; {printable(stopping.kept())}"
    _LINES.append(line)
    return line


def main() -> None:
    """Run the command line: known errors are one line and exit code 2, Ctrl-C is 130."""
    earlier = threading.enumerate()
    stopping.begin()
    _LINES.clear()
    _take_signals()
    streams.prepare()
    try:
        _run()
    except LightalignError as error:
        _fail(re.sub(r"\s*[\r\n]\s*", " ", str(error)).strip())  # paths may hold runs of spaces
    except BrokenPipeError:
        sys.exit(1)  # as the parser ends where the reader of the result has seen enough
    except OSError as error:
        if error.errno not in _USERS_OWN:
            _fail_without_memory(error)
            raise
        _fail(f"{error.strerror}: {error.filename or 'while writing'}")
    except Exception as error:
        _fail_without_memory(error)
        raise
    except _StoppedError as stopped:
        _finish(stopped.args[0], earlier)


def _run() -> None:
    """Run the command that was asked for, and see that its result arrives."""
    from .pipelines.commands.application import app

    try:
        app()
    except SystemExit as ended:
        if not ended.code:
            streams.flush_result()
        raise
    finally:
        streams.drop_result()


if __name__ == "__main__":
    main()
