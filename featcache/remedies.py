"""Commands that mend, remove or make anew what a message names, to be copied from it."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .description import StoreDescription
from .home import command_line
from .known_datasets import version_of

_OPTIONS = {  # by what a description calls them; what is usual is not named
    "kind": ("features", "tokens"),
    "layer": ("layers", -1),
    "dtype": ("dtype", "float16"),
    "container": ("format", "zarr"),
    "compression": ("compression", "none"),
}


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
    place = folder.absolute()
    homes = place.parents[3:4]
    if not homes or homes[0] / "features" != place.parents[2]:
        return shlex.join(["rm", "-r", str(place)])  # a copy, which stands in no home
    return command_line("cache", "rm", place.relative_to(homes[0] / "features"), home=homes[0])


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

    Args:
        description: The store.
        settings: What else its manifest records, as far as it can be read.
    """
    found = {
        "kind": description.kind,
        "layer": description.layer,
        "dtype": description.dtype,
        "precision": description.identity.get("precision"),
        "weights": (settings or {}).get("weights"),
    }
    return {name: value for name, value in found.items() if value is not None}


def feature_words(features: Mapping[str, Any]) -> list[str]:
    """Return the options of `extract` that make features, where they are not the usual ones.

    The precision is always named, as the usual one is another on another machine.

    Args:
        features: By the names of `features_of`, and `container` and `compression`; others are
            passed over.
    """
    words = []
    for name, (option, usual) in _OPTIONS.items():
        value = features.get(name, usual)
        if value != usual:  # a layer begins with a dash, as options do
            words.append(f"--{option}={value}")
    for name in ("precision", "weights"):
        if isinstance(features.get(name), str):
            words += [f"--{name}", features[name]]
    return words


def extraction(
    description: StoreDescription, settings: Mapping[str, Any] | None = None, *, home: Path
) -> str:
    """Return the command that extracts a store as it was, of a dataset in its usual place.

    Args:
        description: The store.
        settings: What else its manifest records, as far as it can be read.
        home: Folder of everything lightalign keeps.
    """
    settings = settings or {}
    version = version_of(home, description.dataset, description.split, description.source)
    named = ["--data", description.dataset] if version is None else version.words()
    words = ["extract", "--encoder", description.encoder, *named, "--split", description.split]
    words += feature_words({**vars(description), **features_of(description, settings)})
    if "compiled_cosine" in settings:
        words.append("--compile")
    source = settings.get("source") if version is None else None
    for name, value in (source if isinstance(source, Mapping) else {}).items():
        words += ["--set", f"source.{name}={json.dumps(value, ensure_ascii=False)}"]
    return command_line(*words, home=home)


def extraction_into(folder: Path) -> tuple[Path, str] | None:
    """Return the home of a store that cannot be read, and the command that extracts it anew.

    Its folder says which dataset, split and encoder it is of, but no more; None where it stands in
    no home.
    """
    absolute = folder.absolute()
    if len(absolute.parts) < 6 or absolute.parents[2].name != "features":
        return None
    home = absolute.parents[3]
    dataset, split, name = absolute.parts[-3:]
    encoder = name.rpartition("--")[0]
    words = ("--encoder", encoder, "--data", dataset, "--split", split)
    return home, command_line("extract", *words, home=home)
