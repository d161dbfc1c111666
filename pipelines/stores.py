"""Choose the feature stores that a verb works on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..featcache.catalog import StoreEntry, list_stores
from ..featcache.datasets import open_source, parse_data
from ..featcache.errors import StoreNotFoundError
from ..featcache.registry import unknown_name
from ..featcache.source import Source
from ..featcache.types import Modality
from .progress import SILENT, Progress


@dataclass(frozen=True)
class StorePair:
    """Hold one image store and one text store of the same items.

    Attributes:
        image: Store of the images.
        text: Store of the texts.
    """

    image: StoreEntry
    text: StoreEntry

    @property
    def dataset(self) -> str:
        """Return the name of the dataset."""
        return self.image.description.dataset

    @property
    def split(self) -> str:
        """Return the name of the split."""
        return self.image.description.split

    @property
    def source(self) -> str:
        """Return the fingerprint of the split, the same for both stores."""
        return self.image.description.source

    @property
    def widths(self) -> dict[Modality, int]:
        """Return the features of one token of each modality."""
        return {
            Modality.IMAGE: self.image.description.width,
            Modality.TEXT: self.text.description.width,
        }

    @property
    def changed(self) -> tuple[float, float]:
        """Return when the younger and when the older was last asked for, seconds since the epoch.

        Of two image stores beside one younger text store, the younger one counts.
        """
        times = (self.image.changed, self.text.changed)
        return max(times), min(times)


@dataclass(frozen=True, kw_only=True)
class StoreQuery:
    """Say which stores will do; None means any.

    Attributes:
        split: Name of the split.
        dataset: Name of the dataset.
        source: `Source.fingerprint` of the split.
        image_encoder: Name of the image encoder's card.
        text_encoder: Name of the text encoder's card.
        image_kind: What is kept of the images' tokens, such as `mean`.
        text_kind: What is kept of the texts' tokens.
        image_key: `StoreEntry.encoder_key` of the images.
        text_key: `StoreEntry.encoder_key` of the texts.
    """

    split: str
    dataset: str | None = None
    source: str | None = None
    image_encoder: str | None = None
    text_encoder: str | None = None
    image_kind: str | None = None
    text_kind: str | None = None
    image_key: str | None = None
    text_key: str | None = None

    def matches(self, entry: StoreEntry) -> bool:
        """Say whether `entry` is complete and is what this query asks for."""
        found = entry.description
        image = found.modality == Modality.IMAGE.value
        encoder = self.image_encoder if image else self.text_encoder
        encoder_key = self.image_key if image else self.text_key
        kind = self.image_kind if image else self.text_kind
        return (
            entry.complete
            and found.split == self.split
            and self.dataset in {None, found.dataset}
            and self.source in {None, found.source}
            and encoder in {None, found.encoder}
            and kind in {None, found.kind}
            and encoder_key in {None, entry.encoder_key}
        )

    def describe(self) -> str:
        """Return the query in words."""
        image = f"{self.image_kind or ''} {self.image_encoder or 'any encoder'}".strip()
        text = f"{self.text_kind or ''} {self.text_encoder or 'any encoder'}".strip()
        return (
            f"split {self.split!r} of {self.dataset or 'any dataset'}, images by {image}, "
            f"texts by {text}"
        )


@dataclass(frozen=True)
class WantedData:
    """Say which dataset's stores a verb is to take.

    Attributes:
        name: Name of the dataset, or None for any.
        opened: The dataset itself, where its place or its options were given; else stores go by
            name and the newest is taken.
    """

    name: str | None
    opened: Source | None

    @classmethod
    def of(cls, data: str | None, *, home: Path, options: Mapping[str, Any] | None) -> "WantedData":
        """Read `NAME` or `NAME=PATH`; a path or options open the dataset.

        Raises:
            LightalignError: The dataset cannot be opened.
        """
        if data is None:
            return cls(None, None)
        name, path = parse_data(data)
        if path is None and options is None:
            return cls(name, None)
        return cls(name, open_source(data, home=home, options=options))

    def fingerprint(self, split: str) -> str | None:
        """Return the fingerprint that a store of `split` must have, or None for any.

        Raises:
            UnknownNameError: The opened dataset has no such split.
        """
        if self.opened is None:
            return None
        if split not in self.opened.splits():
            raise unknown_name("split", split, self.opened.splits())
        return self.opened.fingerprint(split)


def newest_pair(home: Path, query: StoreQuery, progress: Progress = SILENT) -> StorePair | None:
    """Return the newest two complete stores that match and hold the same items, or None.

    Where stores of differing items match, as after a dataset has changed, a note says so.
    """
    entries = [entry for entry in list_stores(home) if query.matches(entry)]
    pairs = [
        StorePair(image, text)
        for image in _of(entries, Modality.IMAGE)
        for text in _of(entries, Modality.TEXT)
        if (image.description.dataset, image.description.source)
        == (text.description.dataset, text.description.source)
    ]
    if len({(pair.dataset, pair.source) for pair in pairs}) > 1 and query.dataset is not None:
        progress.note(
            f"several versions of {query.dataset}/{query.split} are in the cache; the one that "
            "was extracted last is taken: name another with --data NAME=PATH"
        )
    return max(pairs, default=None, key=lambda pair: pair.changed)


def require_pair(home: Path, query: StoreQuery, progress: Progress = SILENT) -> StorePair:
    """Return `newest_pair`, or say what is there and what to run.

    Raises:
        StoreNotFoundError: No two complete stores match.
    """
    pair = newest_pair(home, query, progress)
    if pair is not None:
        return pair
    entries = list_stores(home)
    near = [entry for entry in entries if query.dataset in {None, entry.description.dataset}]
    have = sorted({_label(entry) for entry in near or entries})
    data = query.dataset or "flickr30k"
    image = query.image_encoder or "dino-vits16"
    text = query.text_encoder or "distilbert"
    raise StoreNotFoundError(
        f"no image store and text store for {query.describe()} in {home}; "
        f"have: {have or 'none'}; run `lightalign extract --encoder {image} --data {data}` and "
        f"`lightalign extract --encoder {text} --data {data}`"
    )


def _of(entries: Iterable[StoreEntry], modality: Modality) -> list[StoreEntry]:
    return [entry for entry in entries if entry.description.modality == modality.value]


def _label(entry: StoreEntry) -> str:
    state = "" if entry.complete else ", incomplete"
    found = entry.description
    kind = "" if found.kind == "tokens" else f" {found.kind}"
    return f"{found.dataset}/{found.split}/{found.encoder}{kind} ({found.modality}{state})"
