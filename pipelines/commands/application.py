"""The application: all commands in the order of the help, and the options before them."""

from collections.abc import Callable
from typing import Annotated

import typer

from ... import __version__
from . import (
    answering,
    evaluation,
    extraction,
    matching,
    quickstart,
    reports,
    searching,
    training,
)
from ._strict import StrictCommand
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
    "train-joint": training.train_joint,
    "plan": training.plan,
    "retrieve": evaluation.retrieve,
    "index": searching.index,
    "search": searching.search,
    "match": matching.match,
    "zero-shot": evaluation.zero_shot,
    "probe": evaluation.probe,
    "fine-tune": training.fine_tune,
    "similarity": evaluation.similarity,
    "vqa": answering.vqa,
    "ask": answering.ask,
    "rank-encoders": evaluation.rank_encoders,
    "report": reports.report,
    "export": reports.export_run,
    "quickstart": quickstart.quickstart,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
_GROUPS = {
    "list": list_app,
    "encoders": encoders_app,
    "data": data_app,
    "cache": cache_app,
    "runs": runs_app,
    "presets": presets_app,
}
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)
for _group in (app, *_GROUPS.values()):
    for _info in _group.registered_commands:
        _info.cls = StrictCommand


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
    """Accept the options that stand before the command."""
