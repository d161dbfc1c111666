"""The command line: the order of its commands, its errors and signals. Imports no torch by itself.

What each command does is in `pipelines/commands`, a family a file.
"""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from . import __version__
from .featcache.errors import LightalignError
from .pipelines import stopping
from .pipelines.commands import evaluation, extraction, quickstart, reports, searching, training
from .pipelines.commands.cache import cache_app
from .pipelines.commands.lists import list_app, presets_app
from .pipelines.commands.runs import runs_app
from .pipelines.printable import printable

app = typer.Typer(
    name="lightalign",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # its help takes 0.1 s of imports
    context_settings={"max_content_width": 100},
    help="Cache frozen encoders' features once, train a light adapter, evaluate from the cache.",
)
_COMMANDS: dict[str, Callable[..., None]] = {  # in the order of the help
    "extract": extraction.extract,
    "train-adapter": training.train_adapter,
    "plan": training.plan,
    "retrieve": evaluation.retrieve,
    "index": searching.index,
    "search": searching.search,
    "zero-shot": evaluation.zero_shot,
    "probe": evaluation.probe,
    "fine-tune": training.fine_tune,
    "similarity": evaluation.similarity,
    "rank-encoders": evaluation.rank_encoders,
    "report": reports.report,
    "export": reports.export_run,
    "quickstart": quickstart.quickstart,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(list_app, name="list")
app.add_typer(cache_app, name="cache")
app.add_typer(runs_app, name="runs")
app.add_typer(presets_app, name="presets")

_KEPT = {  # when it is stopped, by the command; others say in `stopping` what they keep
    "extract": "finished shards are kept: run the same command to go on",
    "quickstart": "finished shards are kept: run the same command to go on",
}
_PATIENCE = 5.0  # seconds that a stopped command has to end its threads and the shard it writes
_STANDARD_ERROR = 2  # its descriptor
_ENDINGS: list[threading.Timer] = []  # that end it when these are over
_USERS_OWN = {  # system errors that are not ours to mend
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
    errno.ENOMEM,
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


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"lightalign {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before the command."""


class _StoppedError(BaseException):
    """Carry a signal through the parser, which would turn KeyboardInterrupt into exit code 1."""


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for one in (signal.SIGINT, signal.SIGTERM):  # asked again, nothing is waited for
        signal.signal(one, lambda again, _: _end(again))
    ending = threading.Timer(_PATIENCE, _end, [number])
    ending.daemon = True  # nobody waits for it
    _ENDINGS.append(ending)
    ending.start()
    raise _StoppedError(number)


def _complain(message: str) -> None:
    """Write one line on standard error, in which nothing acts on a terminal."""
    with suppress(OSError):  # on a full disk nobody can be told; the exit code says it all the same
        typer.echo(f"lightalign: {printable(message)}", err=True)


def _end(number: int) -> NoReturn:
    """End the process although one of its threads does not, such as one that reads a dead disk.

    What it was writing is left as a kill would leave it: not there, or whole.
    """
    os.write(_STANDARD_ERROR, f"{_stopped_line()}\n".encode())
    os._exit(128 + number)


def _finish(number: int, earlier: Collection[threading.Thread]) -> NoReturn:
    """Wait for the threads that the command has begun, as long as `_end` lets it, and exit."""
    for thread in threading.enumerate():
        if thread not in earlier and not thread.daemon:
            thread.join()
    typer.echo(_stopped_line(), err=True)
    while _ENDINGS:
        _ENDINGS.pop().cancel()
    sys.exit(128 + number)  # what shells report for a program ended by a signal


def _stopped_line() -> str:
    kept = next((_KEPT[name] for name in sys.argv[1:2] if name in _KEPT), stopping.kept())
    return f"lightalign: stopped; {printable(kept)}"


def _open_closed_streams() -> None:
    """Open what a service has closed: what is said there is for nobody, and goes into no file.

    Without this the next file that is opened, such as a shard, would be what libraries print into.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def main() -> None:
    """Run the command line: known errors are one line and exit code 2, Ctrl-C is 130."""
    earlier = threading.enumerate()
    stopping.begin()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character must not lose the result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except LightalignError as error:
        _complain(" ".join(str(error).split()))
        sys.exit(2)
    except OSError as error:
        if error.errno not in _USERS_OWN:
            raise
        _complain(f"{error.strerror}: {error.filename or 'while writing'}")
        sys.exit(2)
    except _StoppedError as stopped:
        _finish(stopped.args[0], earlier)


if __name__ == "__main__":
    main()
