"""Commands that mend, remove or make anew what a message names, to be copied from it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..home import command_line, home_of_features
from ..known_datasets import set_words, source_words, version_of
from .extract_options import VIEW_DEFAULTS, ExtractOptions, options_of_view
from .key import StoreDescription

_USUAL = {field.name: field.default for field in fields(ExtractOptions)}
_RECORDED = {  # by option, what a description or a manifest calls it
    "format": "container",
    "dtype": "dtype",
    "compression": "compression",
    "precision": "precision",
    "weights": "weights",
}


def extract_command(
    encoders: Sequence[str],
    data: Sequence[str],
    *,
    home: Path,
    options: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that extracts, as it is printed everywhere.

    Args:
        encoders: What names each encoder.
        data: Options that name the dataset.
        home: Folder of everything lightalign keeps.
        options: Further options, by the names of the spec of an extraction.
        changes: Values beside those of the dataset that `--set` gives, by name.
    """
    words = ["extract"]
    for encoder in encoders:
        words += ["--encoder", encoder]
    words += data
    for name, usual in _USUAL.items():
        value = (options or {}).get(name, usual)
        if value != usual:
            words += _option(name, value)
    return command_line(*words, *set_words(changes or {}), home=home)


def view_changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of views that `--set` alone gives, where they are not the usual ones."""
    return {
        name: options[name]
        for name, usual in VIEW_DEFAULTS.items()
        if options.get(name, usual) != usual
    }


def _option(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    # a layer begins with a dash, as options do
    return [f"{option}={shown}"] if shown.startswith("-") else [option, shown]


def repair(folder: Path, home: Path) -> str:
    """Return the command that computes what is damaged or missing in a store."""
    return command_line("cache", "repair", folder.absolute(), home=home)


def removal_of_store(folder: Path, home: Path) -> str:
    """Return the command that removes a store, whatever refers to it."""
    return command_line("cache", "rm", folder.absolute(), "--force", home=home)


def removal_of_entry(folder: Path) -> str:
    """Return the command that removes what stands for a store, as it can be run anywhere.

    Unlike `removal_of_store` it lets runs have their say.
    """
    home = home_of_features(folder)
    if home is None:
        return shlex.join(["rm", "-r", str(folder.absolute())])  # a copy, which stands in no home
    return command_line("cache", "rm", "/".join(folder.absolute().parts[-3:]), home=home)


def removal_of_run(folder: Path) -> str:
    """Return the command that removes a run, as it can be run anywhere."""
    home = folder.parent.parent
    if folder.parent.name != "runs":  # a copy, which stands in no home
        return shlex.join(["rm", "-r", str(folder)])
    return command_line("runs", "rm", folder.name, home=home)


def features_of(
    description: StoreDescription, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what another store must have been extracted with to hold features of the same kind.

    The settings are what else the manifest of the store records, as far as it can be read.
    """
    features = {
        "kind": description.kind,
        "layer": description.layer,
        "dtype": description.dtype,
        "precision": description.identity.get("precision"),
        "weights": (settings or {}).get("weights"),
    }
    return {name: value for name, value in features.items() if value is not None}


def feature_options(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `extract` that make features, as `extract_command` takes them.

    The precision is named wherever it is known, as the usual one is another on another machine.
    Read are the names of `features_of`, and `container` and `compression`.
    """
    options: dict[str, Any] = {
        name: (features[recorded],)
        for name, recorded in (("features", "kind"), ("layers", "layer"))
        if recorded in features
    }
    for name, recorded in _RECORDED.items():
        if isinstance(features.get(recorded), str):
            options[name] = features[recorded]
    return options


def extraction(
    description: StoreDescription, settings: Mapping[str, Any] | None = None, *, home: Path
) -> str:
    """Return the command that extracts a store as it was, of a dataset in its usual place.

    The settings are what else the manifest of the store records, as far as it can be read.
    """
    settings = settings or {}
    view = {} if description.view is None else options_of_view(description.view)
    # a dataset that the home remembers is named as it is now, any other as it was
    version = version_of(home, description.dataset, description.split, description.source)
    features = {**vars(description), **features_of(description, settings)}
    source = settings.get("source")
    if version is not None:
        data = version.words()
    else:
        options = source if isinstance(source, Mapping) else {}
        data = ["--data", description.dataset, *source_words(options)]
    return extract_command(
        [description.encoder],
        data,
        home=home,
        options={
            **feature_options(features),
            "split": description.split,
            "compile": "compiled_cosine" in settings,
            **view,
        },
        changes=view_changes(view),
    )


def extraction_into(folder: Path) -> tuple[Path, str] | None:
    """Return the home of a store that cannot be read, and the command that extracts it anew.

    Its folder says which dataset, split and encoder it is of, but no more; None where it stands in
    no home.
    """
    home = home_of_features(folder)
    if home is None:
        return None
    dataset, split, name = folder.absolute().parts[-3:]
    encoder = name.rpartition("--")[0]
    data = ["--data", dataset]
    return home, extract_command([encoder], data, home=home, options={"split": split})
