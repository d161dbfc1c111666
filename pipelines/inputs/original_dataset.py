"""Dataset that features were extracted from, found again and compared with what it was."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...featcache.errors import DatasetChangedError, DatasetFormatError, DatasetNotFoundError
from ...featcache.home import plain_place
from ...featcache.known_datasets import place_in, version_of
from ...featcache.sources.base import Source, require_place
from ...featcache.sources.opening import open_source, open_version, parse_data


def open_as_extracted(
    data: str, *, options: Mapping[str, Any] | None, home: Path, split: str, fingerprint: str
) -> Source:
    """Open a dataset that is what its features were extracted from.

    Where the home remembers it, its place and its options are the remembered ones, unless it has
    moved since and another place is named.
    `fingerprint` is that of the split when it was extracted.

    Raises:
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: The files cannot be understood.
        DatasetChangedError: They are others now.
    """
    version = version_of(home, parse_data(data)[0], split, fingerprint)
    gone: DatasetNotFoundError | None = None
    if version is not None:
        try:
            opened = open_version(version, home=home)
            require_as_extracted(opened, split, fingerprint)
        except DatasetNotFoundError as error:
            gone = error
        except (DatasetFormatError, DatasetChangedError):
            # the dataset may have moved: the place that `data` names is tried next
            pass
        else:
            return opened
        options = version.options if options is None else options
    try:
        opened = open_source(data, home=home, options=options)
    except DatasetNotFoundError as error:
        raise gone or error from error
    require_as_extracted(opened, split, fingerprint)
    return opened


def open_there(
    data: str, *, options: Mapping[str, Any] | None, home: Path, split: str, fingerprint: str
) -> Source:
    """Open a dataset at the place that is named, and nowhere else, as it was extracted.

    `data` is `NAME=PATH`; `options` count where the home does not remember the dataset.

    Raises:
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: The files cannot be understood.
        DatasetChangedError: They are others.
        SpecError: The dataset is drawn, and lies nowhere.
    """
    name, place = parse_data(data)
    assert place is not None, "the place is named"
    require_place(place)
    version = version_of(home, name, split, fingerprint)
    if version is None or version.place is None:
        opened = open_source(data, home=home, options=options)
    else:
        there = place_in(version, plain_place(place))
        opened = open_version(replace(version, place=there), home=home)
    require_as_extracted(opened, split, fingerprint)
    return opened


def open_recorded(dataset: str, *, home: Path, split: str, fingerprint: str) -> Source:
    """Open a dataset as the home remembers it of a split, else by its name alone.

    Raises:
        LightalignError: It cannot be opened.
    """
    version = version_of(home, dataset, split, fingerprint)
    return open_source(dataset, home=home) if version is None else open_version(version, home=home)


def require_as_extracted(opened: Source, split: str, fingerprint: str) -> None:
    """Refuse an opened dataset that is not what its features were extracted from.

    Raises:
        DatasetChangedError: It has no such split, or other items there.
    """
    if split not in opened.splits() or opened.fingerprint(split) != fingerprint:
        raise DatasetChangedError(
            f"the dataset in {opened.root} is not the one that was extracted: other ids, texts or "
            "image files"
        )
