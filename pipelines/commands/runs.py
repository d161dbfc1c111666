"""The commands that look after the runs."""

import json
from typing import Annotated

import typer

from ._common import DEFAULT_HOME, CommandOutput, Home
from ._from_spec import command

runs_app = typer.Typer(no_args_is_help=True, help="Look after the trained and stopped runs.")
Run = Annotated[str, typer.Argument(help="Name of a run, as `runs list` prints it, or its folder.")]


@runs_app.command("list")
@command()
def runs_list(output: CommandOutput, *, home: Home = DEFAULT_HOME) -> None:
    """List all runs, newest first: what they are, what they measured, what they take."""
    from ..rendering.tables import rows_table
    from ..reports.run_list import list_runs, run_rows
    from ..runs.run_folder import runs_folder

    listed = list_runs(home)
    empty = f"no runs in {runs_folder(home)}"
    for run in listed:
        for line in run.unread:
            output.progress.note(f"run {run.name}: {line}")
    output.answer(
        {"runs": [vars(run) for run in listed]},
        rows_table(run_rows(listed), below=("what",)) if listed else empty,
    )


@runs_app.command("show")
@command()
def runs_show(output: CommandOutput, *, run: Run, home: Home = DEFAULT_HOME) -> None:
    """Show one run: its state, what it was trained on and by, and all its evaluations."""
    from ..reports.run_list import describe_run

    described = describe_run(home, run)
    shown = json.dumps(described, indent=2, default=str)
    output.answer(described, shown)


@runs_app.command("rm")
@command()
def runs_rm(output: CommandOutput, *, run: Run, home: Home = DEFAULT_HOME) -> None:
    """Remove one run with its indexes and evaluations; one that is in use is refused."""
    from ..runs.run_folder import remove_run

    removed = remove_run(home, run)
    output.result({"run": str(removed)}, f"removed {removed}")
