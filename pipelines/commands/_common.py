"""Parts that the commands share: their output, and the options that more than one of them has."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ...featcache import notes
from ...featcache.config import apply_overrides
from ...featcache.errors import SpecError
from ...featcache.home import VARIABLE, checked_home, default_home, expanded
from ...featcache.settings import Setting
from ...featcache.store import trust
from ..common import streams
from ..common.printable import printable_lines
from ..common.progress import Progress
from ..common.shared_settings import DEVICE, HOME
from ..rendering.progress_bars import BarProgress, LineProgress


def option(setting: Setting, *, default: Any = None) -> Any:  # Any: typer's own class
    """Return the option or the argument of typer for a setting.

    Every option of a number has a range, so that none reaches an array, a thread or a file that
    cannot hold it. What is out of it is refused in one line that names the option.
    """

    def check(_context: Any, parameter: Any, value: Any) -> Any:  # Any: as for `_trust_stores`
        if value is not None and value != default and not isinstance(value, list):
            setting.check(value, name=parameter.opts[0])
        return value

    callback = check if setting.range else None
    if setting.argument:
        return typer.Argument(help=setting.help, callback=callback)
    return typer.Option(*filter(None, [setting.flag]), help=setting.help, callback=callback)


def each_once(_context: Any, parameter: Any, values: Any) -> Any:  # Any: as for `_trust_stores`
    """Refuse a name that is given two values: the last would be taken without a word."""
    names = [value.partition("=")[0].strip() for value in values or ()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SpecError(
            f"{parameter.opts[0]} gives {twice!r} {names.count(twice)} values: give one"
        )
    return values


def _each_place_once(context: Any, parameter: Any, values: Any) -> Any:  # Any: as above
    """Refuse a value that is given twice, also as part of a table: the last would be taken."""
    each_once(context, parameter, values)
    names = sorted(value.partition("=")[0].strip() for value in values or ())
    for outer in names:
        inner = next((name for name in names if name.startswith(f"{outer}.")), None)
        if inner is not None:
            raise SpecError(
                f"{parameter.opts[0]} gives {outer!r} and {inner!r}, which is part of it: give "
                f"all of {outer!r} in one"
            )
    return values


Home = Annotated[
    Path,
    typer.Option(
        envvar=VARIABLE,
        readable=False,  # which the callback says in one line
        callback=checked_home,
        help=HOME.help,
    ),
]
Device = Annotated[str, option(DEVICE)]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=C",
        callback=_each_place_once,
        help="Change one value of the spec; repeatable.",
    ),
]


def _trust_stores(context: Any, trusts: bool) -> bool:  # Any: typer's class is not what it gives
    if trusts:
        # entered in the context of the command, so that it holds until that ends
        context.with_resource(trust.trusting())
    return trusts


NoVerify = Annotated[
    bool,
    typer.Option(
        "--no-verify",
        callback=_trust_stores,
        help="Read stores without comparing them with their checksums first.",
    ),
]
DEFAULT_HOME = default_home()
_PIPE_WIDTH = 240  # columns


class CommandOutput:
    """Print everything a command has to say; results on stdout, the rest on stderr.

    Args:
        as_json: Print one JSON object instead of tables.
        quiet: Print neither notes nor progress.
        silent: Print no results either, as another process does.
    """

    def __init__(self, *, as_json: bool, quiet: bool, silent: bool = False) -> None:
        self.as_json = as_json
        self.silent = silent
        quiet = quiet or silent
        # a pipe has no width to fit: 80 columns would fold names that scripts read
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        # what looks like markup or an emoji is part of a name
        self.console = Console(width=width, markup=False, emoji=False, highlight=False)
        messages = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self.progress = Progress()
        if not quiet and messages.is_terminal:
            self.progress = BarProgress(messages)
        elif not quiet:
            self.progress = LineProgress(messages)
        notes.tell(self.progress.note)
        for warning in trust.warnings():
            self.progress.note(f"warning: {warning}")

    def answer(self, value: Any, *shown: Table | str) -> None:
        """Print a result that is kept nowhere; where nobody can read it, nothing was done.

        Raises:
            ResultLostError: Standard output was closed before the command began.
        """
        if not self.silent:
            streams.require_output()
        self.result(value, *shown)

    def result(self, value: Any, *shown: Table | str) -> None:
        """Print `value` as JSON, or else what is shown to people."""
        if self.silent:
            return
        if self.as_json:
            streams.require_output()
            text = json.dumps(value, default=_plain)  # escapes all but DEL
            sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
            return
        for part in shown:
            if isinstance(part, str):
                self.console.print(printable_lines(part), soft_wrap=True)
            else:
                self.console.print(part, crop=False)


def _plain(value: Any) -> Any:
    """Turn what reports hold besides JSON values into JSON values."""
    if isinstance(value, Path):
        return str(value)
    return vars(value)


def split_commas(texts: list[str] | None) -> list[str]:
    """Return the values of an option that is repeatable, and takes several with commas, too."""
    return [value for text in texts or () for value in text.split(",")]


def whole_numbers(flag: str, texts: list[str] | None, *, example: str) -> list[int]:
    """Return the whole numbers of such an option.

    Raises:
        SpecError: One is no number.
    """
    try:
        return [int(number) for number in split_commas(texts)]
    except ValueError as error:
        raise SpecError(f"{flag} {','.join(texts or ())!r} is not of the form {example}") from error


def places_of_weights(assignments: list[str] | None) -> dict[str, Path]:
    """Return the path of each `ENCODER=PATH` by its encoder.

    Raises:
        SpecError: One is not of that form.
    """
    places = {}
    for assignment in assignments or ():
        name, sign, path = assignment.partition("=")
        if not (name and sign and path):
            raise SpecError(f"--weights {assignment!r} is not of the form ENCODER=PATH")
        places[name] = expanded(Path(path))
    return places


def source_options(overrides: list[str], *, verb: str) -> dict[str, Any]:
    """Return the options of a dataset that `--set source.NAME=VALUE` gives, by name.

    Raises:
        SpecError: One is not of that form.
    """
    changed = apply_overrides({"source": {}}, overrides)
    options = changed.pop("source")
    if changed or not isinstance(options, dict):
        raise SpecError(f"{verb} knows --set source.NAME=VALUE only, found {overrides}")
    return options
