"""Find evaluated images whose files are those of trained ones under other ids.

Bytes tell it whatever the features are: an encoder that sees little sees copies no better than
other images. The files of both datasets are asked for their sizes, and read where two are equal.
Texts that say the same are told by the marks that their pairs keep, see `text_marks`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...featcache.errors import LightalignError, MissingFileError, SpecError, UnreadableItemError
from ...featcache.known_datasets import version_of
from ...featcache.modalities.base import readable_size
from ...featcache.sources.base import Source
from ...featcache.store.key import StoreDescription
from ...featcache.types import Item, Modality
from ..common.progress import SILENT, Progress
from ..inputs.original_dataset import open_recorded, require_as_extracted

_MOST_READ = 100_000  # images whose bytes are read: minutes
_SHOWN = 3  # pairs that a message names


@dataclass(frozen=True, kw_only=True)
class SplitOfData:
    """One split of a dataset, as stores describe it."""

    dataset: str
    split: str
    source: str

    @classmethod
    def of(cls, store: StoreDescription) -> "SplitOfData":
        """Return the split that a store is of."""
        return cls(dataset=store.dataset, split=store.split, source=store.source)


@dataclass(frozen=True, kw_only=True)
class CopiedImages:
    """Evaluated images whose bytes are those of a trained one of another id.

    Attributes:
        pairs: Id of the trained image, by that of the evaluated one.
        unchecked: Why nobody can tell, if so.
    """

    pairs: Mapping[str, str]
    unchecked: tuple[str, ...] = ()


def find_copied_images(
    evaluated: SplitOfData,
    ids: Iterable[str],
    trained: SplitOfData,
    *,
    home: Path,
    progress: Progress = SILENT,
) -> CopiedImages:
    """Return the evaluated images that are byte copies of trained ones under other ids.

    Of drawn datasets there are none: what is drawn twice was not copied.
    """
    try:
        sources = _opened_both(evaluated, trained, home)
        if not all(source.needs_files for source in sources):
            return CopiedImages(pairs={})
        ours, theirs = (
            _by_size(source.items(part.split, Modality.IMAGE), chosen, progress)
            for source, part, chosen in zip(sources, (evaluated, trained), (ids, None), strict=True)
        )
        # files of different sizes cannot be equal, so that most are never read
        sizes = sorted(ours.keys() & theirs.keys())
        if sum(len(ours[size]) + len(theirs[size]) for size in sizes) > _MOST_READ:
            raise SpecError(f"more than {_MOST_READ:,} images have equal sizes and are not read")
    except LightalignError as error:
        where = f"{evaluated.dataset}/{evaluated.split} and {trained.dataset}/{trained.split}"
        reason = f"which evaluated images are copies of trained ones, by the files of {where}"
        return CopiedImages(pairs={}, unchecked=(f"{reason}: {error}",))
    pairs: dict[str, str] = {}
    for size in progress.track(sizes, "compare image files", len(sizes), unit="sizes"):
        trained_of = {_digest(content): name for name, content in reversed(theirs[size])}
        trained_of.pop(None, None)
        for name, content in ours[size]:
            other = trained_of.get(_digest(content))
            if other not in {None, name}:
                pairs[name] = other
    return CopiedImages(pairs=pairs)


def copied_message(pairs: Mapping[str, str]) -> str:
    """Return a sentence on the images that `find_copied_images` has found."""
    named = "; ".join(f"{ours} and {theirs}" for ours, theirs in sorted(pairs.items())[:_SHOWN])
    more = " ..." if len(pairs) > _SHOWN else ""
    return (
        f"leakage: {len(pairs)} evaluated images are copies, byte by byte, of trained ones of "
        f"other ids: {named}{more}"
    )


def _opened_both(first: SplitOfData, second: SplitOfData, home: Path) -> tuple[Source, Source]:
    """Open the datasets of two splits, which must be as extracted; once if they are the same."""
    parts = (first, second)
    versions = [version_of(home, part.dataset, part.split, part.source) for part in parts]
    here = _opened(first, home)
    is_same = first.dataset == second.dataset and versions[0] == versions[1]
    there = here if is_same else _opened(second, home)
    for part, source in zip(parts, (here, there), strict=True):
        if source.needs_files:
            require_as_extracted(source, part.split, part.source)
    return here, there


def _opened(part: SplitOfData, home: Path) -> Source:
    return open_recorded(part.dataset, home=home, split=part.split, fingerprint=part.source)


def _by_size(
    items: Sequence[Item], ids: Iterable[str] | None, progress: Progress
) -> dict[int, list[tuple[str, Item | bytes]]]:
    """Return the id and the file, or the hash, of images by their size; others are left out."""
    chosen = None if ids is None else set(ids)
    by_size: dict[int, list[tuple[str, Item | bytes]]] = defaultdict(list)
    num_read = 0
    for item in progress.track(items, "look at image files", len(items), unit="images"):
        if chosen is not None and item.id not in chosen:
            continue
        if item.path is not None:
            # copies are of one size, so a file whose size is its own need never be read
            size = readable_size(item)
            if size > 0:
                by_size[size].append((item.id, item))
            continue
        # what is in an archive or a table has no size of its own
        num_read += 1
        if num_read > _MOST_READ:
            raise SpecError(f"more than {_MOST_READ:,} images that are no files are not read")
        with suppress(UnreadableItemError):
            content = item.read_bytes()
            by_size[len(content)].append((item.id, hashlib.sha256(content).digest()))
    return by_size


def _digest(content: Item | bytes) -> bytes | None:
    """Return a hash of the bytes of an image, or None where they cannot be read."""
    if isinstance(content, bytes):
        return content
    try:
        return hashlib.sha256(content.read_bytes()).digest()
    except (MissingFileError, UnreadableItemError):
        return None
