"""The commands that list what can be named, and those that show and check the presets."""

from typing import Annotated

import typer

from ._common import DEFAULT_HOME, AsJson, CommandOutput, Home, Quiet

list_app = typer.Typer(no_args_is_help=True, help="List what can be named on the command line.")
encoders_app = typer.Typer(no_args_is_help=True, help="List and show the encoder cards.")
presets_app = typer.Typer(no_args_is_help=True, help="Show and check the presets.")


@list_app.command("encoders")
@encoders_app.command("list")
def list_encoders(home: Home = DEFAULT_HOME, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the encoder cards: those of lightalign, and those in HOME/encoders."""
    from ..rendering.tables import rows_table
    from ..rendering.training import encoder_rows

    output = CommandOutput(as_json=as_json, quiet=quiet)  # before any card is passed over
    rows = encoder_rows(home)
    output.answer({"encoders": rows}, rows_table(rows))


@encoders_app.command("show")
def encoders_show(
    encoder: Annotated[
        str, typer.Argument(help="Name, ./card.toml, timm:MODEL or hf:MODEL (or a folder).")
    ],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print an encoder's card as TOML; of a model it is the card that is derived from it."""
    from ...featcache.config import to_table, to_toml
    from ...featcache.encoders.references import find_card

    table = to_table(find_card(encoder, home=home))
    name = table.pop("name")
    shown = f"# {name}\n{to_toml(table)}".rstrip()
    CommandOutput(as_json=as_json, quiet=quiet).answer({"name": name, **table}, shown)


@list_app.command("datasets")
def list_datasets(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the dataset families."""
    from ...featcache.sources.opening import list_datasets as read_datasets
    from ..rendering.tables import rows_table

    rows = [
        {"name": name, "files": "needed" if needs_files else "drawn", "title": title}
        for name, title, needs_files in read_datasets()
    ]
    CommandOutput(as_json=as_json, quiet=quiet).answer({"datasets": rows}, rows_table(rows))


@list_app.command("fusions")
def list_fusions(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the fusions."""
    from ...adapters.preset import list_fusions as read_fusions
    from ..rendering.tables import rows_table

    rows = [{"name": name, "what it does": title} for name, title in read_fusions()]
    CommandOutput(as_json=as_json, quiet=quiet).answer({"fusions": rows}, rows_table(rows))


@list_app.command("prompts")
def list_prompts(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the prompts."""
    from ..classification.prompts import prompt_names, read_prompts
    from ..rendering.tables import rows_table

    rows = [{"name": name, "title": read_prompts(name).title} for name in prompt_names()]
    CommandOutput(as_json=as_json, quiet=quiet).answer({"prompts": rows}, rows_table(rows))


@list_app.command("presets")
def list_presets(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the presets."""
    from ...adapters.preset import list_presets as list_names
    from ...adapters.preset import read_preset
    from ..rendering.tables import rows_table

    rows = [{"name": name, "title": read_preset(name)["title"]} for name in list_names()]
    CommandOutput(as_json=as_json, quiet=quiet).answer({"presets": rows}, rows_table(rows))


@presets_app.command("list")
def presets_list(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the presets."""
    list_presets(as_json=as_json, quiet=quiet)


@presets_app.command("show")
def presets_show(
    name: Annotated[str, typer.Argument(help="Preset; see `lightalign presets list`.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print a preset as TOML, with all that it extends."""
    from ...adapters.preset import read_preset
    from ...featcache.config import to_toml

    preset = read_preset(name)
    CommandOutput(as_json=as_json, quiet=quiet).answer(preset, to_toml(preset).rstrip())


@presets_app.command("check")
def presets_check(
    name: Annotated[str | None, typer.Argument(help="One preset; all if not given.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Build presets and compare their parameters with their sources'; exits 1 where they differ."""
    from ...adapters.check import check_preset
    from ...adapters.preset import list_presets as list_names
    from ..rendering.tables import rows_table

    output = CommandOutput(as_json=as_json, quiet=quiet)
    names = [name] if name else list_names()
    tracked = output.progress.track(names, "check", len(names), unit="presets")
    rows = [vars(check_preset(preset)) for preset in tracked]
    output.result({"presets": rows}, rows_table(rows))
    if not all(row["right"] for row in rows):
        raise typer.Exit(1)
