"""Choose the feature stores that a verb works on."""

import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ...featcache import notes
from ...featcache.encoders.card import card_names, read_card
from ...featcache.encoders.references import card_name, lasting_reference
from ...featcache.errors import (
    DatasetNotFoundError,
    LightalignError,
    SpecError,
    StoreCorruptError,
    StoreNotFoundError,
)
from ...featcache.home import command_line
from ...featcache.known_datasets import DatasetVersion, newest, read_versions, version_of
from ...featcache.links import Links
from ...featcache.modalities import known_sides, reader_of
from ...featcache.registry import close_names, unknown_name
from ...featcache.sources.base import Source
from ...featcache.sources.opening import (
    SOURCES,
    define,
    is_drawn,
    open_defined,
    open_version,
    parse_data,
)
from ...featcache.store.catalog import StoreEntry, pairs_path, read_catalog, read_pairs
from ...featcache.store.key import StoreDescription
from ...featcache.store.manifest import has_manifest, read_whole_manifest
from ...featcache.store.remedies import extract_command, extraction, feature_options, features_of
from ...featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality, Side, Sides, sides_of, twins
from ..common.progress import SILENT, Progress

_T = TypeVar("_T")
OPTION_SIDES = ("image", "text", "second_text")  # those with options of their own


class FurtherStream(Side):
    """Place of a stream of a side beside its first, called `image-2` and so on.

    Attributes:
        side: The side that reads it.
    """

    side: Side

    def __new__(cls, side: Side, number: int) -> "FurtherStream":
        """Return the place of the stream of this number, from 2."""
        stream: FurtherStream = cls._intern(f"{side.value}-{number}", side.modality)
        stream.side = side
        return stream

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.side, int(self.value.rpartition("-")[2])

    @property
    def label(self) -> str:
        """Return the name of the side in words."""
        return self.side.label


def by_stream(streams: Mapping[Side, Sequence[_T]]) -> dict[Side, _T]:
    """Return what there is of each stream by its place: that of the first is the side itself."""
    return {
        FurtherStream(side, number) if number > 1 else side: each
        for side, of_side in streams.items()
        for number, each in enumerate(of_side, start=1)
    }


def sides_asked(places: Iterable[Side]) -> Sides:
    """Return both sides of the places of their streams."""
    return sides_of([place for place in places if not isinstance(place, FurtherStream)])


@dataclass(frozen=True)
class StorePair:
    """Stores of both sides, of items of the same dataset.

    Attributes:
        first: Store of the first side, such as the images.
        second: Store of the second side, such as the texts; between two encoders of one modality it
            may be the first.
        further: Further stores of the same items that a side reads beside it, in order.

    Raises:
        SpecError: Two streams of a side are one store, or of other items than its first.
    """

    first: StoreEntry
    second: StoreEntry
    further: Mapping[Side, tuple[StoreEntry, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for side, (first, *further) in self.streams.items():
            before = {first.key}
            for entry in further:
                _check_stream(side, entry, first, before)
                before.add(entry.key)

    @classmethod
    def of(cls, entries: Mapping[Side, StoreEntry]) -> "StorePair":
        """Return the stores that answer a query for each stream of both sides."""
        first, second = sides_asked(entries)
        further: dict[Side, tuple[StoreEntry, ...]] = {}
        for place, entry in entries.items():
            if isinstance(place, FurtherStream):
                further[place.side] = (*further.get(place.side, ()), entry)
        return cls(entries[first], entries[second], further)

    @property
    def sides(self) -> Sides:
        """Return what both sides are."""
        first, second = (Modality(e.description.modality) for e in (self.first, self.second))
        return twins(first) if first is second else sides_of([first, second])

    @property
    def entries(self) -> dict[Side, StoreEntry]:
        """Return the store of each side, of several the first."""
        return dict(zip(self.sides, (self.first, self.second), strict=True))

    @property
    def streams(self) -> dict[Side, tuple[StoreEntry, ...]]:
        """Return all stores of each side."""
        return {side: (entry, *self.further.get(side, ())) for side, entry in self.entries.items()}

    @property
    def num_streams(self) -> dict[Side, int]:
        """Return how many streams each side has."""
        return {side: len(entries) for side, entries in self.streams.items()}

    @property
    def stores(self) -> dict[str, StoreEntry]:
        """Return all stores by what reports call them: `image`, `image-2`, `text`."""
        return {place.value: entry for place, entry in by_stream(self.streams).items()}

    @property
    def dataset(self) -> str:
        """Return the name of the dataset."""
        return self.first.description.dataset

    @property
    def split(self) -> str:
        """Return the name of the split."""
        return self.first.description.split

    @property
    def source(self) -> str:
        """Return the fingerprint of the split, the same for both stores."""
        return self.first.description.source

    @property
    def widths(self) -> dict[Side, int | tuple[int, ...]]:
        """Return the features of one token of each side, or of each stream of several."""
        widths = {
            side: tuple(entry.description.width for entry in entries)
            for side, entries in self.streams.items()
        }
        return {side: each if each[1:] else each[0] for side, each in widths.items()}


def _check_stream(side: Side, entry: StoreEntry, first: StoreEntry, before: Container[str]) -> None:
    """Pass if a further store of a side is another one, of the same items as its first.

    Raises:
        SpecError: It is not.
    """
    store, other = entry.description, first.description
    if entry.key in before:
        raise SpecError(
            f"two streams of the {side.label} side are one store, {store.encoder} ({store.what}): "
            "name each encoder, layer and kind of features once"
        )
    for name in ("modality", "dataset", "split", "source"):
        if getattr(store, name) != getattr(other, name):
            raise SpecError(
                f"streams of the {side.label} side are of the same items: {store.encoder} is of "
                f"{name} {getattr(store, name)!r:.40}, {other.encoder} of "
                f"{getattr(other, name)!r:.40}"
            )


@dataclass(frozen=True, kw_only=True)
class SideQuery:
    """Query for the store of one side; None matches any.

    Attributes:
        kind: What is kept of the tokens, such as `mean`.
        layer: Which of the encoder's layers, counted from the end.
        key: `StoreEntry.encoder_key`.
        reference: What names the encoder in a command; the name of its card if None.
        features: What a store has to be extracted with to do, as `features_of` has it.
        example: A store that would do, of another split perhaps, or None.
    """

    encoder: str | None = None
    kind: str | None = None
    layer: int | None = None
    key: str | None = None
    reference: str | None = field(default=None, compare=False)
    features: Mapping[str, Any] = field(default_factory=dict, compare=False)
    example: StoreEntry | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls, reference: str | None, *, kind: str | None = None, layer: int | None = None
    ) -> "SideQuery":
        """Return the query for what `--encoder` names: a card's name, its file, or a model."""
        features = {"kind": kind, "layer": layer}
        return cls(
            encoder=None if reference is None else card_name(reference),
            kind=kind,
            layer=layer,
            reference=None if reference is None else lasting_reference(reference),
            features={name: value for name, value in features.items() if value is not None},
        )

    @classmethod
    def like(cls, entry: StoreEntry) -> "SideQuery":
        """Return the query for stores of the encoder and the features of another one."""
        encoder = entry.description.encoder
        return cls(encoder=encoder, key=entry.encoder_key, example=entry)

    def extraction(
        self,
        data: Sequence[str],
        *,
        home: Path,
        split: str | None = None,
        modality: Modality = Modality.IMAGE,
    ) -> str:
        """Return the command that makes a store which will do.

        `data` are the options that name the dataset; `modality` counts where any encoder will do.
        """
        features = self.features
        if self.example is not None:
            settings = read_whole_manifest(self.example.folder)["settings"]
            features = features_of(self.example.description, settings)
        encoder = self.reference or self.encoder or reader_of(modality).usual_encoder
        options = {**feature_options(features), "split": split}
        return extract_command([encoder], data, home=home, options=options)

    def matches(self, entry: StoreEntry) -> bool:
        """Return whether `entry` is of this encoder and kind."""
        return (
            self.encoder in {None, entry.description.encoder}
            and self.kind in {None, entry.description.kind}
            and self.layer in {None, entry.description.layer}
            and self.key in {None, entry.encoder_key}
        )

    def describe(self) -> str:
        """Return the query in words."""
        layer = "" if self.layer is None else f" layer {self.layer}"
        return f"{self.kind or ''} {self.encoder or 'any encoder'}{layer}".strip()


@dataclass(frozen=True, kw_only=True)
class StoreQuery:
    """Query for stores of the same items, one for each side; None matches any.

    Attributes:
        source: `Source.fingerprint` of the split.
        by_side: What each side asks for, in order; any number of sides.
        data: Options that name the dataset in a command; None for its name alone.
        splits: Fingerprint of every split of the dataset, where they are known.
        others: Fingerprints of other data that have the name.
        is_of_run: Whether the dataset is what a run was trained on, which an extraction brings only
            where its place still holds the same.
    """

    split: str
    by_side: Mapping[Side, SideQuery]
    dataset: str | None = None
    source: str | None = None
    data: Sequence[str] | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    is_of_run: bool = False

    @classmethod
    def of(
        cls, data: "DatasetQuery", split: str, by_side: Mapping[Side, SideQuery]
    ) -> "StoreQuery":
        """Return the query for stores of a dataset.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        return cls(
            split=split,
            dataset=data.name,
            source=data.fingerprint(split),
            by_side=by_side,
            data=data.words if data.name else None,
            splits={} if data.version is None else data.version.splits,
            others=data.others,
            is_of_run=data.is_of_run,
        )

    def matching(self, entries: Iterable[StoreEntry], side: Side) -> list[StoreEntry]:
        """Return the complete stores among `entries` that will do for `side`."""
        return [
            entry
            for entry in entries
            if entry.complete
            and entry.description.modality == side.modality.value
            and entry.description.split == self.split
            and self.dataset in {None, entry.description.dataset}
            and self.source in {None, entry.description.source}
            and entry.description.source not in self.others
            and self.by_side[side].matches(entry)
        ]

    @property
    def place(self) -> str:
        """Return where such stores lie, as `read_catalog` takes it."""
        return f"{self.dataset or '*'}/{self.split}"

    def describe(self) -> str:
        """Return the query in words."""
        by_side = [f"{side.label}s by {asked.describe()}" for side, asked in self.by_side.items()]
        dataset = self.dataset or "any dataset"
        return f"split {self.split!r} of {dataset}, {', '.join(by_side)}"


@dataclass(frozen=True)
class DatasetQuery:
    """Query for the stores of one dataset.

    Attributes:
        name: Name of the dataset, or None for any.
        opened: The dataset itself, where its place or its options were given.
        version: What its name stands for, or stood for when a run was trained on it; None where it
            is opened, and where nobody knows: then stores go by name and the newest is taken.
        asked: What was given, of a dataset that is opened.
        is_of_run: Whether it is what a run was trained on.
        others: Fingerprints of what else has its name, where its own are not known.
        is_remembered: Whether its name alone stands for it.
    """

    name: str | None
    opened: Source | None
    version: DatasetVersion | None = None
    asked: DatasetVersion | None = None
    is_of_run: bool = False
    others: frozenset[str] = frozenset()
    is_remembered: bool = False

    @classmethod
    def of(
        cls, data: str | None, *, home: Path, options: Mapping[str, Any] | None
    ) -> "DatasetQuery":
        """Read `NAME` or `NAME=PATH`: a name is what it stands for by now.

        A path or options open the dataset.

        Raises:
            LightalignError: The dataset cannot be opened, or what the home remembers of the name
                not be read.
        """
        if data is None:
            return cls(None, None)
        name, path = parse_data(data)
        if path is not None or options is not None:
            asked, opened = open_defined(data, home=home, options=options)
            return cls(name, opened, asked=asked, is_remembered=is_remembered(home, asked))
        version = newest(home, name)
        if version is None:
            require_name(home, name)
        if version is None or not version.splits:
            return cls(name, None)
        return cls(name, None, version, is_remembered=is_remembered(home, version))

    @classmethod
    def of_trained(
        cls,
        data: str | None,
        trained: Mapping[str, Any],
        *,
        home: Path,
        options: Mapping[str, Any] | None,
        splits: Mapping[str, str] | None = None,
    ) -> "DatasetQuery":
        """Read as `of` does; where nothing is named, what was trained on keeps its identity.

        It does so, too, under a name that the home has forgotten.
        `trained` is what `provenance.describe_pair` wrote of the training stores, and `splits` the
        fingerprint of every split of the dataset, as the run has kept them.

        Raises:
            LightalignError: The dataset cannot be opened.
        """
        name = str(trained["dataset"])
        if options is not None or data is not None:
            is_forgotten = options is None and parse_data(data or name) == (name, None)
            if not is_forgotten or newest(home, name) is not None:
                return cls.of(data or name, home=home, options=options)
        version = version_of(home, name, trained["split"], trained["source"])
        # the run's own record counts: the home may have forgotten the name, or learnt of another
        # version
        if splits:
            version = replace(
                version or DatasetVersion(name=name, kind=name, place=None), splits=splits
            )
        others: frozenset[str] = frozenset()
        # runs of early versions recorded no splits and the home never knew their data: all that it
        # knows
        # under the name is other data
        if version is None:
            versions = read_versions(home, name)
            others = frozenset(
                source for past_version in versions for source in past_version.splits.values()
            )
        return cls(name, None, version, is_of_run=True, others=others)

    @property
    def words(self) -> list[str]:
        """Return the options that name the dataset in a command that people can copy."""
        named = self.version or self.asked
        if self.asked is not None and self.is_remembered:
            # a place that was typed is shown as it was typed
            return ["--data", self.asked.data]
        if named is None or self.is_remembered:
            return ["--data", str(self.name)]
        return named.words()

    def is_of(self, description: StoreDescription) -> bool:
        """Return whether a store is of the dataset, as far as that is known."""
        if self.name not in {None, description.dataset} or not self.has_split(description.split):
            return False
        is_other = description.source in self.others
        return not is_other and self.fingerprint(description.split) in {None, description.source}

    def has_split(self, split: str) -> bool:
        """Return whether the dataset has a split, as far as that is known."""
        if self.version is not None:
            return split in self.version.splits
        return self.opened is None or split in self.opened.splits()

    def fingerprint(self, split: str) -> str | None:
        """Return the fingerprint that a store of `split` must have, or None for any.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        if self.version is not None:
            if split not in self.version.splits:
                raise unknown_name("split", split, self.version.splits)
            return self.version.splits[split]
        if self.opened is None:
            return None
        if split not in self.opened.splits():
            raise unknown_name("split", split, self.opened.splits())
        return self.opened.fingerprint(split)


def is_remembered(home: Path, version: DatasetVersion) -> bool:
    """Return whether the name of a dataset alone stands for it, with its place and its options.

    A drawn family itself has its defaults each time.
    """
    latest = newest(home, version.name)
    if latest is None or (is_drawn(version.kind) and version.name == version.kind):
        return False
    named = (version.kind, version.place, version.options)
    return (latest.kind, latest.place, latest.options) == named


def require_name(home: Path, name: str) -> None:
    """Refuse a name that stands for nothing; a note says that stores go by one that is forgotten.

    Raises:
        UnknownNameError: No family, no dataset that the home remembers and no store is called so.
    """
    if name in SOURCES.names():
        return
    if not (home / "features" / name).is_dir():
        # `define` refuses the name and lists those that are known
        define(name, home=home)
    notes.note(
        f"{home} does not remember what {name!r} stands for: the newest stores of that name are "
        f"taken; `{command_line('data', 'add', name, 'PATH', home=home)}` says it"
    )


def usual_split(
    home: Path, data: DatasetQuery, query: SideQuery, names: Sequence[str] = ("test", "val")
) -> str:
    """Return the split to evaluate where none is named: the first of `names` that has a store.

    Where none has one it is the first that the dataset has.

    Raises:
        StoreCorruptError: An earlier one may have such a store, as one in it cannot be read.
    """
    catalog = read_catalog(home, f"{data.name or '*'}/*")
    # a split without a store of this encoder cannot be evaluated, so the first that has one is
    # taken
    there = {
        entry.description.split
        for entry in catalog.entries
        if entry.complete and data.is_of(entry.description) and query.matches(entry)
    }
    possible = [name for name in names if data.has_split(name)] or names
    chosen = next((name for name in names if name in there), possible[0])
    before = names[: names.index(chosen)]
    for unread in catalog.unread:
        # dataset, split and store, as far as it is
        _, *below = unread.folder.relative_to(home).parts
        if below[1:2] and below[1] in before:
            raise StoreCorruptError(
                f"{unread}; split {chosen} is not taken in its place: name one by --split"
            )
    return chosen


def choose_sides(
    *,
    image: Sequence[SideQuery],
    text: Sequence[SideQuery],
    second_text: Sequence[SideQuery],
    others: Mapping[str, Sequence[SideQuery]] | None = None,
    home: Path,
) -> dict[Side, SideQuery]:
    """Return what each stream of both sides asks for, by its place; see `by_stream`.

    The sides are images and texts, or two texts where a second is named, or those of `others` by
    their names, beside which images and texts count where something of them is named. A side that
    is named alone is aligned to texts.

    Raises:
        SpecError: Images are asked for beside two texts, or one of two encoders of a modality is
            not named, or an encoder reads something else.
    """
    anything = [SideQuery()]
    if others:
        given = {"image": image, "text": text, "second_text": second_text}
        if list(second_text) != anything:
            given["first_text"] = given.pop("text")
        named = {name: list(asked) for name, asked in given.items() if list(asked) != anything}
        return _sides_named({**named, **others}, home=home)
    if list(second_text) == anything:
        return by_stream({Modality.IMAGE: image, Modality.TEXT: text})
    if list(image) != anything:
        raise SpecError(
            "an adapter aligns two sides, and images would be a third beside two text encoders: "
            "leave out --image-encoder and --image-features, or the second text encoder"
        )
    for name in (asked.encoder for asked in (*text, *second_text)):
        if name is None:
            raise SpecError(
                "between two text encoders both are named, by --text-encoder and "
                f"--second-text-encoder; found {text[0].encoder} and {second_text[0].encoder}"
            )
        _check_modality(name, Modality.TEXT, home=home)
    return by_stream(dict(zip(TEXT_TEXT, (text, second_text), strict=True)))


def _sides_named(
    streams: Mapping[str, Sequence[SideQuery]], *, home: Path
) -> dict[Side, SideQuery]:
    """Return what each stream of both sides asks for, of sides that are named.

    Raises:
        SpecError: They are not two that go together, one of two encoders of a modality is not
            named, or an encoder reads something else.
    """
    anything = [SideQuery()]
    names = list(streams)
    if len(names) == 1:
        names.append(
            Modality.TEXT.value if names != [Modality.TEXT.value] else Modality.IMAGE.value
        )
    sides = known_sides(names)
    for side in sides:
        for asked in streams.get(side.value, anything):
            if asked.encoder is not None:
                _check_modality(asked.encoder, side.modality, home=home)
            elif not isinstance(side, Modality):
                raise SpecError(
                    f"between two encoders of {reader_of(side.modality).plural} both are named, "
                    f"such as by --encoder {side.value}=NAME"
                )
    return by_stream({side: streams.get(side.value, anything) for side in sides})


def _check_modality(encoder: str, expected: Modality, *, home: Path) -> None:
    """Pass unless an encoder with a card reads other items than these.

    Raises:
        SpecError: It does.
    """
    modality = read_card(encoder, home=home).modality if encoder in card_names(home) else expected
    if modality is not expected:
        raise SpecError(
            f"encoder {encoder!r} reads {reader_of(modality).plural}, not "
            f"{reader_of(expected).plural}"
        )


def stream_queries(
    side: str,
    encoders: Sequence[str],
    *,
    kinds: Sequence[str] = (),
    layers: Sequence[int] = (),
) -> list[SideQuery]:
    """Return the query for each stream of a side; an empty list matches any.

    What is named once is of all streams, what is named several times of each in turn: two encoders
    and one kind are two streams, and so are one encoder and two layers.

    Args:
        side: Name of the side in options, such as `image`.
        encoders: Names of the encoders.
        kinds: What is kept of the tokens.
        layers: Layers, counted from the end.

    Raises:
        SpecError: Two of them are named several times, and not as often; or several streams are to
            be of an encoder that is not named.
    """
    encoder_option, *options = (option_of(side, what) for what in ("encoder", "features", "layers"))
    named: dict[str, list[Any]] = dict(
        zip((encoder_option, *options), map(list, (encoders, kinds, layers)), strict=True)
    )
    count = max(1, *map(len, named.values()))
    for option, values in named.items():
        if len(values) not in {0, 1, count}:
            longest = next(other for other, others in named.items() if len(others) == count)
            raise SpecError(
                f"{option} names {len(values)} and {longest} {count}: name one for all streams of "
                "a side, or one for each in the same order"
            )
    if count > 1 and not encoders:
        raise SpecError(f"several streams are of encoders that are named, by {encoder_option}")

    def each(values: list[Any]) -> list[Any]:
        return (values or [None]) * (1 if len(values) == count else count)

    return [
        SideQuery.of(encoder, kind=kind, layer=layer)
        for encoder, kind, layer in zip(*map(each, named.values()), strict=True)
    ]


def option_of(side: str, what: str) -> str:
    """Return the option that names the encoder, the features or the layers of a side."""
    flag = side.replace("_", "-")
    return f"--{flag}-{what}" if side in OPTION_SIDES else f"--{what} {side}="


def evaluation_query(stores: StorePair, split: str, data: DatasetQuery) -> StoreQuery:
    """Return the query for another split with the same dataset and the same encoders."""
    by_side = {place: SideQuery.like(entry) for place, entry in by_stream(stores.streams).items()}
    return replace(StoreQuery.of(data, split, by_side), dataset=stores.dataset)


def matching_stores(
    home: Path, query: StoreQuery, progress: Progress = SILENT
) -> dict[Side, list[StoreEntry]] | None:
    """Return all stores that will do for each side, newest first, or None where a side has none.

    They are of the same items. Of several versions of a dataset, as after it has changed, the one
    that was extracted last is taken, and a note says so; another one names what is damaged.
    """
    catalog = read_catalog(home, query.place)
    if catalog.unread:
        more = f", as are {len(catalog.unread) - 1} more" if len(catalog.unread) > 1 else ""
        progress.note(
            f"a store is passed over{more}: {catalog.unread[0]}; see "
            f"`{command_line('cache', 'verify', home=home)}`"
        )
    # stores are grouped by their items first: sides of two versions of a dataset never meet
    versions: dict[tuple[str, str], dict[Side, list[StoreEntry]]] = {}
    for side in query.by_side:
        for entry in query.matching(catalog.entries, side):
            version = entry.description.dataset, entry.description.source
            stores = versions.setdefault(version, {asked: [] for asked in query.by_side})
            stores[side].append(entry)
    whole = [stores for stores in versions.values() if all(stores.values())]
    if len(whole) > 1 and query.dataset is not None:
        # what is drawn lies nowhere: no other place can be named
        way = f"name another with --data {query.dataset}=PATH"
        if is_drawn(query.dataset):
            num = len(whole)
            way = f"remove the stores of the others, {num - 1} of {num}, to take one"
        progress.note(
            f"several versions of {query.place} are in the cache; the one that was extracted last "
            f"is taken: {way}"
        )
    return max(
        whole, default=None, key=lambda stores: _times(entries[0] for entries in stores.values())
    )


def choose_stores(
    home: Path, query: StoreQuery, progress: Progress = SILENT
) -> dict[Side, StoreEntry] | None:
    """Return the newest store of each side, all of the same items, or None where a side has none.

    They keep one kind of features where that can be: `extract --features tokens,mean` makes two
    stores of each side, and nobody has asked for the means of one with the tokens of another.
    """
    stores = matching_stores(home, query, progress)
    if stores is None:
        return None
    newest = {side: entries[0] for side, entries in stores.items()}
    by_kind: dict[str, dict[Side, StoreEntry]] = {}
    for side, entries in stores.items():
        for entry in entries:
            if entry.description.encoder == newest[side].description.encoder:
                by_kind.setdefault(entry.description.kind, {}).setdefault(side, entry)
    alike = (chosen for chosen in by_kind.values() if len(chosen) == len(stores))
    return max(alike, default=newest, key=lambda chosen: _times(chosen.values()))


def _times(entries: Iterable[StoreEntry]) -> list[float]:
    """Return when stores were last asked for, the youngest first: by it versions are compared."""
    # of two image stores beside one younger text store the younger one counts
    return sorted((entry.changed for entry in entries), reverse=True)


def require_stores(
    home: Path, query: StoreQuery, progress: Progress = SILENT
) -> dict[Side, StoreEntry]:
    """Return the stores of a query, or refuse it with those that are there and what to run.

    Raises:
        LightalignError: See `refuse`.
    """
    return choose_stores(home, query, progress) or refuse(home, query)


def newest_pair(home: Path, query: StoreQuery, progress: Progress = SILENT) -> StorePair | None:
    """Return `choose_stores` of two sides as a pair."""
    stores = choose_stores(home, query, progress)
    return None if stores is None else StorePair.of(stores)


def require_pair(home: Path, query: StoreQuery, progress: Progress = SILENT) -> StorePair:
    """Return `require_stores` of two sides as a pair."""
    return StorePair.of(require_stores(home, query, progress))


def recorded_pair(
    home: Path,
    recorded: Mapping[str, Any],
    *,
    run: str,
    encoders: Mapping[str, Any] | None = None,
) -> StorePair:
    """Return the stores that a run records, whatever newer ones there are.

    `recorded` is what `provenance.describe_pair` wrote, `encoders` what `describe_encoders` did.

    Raises:
        SpecError: The record is not one of ours.
        StoreNotFoundError: One of them is not there, or not complete.
    """
    stored = read_catalog(home)
    sides = recorded_sides(recorded)
    by_side: dict[Side, list[StoreEntry]] = {}
    for side in sides:
        by_side[side] = []
        recorded_side = recorded.get(side.value), (encoders or {}).get(side.value)
        for store, encoder in recorded_streams(*recorded_side):
            if not isinstance(store.get("key"), str):
                raise SpecError(f"the spec of run {run} does not name its {side.label} store")
            entry = stored.get(store["key"])
            if entry is None:
                raise StoreNotFoundError(
                    f"run {run} is trained on store {store['key'][:12]}, which "
                    f"{stored.why_missing(store['key'])}: extract it again by "
                    f"`{extract_again(home, recorded, store, encoder)}`"
                )
            by_side[side].append(entry)
    return StorePair.of(by_stream(by_side))


def recorded_sides(recorded: Mapping[str, Any]) -> Sides:
    """Return the two sides whose stores `provenance.describe_pair` wrote.

    Where there are not two, they are images and texts, so that the missing one is named.

    Raises:
        SpecError: There is no such side.
    """
    names = [name for name, value in recorded.items() if isinstance(value, Mapping)]
    return known_sides(names) if len(names) == 2 else IMAGE_TEXT


def recorded_streams(
    stores: Any, encoders: Any = None
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return what a run records of the store and of the encoder of each stream of a side.

    Early runs recorded no encoders, of which there is nothing then.
    """
    streams = each_recorded(stores)
    encoders_of_side = each_recorded(encoders)
    encoders_of_side += [{}] * (len(streams) - len(encoders_of_side))
    return list(zip(streams, encoders_of_side[: len(streams)], strict=True))


def each_recorded(of_side: Any) -> list[Mapping[str, Any]]:
    """Return the record of each stream of a side, of its stores or of its encoders.

    That of a side is that of its first stream, in which `further` lists the others.
    """
    if not isinstance(of_side, Mapping):
        return [{}]
    further = of_side.get("further", [])
    return [of_side, *(each for each in further if isinstance(each, Mapping))]


def require_there(pairs: Iterable[StorePair | None]) -> None:
    """Pass if stores that are being read are still there; what is mapped would not show it.

    Raises:
        StoreNotFoundError: One was removed meanwhile.
    """
    require_entries_there(entry for pair in pairs if pair for entry in pair.stores.values())


def require_entries_there(entries: Iterable[StoreEntry]) -> None:
    """Pass if stores that are being read are still there; see `require_there`.

    Raises:
        StoreNotFoundError: One was removed meanwhile.
    """
    for entry in entries:
        if not has_manifest(entry.folder):
            again = extraction(entry.description, home=entry.folder.absolute().parents[3])
            raise StoreNotFoundError(
                f"store {entry.folder} was removed while it was being read: extract it again by "
                f"`{again}`"
            )


def extract_again(
    home: Path,
    recorded: Mapping[str, Any],
    store: Mapping[str, Any],
    encoder: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that extracts a recorded store, of a dataset where it is remembered.

    `store` and `encoder` are what `provenance` wrote of one side, in `describe_pair` and, as far as
    it is known, in `describe_encoders`.
    """
    dataset, split = str(recorded.get("dataset")), str(recorded.get("split"))
    version = version_of(home, dataset, split, str(recorded.get("source")))
    data = ["--data", dataset] if version is None else version.words()
    asked = SideQuery(
        encoder=str(store.get("encoder")), features=recorded_features(store, encoder or {})
    )
    return asked.extraction(data, split=split, home=home)


def recorded_features(store: Mapping[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run records of the features of one side, as `features_of` has it.

    `store` and `encoder` are as in `extract_again`; early runs have nothing of the encoder.
    """
    identity = encoder.get("identity", {})
    recorded = {**store, **encoder, "precision": identity.get("precision")}
    names = ("kind", "layer", "dtype", "precision", "weights")
    return {name: recorded[name] for name in names if recorded.get(name) is not None}


def refuse(home: Path, query: StoreQuery) -> NoReturn:
    """Refuse a query that no stores answer, with what is there and what to run.

    Raises:
        SpecError: The dataset holds graded pairs of texts, which belong to no image.
        DatasetNotFoundError: The dataset is not where it is remembered.
        StoreNotFoundError: In all other cases.
    """
    catalog = read_catalog(home)
    if len(query.by_side) > 1 and query.dataset is not None:
        _require_pairs(home, query, catalog.entries)
    # stores of other modalities would not help, and are not listed
    modalities = {side.modality.value for side in query.by_side}
    entries = [entry for entry in catalog.entries if entry.description.modality in modalities]
    near = [entry for entry in entries if query.dataset in {None, entry.description.dataset}]
    have = sorted({_label_of(entry, query) for entry in near or entries})
    missing = {
        side: asked for side, asked in query.by_side.items() if not query.matching(entries, side)
    }
    partner = None if query.dataset else _partner(home, query, missing, entries)
    if not missing or (query.dataset is None and partner is None):
        # every side has stores, but no two are of the same items: all have to be extracted anew
        missing = dict(query.by_side)
    data = query.data or ["--data", query.dataset or "flickr30k"]
    if partner is not None and query.data is None:
        store = partner.description
        version = version_of(home, store.dataset, store.split, store.source)
        data = ["--data", store.dataset]
        if version is not None and not is_remembered(home, version):
            data = version.words()
    close = {side: _close_stores(asked, side, near) for side, asked in missing.items()}
    commands = []
    for side, asked in missing.items():
        is_encoder = asked.reference != asked.encoder or asked.encoder in card_names(home)
        # the name is no encoder's, so that no extraction could make it: a close name was meant
        if close[side] and not is_encoder:
            continue
        before = _as_before(asked, side, near, dataset=query.dataset)
        command = before.extraction(data, home=home, modality=side.modality)
        commands.append(f"`{command}`")
    names = " and ".join(f"{side.label} store" for side in missing)
    similar = list(dict.fromkeys(name for names_of in close.values() for name in names_of))
    # an extraction is no advice where the dataset is gone or is another one
    _require_data(home, query)
    like = any(
        entry.complete
        and entry.description.split == query.split
        and replace(asked, key=None).matches(entry)
        for asked in missing.values()
        if asked.key is not None
        for entry in near
    )
    exactly = ", of the same layer, tokens, type and precision," if like else ""
    asked_for = f"{names} for {query.describe()}{exactly} in {home}"
    unread = read_catalog(home, query.place).unread
    # a store that cannot be read may be the very one: to extract it again would not mend it
    if unread:
        raise StoreNotFoundError(
            f"{unread[0]}; no other {asked_for}; have: {have or 'none'}; see "
            f"`{command_line('cache', 'verify', home=home)}`"
        )
    raise StoreNotFoundError(
        f"no {asked_for}; have: {have or 'none'}"
        f"{catalog.unread_line()}{f'; close: {similar}' if similar else ''}; "
        + (f"run {' and '.join(dict.fromkeys(commands))}" if commands else "name one of these")
    )


def _partner(
    home: Path, query: StoreQuery, missing: Container[Side], entries: Sequence[StoreEntry]
) -> StoreEntry | None:
    """Return the newest store of a side that is there, of a dataset that pairs it with others."""
    there = [side for side in query.by_side if side not in missing]
    if not missing or not there:
        return None
    for entry in query.matching(entries, there[0]):
        store = entry.description
        path = pairs_path(home, store.dataset, store.split, store.source)
        if path.is_file() and any(map(len, read_pairs(path).pairs.values())):
            return entry
    return None


def _close_stores(asked: SideQuery, side: Side, entries: Iterable[StoreEntry]) -> list[str]:
    """Return encoders with stores whose names are like one that has none and was asked for."""
    if asked.encoder is None or asked.key is not None:
        return []
    names = {
        entry.description.encoder
        for entry in entries
        if entry.description.modality == side.modality.value
    }
    return [] if asked.encoder in names else close_names(asked.encoder, names)


def _as_before(
    asked: SideQuery, side: Side, entries: Sequence[StoreEntry], *, dataset: str | None
) -> SideQuery:
    """Return a query by the encoder and features of the newest store of a side, if it has none."""
    # what a name stood for before was extracted as its user wants it
    if asked != SideQuery() or dataset is None:
        return asked
    stores = (entry for entry in entries if entry.description.modality == side.modality.value)
    newest_store = next(stores, None)
    return asked if newest_store is None else SideQuery.like(newest_store)


def _require_data(home: Path, query: StoreQuery) -> None:
    """Pass unless a dataset is gone or holds other data: no extraction brings what is asked for."""
    if query.dataset is None or query.source is None or not query.splits:
        return
    try:
        version = version_of(home, query.dataset, query.split, query.source)
        version = version or newest(home, query.dataset)
        if version is None:
            return
        source = open_version(version, home=home)
        there = query.split in source.splits() and source.fingerprint(query.split) == query.source
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(
            f"no stores for {query.describe()} in {home}; {error}"
        ) from error
    except LightalignError:
        # a dataset that cannot be read is refused by the extraction, in its own words
        return
    if not there and query.is_of_run:
        place = source.root if version.place is None else version.place
        raise StoreNotFoundError(
            f"no stores of split {query.split!r} of {query.dataset} as it was when the run was "
            f"trained, and {place} holds other data by now (ids, texts or image files): "
            f"--data {shlex.quote(version.data)} measures what is there now"
        )


def _require_pairs(home: Path, query: StoreQuery, entries: Iterable[StoreEntry]) -> None:
    """Refuse a dataset of which nothing can belong together, whatever is extracted of it."""
    for entry in entries:
        store = entry.description
        path = pairs_path(home, store.dataset, store.split, store.source)
        if store.dataset != query.dataset or not path.is_file():
            continue
        pairs = read_pairs(path)
        modalities = dict.fromkeys(side.modality for side in query.by_side)
        lacking = [modality for modality in modalities if not len(pairs.ids_of(modality))]
        if store.split == query.split and lacking:
            there = " and ".join(
                reader_of(modality).plural for modality in pairs.ids if len(pairs.ids[modality])
            )
            wanted = reader_of(lacking[0]).plural
            raise StoreNotFoundError(
                f"dataset {store.dataset!r} has {there} and no {wanted}, so there are no "
                f"pairs to align or to retrieve: name a dataset with {wanted}, see "
                "`lightalign list datasets`"
            )
        refuse_graded(pairs, store.dataset, home=home)


def refuse_graded(pairs: Links, dataset: str, *, home: Path) -> None:
    """Refuse to align two sides of a dataset in which no items belong together.

    Raises:
        SpecError: The dataset holds graded pairs of texts.
    """
    if pairs.grades is not None:
        raise SpecError(
            f"dataset {dataset!r} holds graded pairs of texts, to measure by: "
            f"`{command_line('similarity', '--data', dataset, home=home)}`; name one of images "
            "with texts by --data"
        )


def _label_of(entry: StoreEntry, query: StoreQuery) -> str:
    """Return a store as messages name it; one of other data that have the name, too, says so."""
    state = "" if entry.complete else ", incomplete"
    store = entry.description
    meant = query.splits.get(store.split, store.source)
    is_other = meant != store.source or store.source in query.others
    if store.dataset == query.dataset and is_other:
        state += ", of other data"
    kind = "" if store.kind == "tokens" else f" {store.kind}"
    return f"{store.dataset}/{store.split}/{store.encoder}{kind} ({store.modality}{state})"
