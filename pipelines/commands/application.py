"""The application: all commands in the order of the help, and the options before them."""

from collections.abc import Callable
from typing import Annotated

import typer

from ... import __version__
from . import evaluation, extraction, quickstart, reports, searching, training
from .cache import cache_app
from .data import data_app
from .lists import encoders_app, list_app, presets_app
from .runs import runs_app

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
app.add_typer(encoders_app, name="encoders")
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
app.add_typer(runs_app, name="runs")
app.add_typer(presets_app, name="presets")


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
