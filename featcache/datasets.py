"""Find datasets by name and open them; nothing here imports torch."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any

from . import spec
from .errors import SpecError
from .home import expanded
from .registry import Registry
from .source import Source

SOURCES: Registry[Source] = Registry(
    "dataset",
    f"{__package__}.sources",
    Path(__file__).parent / "sources",
    Source,
)


def list_datasets() -> list[tuple[str, str, bool]]:
    """Return (name, title, whether it needs files) of every dataset family, by name."""
    families = [(name, SOURCES.load(name)) for name in SOURCES.names()]
    return [(name, family.title, family.needs_files) for name, family in families]


def parse_data(data: str) -> tuple[str, Path | None]:
    """Split `NAME` or `NAME=PATH` into the name, written with hyphens, and the path.

    Raises:
        SpecError: The name is empty, or `=` is followed by nothing.
    """
    name, equals, path = data.partition("=")
    name = name.strip().replace("_", "-")
    if not name or (equals and not path.strip()):
        raise SpecError(f"--data {data!r} is not of the form NAME or NAME=PATH")
    return name, expanded(Path(path.strip())) if equals else None


def absolute_data(data: str) -> str:
    """Return `NAME` or `NAME=PATH` so that it means the same in any folder."""
    name, path = parse_data(data)
    return name if path is None else f"{name}={path.absolute()}"


def is_drawn(name: str) -> bool:
    """Return whether a dataset is made by its family itself: it has no files, and no place."""
    return name in SOURCES.names() and not SOURCES.load(name).needs_files


def open_source(data: str, *, home: Path, options: Mapping[str, object] | None = None) -> Source:
    """Open the dataset that `NAME` or `NAME=PATH` asks for.

    Args:
        data: Name, and optionally the place; the default place is `home/datasets/NAME`.
        home: Folder of datasets, features and runs.
        options: The dataset's own options.

    Raises:
        UnknownNameError: No dataset has this name.
        SpecError: `data` is malformed or gives a path to a dataset that is drawn, or the dataset
            has no such option or value.
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: The files cannot be understood.
    """
    name, path = parse_data(data)
    family = SOURCES.load(name)
    if path is not None and not family.needs_files:
        raise SpecError(f"--data {data!r}: dataset {name!r} is drawn and read from no path")
    checked: Any = spec.build(_options_of(family), options or {}, where=f"dataset {name!r}")
    factory: Callable[..., Source] = family
    return factory(path or home / "datasets" / name, **vars(checked))


def _options_of(family: type[Source]) -> type:
    """Return a dataclass of the family's keyword-only arguments, to check options against."""
    options = [
        (option.name, option.annotation, field(default=option.default))
        for option in inspect.signature(family).parameters.values()
        if option.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    return make_dataclass("Options", options, frozen=True, kw_only=True)
