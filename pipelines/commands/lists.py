"""The commands that list what can be named, and those that show and check the presets."""

from typing import Annotated

import typer

from ._common import DEFAULT_HOME, CommandOutput, Home
from ._from_spec import command

list_app = typer.Typer(no_args_is_help=True, help="List what can be named on the command line.")
encoders_app = typer.Typer(no_args_is_help=True, help="List and show the encoder cards.")
presets_app = typer.Typer(no_args_is_help=True, help="Show and check the presets.")


@list_app.command("encoders")
@encoders_app.command("list")
@command()
def list_encoders(output: CommandOutput, *, home: Home = DEFAULT_HOME) -> None:
    """List the encoder cards: those of lightalign, and those in HOME/encoders."""
    from ..rendering.tables import rows_table
    from ..rendering.training import encoder_rows

    rows = encoder_rows(home)
    output.answer({"encoders": rows}, rows_table(rows))


@encoders_app.command("show")
@command()
def encoders_show(
    output: CommandOutput,
    *,
    encoder: Annotated[
        str, typer.Argument(help="Name, ./card.toml, timm:MODEL or hf:MODEL (or a folder).")
    ],
    home: Home = DEFAULT_HOME,
) -> None:
    """Print an encoder's card as TOML; of a model it is the card that is derived from it."""
    from ...featcache.config import to_table, to_toml
    from ...featcache.encoders.references import find_card

    table = to_table(find_card(encoder, home=home))
    name = table.pop("name")
    shown = f"# {name}\n{to_toml(table)}".rstrip()
    output.answer({"name": name, **table}, shown)


@list_app.command("datasets")
@command()
def list_datasets(output: CommandOutput) -> None:
    """List the dataset families."""
    from ...featcache.sources.opening import list_datasets as read_datasets
    from ..rendering.tables import rows_table

    rows = [
        {"name": name, "files": "needed" if needs_files else "drawn", "title": title}
        for name, title, needs_files in read_datasets()
    ]
    output.answer({"datasets": rows}, rows_table(rows))


@list_app.command("fusions")
@command()
def list_fusions(output: CommandOutput) -> None:
    """List the fusions."""
    from ...adapters.preset import list_fusions as read_fusions
    from ..rendering.tables import rows_table

    rows = [{"name": name, "what it does": title} for name, title in read_fusions()]
    output.answer({"fusions": rows}, rows_table(rows))


@list_app.command("prompts")
@command()
def list_prompts(output: CommandOutput) -> None:
    """List the prompts."""
    from ..classification.prompts import prompt_names, read_prompts
    from ..rendering.tables import rows_table

    rows = [{"name": name, "title": read_prompts(name).title} for name in prompt_names()]
    output.answer({"prompts": rows}, rows_table(rows))


@list_app.command("question-prompts")
@command()
def list_question_prompts(output: CommandOutput) -> None:
    """List the prompts by which a language model is asked questions about images."""
    from ..language.question_prompt import question_prompt_names, read_question_prompt
    from ..rendering.tables import rows_table

    rows = [
        {"name": name, "title": read_question_prompt(name).title}
        for name in question_prompt_names()
    ]
    output.answer({"question_prompts": rows}, rows_table(rows))


@list_app.command("presets")
@presets_app.command("list")
@command()
def list_presets(output: CommandOutput) -> None:
    """List the presets."""
    from ...adapters.preset import list_presets as list_names
    from ...adapters.preset import read_preset
    from ..rendering.tables import rows_table

    rows = [{"name": name, "title": read_preset(name)["title"]} for name in list_names()]
    output.answer({"presets": rows}, rows_table(rows))


@presets_app.command("show")
@command()
def presets_show(
    output: CommandOutput,
    *,
    name: Annotated[str, typer.Argument(help="Preset; see `lightalign presets list`.")],
) -> None:
    """Print a preset as TOML, with all that it extends."""
    from ...adapters.preset import read_preset
    from ...featcache.config import to_toml

    preset = read_preset(name)
    output.answer(preset, to_toml(preset).rstrip())


@presets_app.command("check")
@command()
def presets_check(
    output: CommandOutput,
    *,
    name: Annotated[str | None, typer.Argument(help="One preset; all if not given.")] = None,
) -> None:
    """Build presets and compare their parameters with their sources'; exits 1 where they differ."""
    from ...adapters.check import check_preset
    from ...adapters.preset import list_presets as list_names
    from ..rendering.tables import rows_table

    names = [name] if name else list_names()
    tracked = output.progress.track(names, "check", len(names), unit="presets")
    rows = [vars(check) for preset in tracked for check in check_preset(preset)]
    output.result({"presets": rows}, rows_table(rows))
    if not all(row["right"] for row in rows):
        raise typer.Exit(1)
