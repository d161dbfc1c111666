"""Find out which family reads what lies at a place."""

from collections.abc import Callable, Mapping
from pathlib import Path

from .errors import DatasetFormatError, DatasetNotFoundError, LightalignError, SpecError
from .source import Source

# Those with files of fixed names come first; then tables; then folders of images, of which the one
# that says the most of each image comes first.
OFFICIAL = ("flickr8k", "flickr30k", "cifar10", "cifar100", "tiny-imagenet")
OFFICIAL_TEXTS = ("stsb", "sick", "mrpc", "qqp")
TABLES = ("image-text-table", "text-pair-table")
FOLDERS = ("image-text-files", "image-folder", "images")


def infer_kind(
    place: Path,
    options: Mapping[str, object],
    open_family: Callable[[str, Path, Mapping[str, object]], Source],
) -> str:
    """Return the name of the first family that can read a place.

    Args:
        place: A folder or a file.
        options: Options that the family has to know.
        open_family: Opens a place by a family.

    Raises:
        DatasetNotFoundError: Nothing lies there.
        DatasetFormatError: No family can read it; the message has what the likeliest one says.
    """
    if not place.exists():
        raise DatasetNotFoundError(f"there is neither a folder nor a file at {place}")
    kinds = (*OFFICIAL, *OFFICIAL_TEXTS, *TABLES, *FOLDERS) if place.is_dir() else TABLES
    refusals: dict[str, LightalignError] = {}
    for kind in kinds:
        refusal = refusal_of(kind, place, options, open_family)
        if refusal is None:
            return kind
        refusals[kind] = refusal
    if not place.is_dir():  # most tables are of images, and this says what it lacks
        raise DatasetFormatError(f"{refusals[TABLES[0]]} (read as {TABLES[0]}; else name a --kind)")
    broken = {kind: why for kind, why in refusals.items() if isinstance(why, DatasetFormatError)}
    if broken:
        kind, likeliest = next(iter(broken.items()))
        raise DatasetFormatError(f"{likeliest} (read as {kind}; name another kind by --kind)")
    looked_for = ", ".join(kinds)
    raise DatasetFormatError(f"{place} can be read as none of {looked_for}; name one by --kind")


def refusal_of(
    kind: str,
    place: Path,
    options: Mapping[str, object],
    open_family: Callable[[str, Path, Mapping[str, object]], Source],
) -> LightalignError | None:
    """Return why a family cannot read a place, or None if it can."""
    try:
        open_family(kind, place, options)
    except (DatasetFormatError, DatasetNotFoundError, SpecError) as error:
        return error
    return None
