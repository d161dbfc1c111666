"""The commands that look after the feature stores."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ...featcache.errors import SpecError
from ._common import DEFAULT_HOME, CommandOutput, Device, Home, Overrides, source_options
from ._from_spec import command
from ._set_keys import explain_keys, source_keys

cache_app = typer.Typer(no_args_is_help=True, help="Look after the feature stores.")
StoreName = Annotated[str, typer.Argument(help="Folder, name as `cache ls` prints it, or key.")]


@cache_app.command("ls")
@command()
def cache_ls(output: CommandOutput, *, home: Home = DEFAULT_HOME) -> None:
    """List all feature stores, newest first."""
    from ..cache.listing import store_rows
    from ..rendering.training import store_table

    rows = store_rows(home)
    empty = f"no feature stores in {home / 'features'}"
    output.answer({"stores": rows}, store_table(rows) if rows else empty)


@cache_app.command("info")
@command()
def cache_info(output: CommandOutput, *, store: StoreName, home: Home = DEFAULT_HOME) -> None:
    """Show what one store holds and what its key is made of."""
    from ...featcache.store.catalog import find_store
    from ...featcache.store.feature_store import FeatureStore
    from ...featcache.store.manifest import read_manifest

    opened = FeatureStore(folder := find_store(home, store), read_manifest(folder))
    manifest = dict(opened.manifest)
    manifest.pop("shards", None)
    manifest["num_shards"] = opened.num_shards
    manifest["missing_shards"] = opened.missing_shards()
    manifest["skipped"] = [vars(item) for item in opened.skipped()]
    output.answer(manifest, json.dumps(manifest, indent=2))


@cache_app.command("verify")
@command()
def cache_verify(
    output: CommandOutput,
    *,
    store: Annotated[str | None, typer.Argument(help="One store; all if not given.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Read every byte and compare it with the manifest; exits 1 when something is damaged.

    A store that was not finished is damaged, too. Of the whole home, what dead processes have left
    counts as well, and files that lightalign has not written are named.
    """
    from ...featcache.store.catalog import find_store, manifest_folders, unreadable_folders
    from ...featcache.store.damage import verify_folder
    from ..cache.leftovers import find_leftovers

    folders = [find_store(home, store)] if store else manifest_folders(home)
    damage: dict[str, list[str]] = {}
    unread = [] if store else unreadable_folders(home)
    for folder in output.progress.track(folders, "verify", len(folders), unit="stores"):
        damage[str(folder)] = verify_folder(folder)
    damage |= {str(folder.folder): [folder.reason] for folder in unread}
    leftovers = [] if store else find_leftovers(home)
    for leftover in leftovers:
        if leftover.is_unread and str(leftover.path) in damage:
            continue  # a folder of stores, which is named already
        damage.setdefault(str(leftover.path), []).append(str(leftover))
    lines = [line for faults in damage.values() for line in faults]
    foreign = sum(not (leftover.is_ours or leftover.is_unread) for leftover in leftovers)
    count = len(lines) - foreign
    output.result(damage, *lines, f"{len(folders)} stores read, {count} damaged files")
    if count:
        raise typer.Exit(1)


@cache_app.command("explain")
@command(set_keys=explain_keys)
def cache_explain(
    output: CommandOutput,
    *,
    store: Annotated[str | None, typer.Argument(help="Folder, name or key of a store.")] = None,
    other: Annotated[str | None, typer.Argument(help="Another store; the nearest if none.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Instead of a store: what misses.")] = None,
    data: Annotated[str | None, typer.Option(help="Dataset of what misses.")] = None,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """List the values in which the keys of two stores differ, or those that make one a miss.

    With --encoder and --data, and --set for every other option of `extract`, such as
    --set dtype=int8 or --set split=val: what that extraction would ask for, and the nearest store.
    """
    from ..cache.explain import explain_stores
    from ..cache.repair import explain_request
    from ..rendering.training import explanation_parts

    if encoder is not None and data is not None and store is None:
        table = {"encoders": [encoder], "data": data, "home": str(home)}
        explained = explain_request(table, overrides or [], output.progress)
        parts = [part for explanation in explained for part in explanation_parts(explanation)]
        output.answer({"explanations": explained}, *parts)
    elif store is not None and encoder is None and data is None:
        explanation = explain_stores(home, store, other)
        output.answer(explanation, *explanation_parts(explanation))
    else:
        raise SpecError("give one or two stores, or --encoder with --data")


@cache_app.command("rm")
@command()
def cache_rm(
    output: CommandOutput,
    *,
    store: StoreName,
    force: Annotated[bool, typer.Option(help="Remove it even if a run refers to it.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Remove one store, and its pairs with the last store of its split."""
    from ..cache.leftovers import clear_leftovers
    from ..cache.remove import remove

    # a removal that was killed finds no store when it is given again, but has left files
    clear_leftovers(home)
    removed = remove(home, store, force=force)
    line = f"removed {removed.store}, {removed.bytes / 1e6:.1f} MB"
    output.result(removed, line)


@cache_app.command("repair")
@command(set_keys=source_keys)
def cache_repair(
    output: CommandOutput,
    *,
    store: Annotated[str | None, typer.Argument(help="One store; all if not given.")] = None,
    data: Annotated[
        str | None, typer.Option(help="NAME=PATH of a dataset that is not in its default place.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights, if the store was extracted with --weights.")
    ] = None,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
) -> None:
    """Restore what `verify` finds; only damaged and missing shards are computed.

    The dataset is opened as the store was extracted, --set source.NAME=VALUE and all; what the
    manifest does not say, or what has moved since, takes such an option here.

    Without a store, what dead processes have left in the home is removed, too. Exits 1 when damage
    is left.
    """
    from ...featcache.store.catalog import manifest_folders, unreadable_folders
    from ..cache.leftovers import clear_leftovers
    from ..cache.repair import each_apart, origins_first, reason_of, repair
    from ..rendering.training import repair_lines

    again = partial(
        repair,
        home,
        data=data,
        weights=weights,
        source=source_options(overrides or [], verb="cache repair"),
        device=device,
        progress=output.progress,
    )
    failed: dict[str, str] = {}
    broken: OSError | None = None
    removed: list[str] = []
    if store:
        reports = [again(store)]
    else:
        removed = [str(leftover) for leftover in clear_leftovers(home)]
        folders = origins_first(manifest_folders(home))
        reports, errors = each_apart(again, [str(folder) for folder in folders])
        broken = next((error for error in errors.values() if isinstance(error, OSError)), None)
        failed = {store: reason_of(error) for store, error in errors.items()}
        failed |= {str(unread.folder): unread.reason for unread in unreadable_folders(home)}
    output.result(
        {"stores": reports, "failed": failed, "removed": removed},
        *(f"removed {line}" for line in removed),
        *repair_lines(reports, failed),
    )
    if broken is not None:
        # a disk that is full or broken ends the command as it does for one store
        raise broken
    if failed or any(report.left for report in reports):
        raise typer.Exit(1)


@cache_app.command("export")
@command(reads_stores=True)
def cache_export(
    output: CommandOutput,
    *,
    store: StoreName,
    path: Annotated[Path, typer.Argument(help="What to write: a folder for npy, else a file.")],
    format: Annotated[str, typer.Option(help="parquet, npy or safetensors.")] = "parquet",
    force: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Write one store for other tools: ids beside vectors, in floats."""
    from ..cache.export import export

    done = export(home, store, path, format=format, force=force)
    line = f"{done.rows} rows, {done.tokens} tokens, {done.bytes / 1e6:.1f} MB: {done.path}"
    output.result(done, line)
