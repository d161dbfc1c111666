"""The commands that look after the runs."""

import json
from typing import Annotated

import typer

from ._common import DEFAULT_HOME, AsJson, CommandOutput, Home, Quiet

runs_app = typer.Typer(no_args_is_help=True, help="Look after the trained and stopped runs.")
Run = Annotated[str, typer.Argument(help="Name of a run, as `runs list` prints it, or its folder.")]


@runs_app.command("list")
def runs_list(home: Home = DEFAULT_HOME, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List all runs, newest first: what they are, what they measured, what they take."""
    from ..rendering.tables import rows_table
    from ..runs.run_folder import runs_folder
    from ..runs.run_list import list_runs, run_rows

    listed = list_runs(home)
    empty = f"no runs in {runs_folder(home)}"
    output = CommandOutput(as_json=as_json, quiet=quiet)
    for run in listed:
        for line in run.unread:
            output.progress.note(f"run {run.name}: {line}")
    output.answer(
        {"runs": [vars(run) for run in listed]},
        rows_table(run_rows(listed), below=("what",)) if listed else empty,
    )


@runs_app.command("show")
def runs_show(
    run: Run, home: Home = DEFAULT_HOME, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Show one run: its state, what it was trained on and by, and all its evaluations."""
    from ..runs.run_list import describe_run

    described = describe_run(home, run)
    shown = json.dumps(described, indent=2, default=str)
    CommandOutput(as_json=as_json, quiet=quiet).answer(described, shown)


@runs_app.command("rm")
def runs_rm(
    run: Run, home: Home = DEFAULT_HOME, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Remove one run with its indexes and evaluations; one that is in use is refused."""
    from ..runs.run_folder import remove_run

    removed = remove_run(home, run)
    CommandOutput(as_json=as_json, quiet=quiet).result({"run": str(removed)}, f"removed {removed}")
