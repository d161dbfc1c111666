"""Choose the feature stores that a verb works on."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from ...featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality, Pairs, Side, Sides, TextSide
from ..common.progress import SILENT, Progress

# where any encoder will do
_USUAL = {Modality.IMAGE: "dino-vits16", Modality.TEXT: "distilbert"}


@dataclass(frozen=True)
class StorePair:
    """Stores of both sides, of items of the same dataset.

    Attributes:
        first: Store of the images, or of the texts of the first side.
        second: Store of the texts, or of those of the second side; it may be the first.
    """

    first: StoreEntry
    second: StoreEntry

    @property
    def sides(self) -> Sides:
        """Return what both sides are."""
        texts = self.first.description.modality == Modality.TEXT.value
        return TEXT_TEXT if texts else IMAGE_TEXT

    @property
    def entries(self) -> dict[Side, StoreEntry]:
        """Return the store of each side."""
        return dict(zip(self.sides, (self.first, self.second), strict=True))

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
    def widths(self) -> dict[Side, int]:
        """Return the features of one token of each side."""
        return {side: entry.description.width for side, entry in self.entries.items()}

    @property
    def changed(self) -> tuple[float, float]:
        """Return when the younger and when the older was last asked for, seconds since the epoch.

        Of two image stores beside one younger text store, the younger one counts.
        """
        times = (self.first.changed, self.second.changed)
        return max(times), min(times)


@dataclass(frozen=True, kw_only=True)
class SideQuery:
    """Query for the store of one side; None matches any.

    Attributes:
        encoder: Name of the encoder's card.
        kind: What is kept of the tokens, such as `mean`.
        key: `StoreEntry.encoder_key`.
        reference: What names the encoder in a command; the name of its card if None.
        features: What a store has to be extracted with to do, as `features_of` has it.
        example: A store that would do, of another split perhaps, or None.
    """

    encoder: str | None = None
    kind: str | None = None
    key: str | None = None
    reference: str | None = field(default=None, compare=False)
    features: Mapping[str, Any] = field(default_factory=dict, compare=False)
    example: StoreEntry | None = field(default=None, compare=False)

    @classmethod
    def of(cls, reference: str | None, *, kind: str | None = None) -> "SideQuery":
        """Return the query for what `--encoder` names: a card's name, its file, or a model."""
        return cls(
            encoder=None if reference is None else card_name(reference),
            kind=kind,
            reference=None if reference is None else lasting_reference(reference),
            features={} if kind is None else {"kind": kind},
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

        Args:
            data: Options that name the dataset.
            home: Folder of everything lightalign keeps.
            split: Name of the split, or None for all.
            modality: What is encoded, where any encoder of it will do.
        """
        features = self.features
        if self.example is not None:
            settings = read_whole_manifest(self.example.folder)["settings"]
            features = features_of(self.example.description, settings)
        encoder = self.reference or self.encoder or _USUAL[modality]
        options = {**feature_options(features), "split": split}
        return extract_command([encoder], data, home=home, options=options)

    def matches(self, entry: StoreEntry) -> bool:
        """Return whether `entry` is of this encoder and kind."""
        return (
            self.encoder in {None, entry.description.encoder}
            and self.kind in {None, entry.description.kind}
            and self.key in {None, entry.encoder_key}
        )

    def describe(self) -> str:
        """Return the query in words."""
        return f"{self.kind or ''} {self.encoder or 'any encoder'}".strip()


@dataclass(frozen=True, kw_only=True)
class StoreQuery:
    """Query for the stores of both sides; None matches any.

    Attributes:
        split: Name of the split.
        dataset: Name of the dataset.
        source: `Source.fingerprint` of the split.
        by_side: What each of both sides asks for.
        data: Options that name the dataset in a command; None for its name alone.
        splits: Fingerprint of every split of the dataset, where they are known.
        others: Fingerprints of other data that have the name.
        is_of_run: Whether the dataset is what a run was trained on, which an extraction brings only
            where its place still holds the same.
    """

    split: str
    dataset: str | None = None
    source: str | None = None
    data: Sequence[str] | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    is_of_run: bool = False
    by_side: Mapping[Side, SideQuery] = field(
        default_factory=lambda: dict.fromkeys(IMAGE_TEXT, SideQuery())
    )

    @classmethod
    def of(
        cls, wanted: "DatasetQuery", split: str, by_side: Mapping[Side, SideQuery]
    ) -> "StoreQuery":
        """Return the query for stores of a dataset.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        return cls(
            split=split,
            dataset=wanted.name,
            source=wanted.fingerprint(split),
            by_side=by_side,
            data=wanted.words if wanted.name else None,
            splits={} if wanted.version is None else wanted.version.splits,
            others=wanted.others,
            is_of_run=wanted.is_of_run,
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

        Args:
            data: `NAME`, `NAME=PATH`, or None for what was trained on.
            trained: What `provenance.describe_pair` wrote of the training stores.
            home: Folder of everything lightalign keeps.
            options: Options of the dataset, or None.
            splits: Fingerprint of every split of it, as the run has kept them.

        Raises:
            LightalignError: The dataset cannot be opened.
        """
        name = str(trained["dataset"])
        if options is not None or data is not None:
            is_forgotten = options is None and parse_data(data or name) == (name, None)
            if not is_forgotten or newest(home, name) is not None:
                return cls.of(data or name, home=home, options=options)
        version = version_of(home, name, trained["split"], trained["source"])
        if splits:  # whatever the home has forgotten, or has learnt since
            version = replace(
                version or DatasetVersion(name=name, kind=name, place=None), splits=splits
            )
        others: frozenset[str] = frozenset()
        if version is None:  # a run of an early version, whose data the home never knew
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
            return ["--data", self.asked.data]  # with the place, as it was given
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
    known = newest(home, version.name)
    if known is None or (is_drawn(version.kind) and version.name == version.kind):
        return False
    named = (version.kind, version.place, version.options)
    return (known.kind, known.place, known.options) == named


def require_name(home: Path, name: str) -> None:
    """Refuse a name that stands for nothing; a note says that stores go by one that is forgotten.

    Raises:
        UnknownNameError: No family, no dataset that the home remembers and no store is called so.
    """
    if name in SOURCES.names():
        return
    if not (home / "features" / name).is_dir():
        define(name, home=home)  # which says what is known
    notes.note(
        f"{home} does not remember what {name!r} stands for: the newest stores of that name are "
        f"taken; `{command_line('data', 'add', name, 'PATH', home=home)}` says it"
    )


def usual_split(
    home: Path, wanted: DatasetQuery, query: SideQuery, names: Sequence[str] = ("test", "val")
) -> str:
    """Return the split to evaluate where none is named: the first of `names` that has a store.

    Where none has one it is the first that the dataset has.

    Raises:
        StoreCorruptError: An earlier one may have such a store, as one in it cannot be read.
    """
    catalog = read_catalog(home, f"{wanted.name or '*'}/*")
    there = {
        entry.description.split
        for entry in catalog.entries
        if entry.complete and wanted.is_of(entry.description) and query.matches(entry)
    }
    possible = [name for name in names if wanted.has_split(name)] or names
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
    *, image: SideQuery, text: SideQuery, second_text: SideQuery, home: Path
) -> dict[Side, SideQuery]:
    """Return what both sides ask for: images and texts, or two texts where a second is named.

    Raises:
        SpecError: Images are asked for beside two texts, or one of two text encoders is not named
            or reads images.
    """
    anything = SideQuery()
    if second_text == anything:
        return {Modality.IMAGE: image, Modality.TEXT: text}
    if image != anything:
        raise SpecError(
            "an adapter aligns two sides, and images would be a third beside two text encoders: "
            "leave out --image-encoder and --image-features, or the second text encoder"
        )
    for name in (text.encoder, second_text.encoder):
        if name is None:
            raise SpecError(
                "between two text encoders both are named, by --text-encoder and "
                f"--second-text-encoder; found {text.encoder} and {second_text.encoder}"
            )
        if name in card_names(home) and read_card(name, home=home).modality is not Modality.TEXT:
            raise SpecError(f"encoder {name!r} reads images, not texts")
    return {TextSide.FIRST: text, TextSide.SECOND: second_text}


def evaluation_query(stores: StorePair, split: str, wanted: DatasetQuery) -> StoreQuery:
    """Return the query for another split with the same dataset and the same encoders."""
    by_side: dict[Side, SideQuery] = {
        side: SideQuery.like(entry) for side, entry in stores.entries.items()
    }
    return replace(StoreQuery.of(wanted, split, by_side), dataset=stores.dataset)


def newest_pair(home: Path, query: StoreQuery, progress: Progress = SILENT) -> StorePair | None:
    """Return the newest two complete stores that match and hold the same items, or None.

    Where stores of differing items match, as after a dataset has changed, a note says so.
    """
    entries = readable_stores(home, query, progress)
    first, second = (query.matching(entries, side) for side in query.by_side)
    pairs = [
        StorePair(entry, other)
        for entry in first
        for other in second
        if (entry.description.dataset, entry.description.source)
        == (other.description.dataset, other.description.source)
    ]
    if query.dataset is not None:
        note_versions((pair.first for pair in pairs), progress)
    newest = max(pairs, default=None, key=lambda pair: pair.changed)
    return newest and _of_one_kind(newest, pairs)


def _of_one_kind(newest: StorePair, pairs: Iterable[StorePair]) -> StorePair:
    """Return the newest pair of the same encoders and items that keeps one kind on both sides.

    `extract --features tokens,mean` makes four stores of a split, and the means of one side with
    the tokens of the other are what nobody has asked for; where there is no other pair it stays.
    """
    alike = [
        pair
        for pair in pairs
        if pair.source == newest.source
        and [entry.description.encoder for entry in pair.entries.values()]
        == [entry.description.encoder for entry in newest.entries.values()]
        and pair.first.description.kind == pair.second.description.kind
    ]
    return max(alike, default=newest, key=lambda pair: pair.changed)


def recorded_pair(
    home: Path,
    recorded: Mapping[str, Any],
    *,
    run: str,
    encoders: Mapping[str, Any] | None = None,
) -> StorePair:
    """Return the stores that a run records, whatever newer ones there are.

    Args:
        home: Folder of everything lightalign keeps.
        recorded: What `provenance.describe_pair` wrote.
        run: Name of the run, for the message.
        encoders: What `provenance.describe_encoders` wrote, for the message.

    Raises:
        SpecError: The record is not one of ours.
        StoreNotFoundError: One of them is not there, or not complete.
    """
    stored = read_catalog(home)
    sides = TEXT_TEXT if TextSide.FIRST.value in recorded else IMAGE_TEXT
    entries = []
    for side in sides:
        store = recorded.get(side.value)
        if not isinstance(store, Mapping) or not isinstance(store.get("key"), str):
            raise SpecError(f"the spec of run {run} does not name its {side.label} store")
        entry = stored.get(store["key"])
        if entry is None:
            raise StoreNotFoundError(
                f"run {run} is trained on store {store['key'][:12]}, which "
                f"{stored.why_missing(store['key'])}: extract it again by "
                f"`{extract_again(home, recorded, store, (encoders or {}).get(side.value))}`"
            )
        entries.append(entry)
    return StorePair(*entries)


def require_there(pairs: Iterable[StorePair | None]) -> None:
    """Pass if stores that are being read are still there; what is mapped would not show it.

    Raises:
        StoreNotFoundError: One was removed meanwhile.
    """
    entries = (entry for pair in pairs if pair for entry in pair.entries.values())
    for entry in entries:
        if not has_manifest(entry.folder):
            raise StoreNotFoundError(
                f"store {entry.folder} was removed while it was being read: extract it again by "
                f"`{_extract_anew(entry)}`"
            )


def _extract_anew(entry: StoreEntry) -> str:
    """Return the command that extracts a store that is gone, of a dataset in its usual place."""
    return extraction(entry.description, home=entry.folder.absolute().parents[3])


def extract_again(
    home: Path,
    recorded: Mapping[str, Any],
    store: Mapping[str, Any],
    encoder: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that extracts a recorded store, of a dataset where it is remembered.

    Args:
        home: Folder of everything lightalign keeps.
        recorded: What `provenance.describe_pair` wrote.
        store: What that says of one side.
        encoder: What `provenance.describe_encoders` wrote of that side, as far as it is known.
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

    Args:
        store: What `provenance.describe_pair` wrote of the side.
        encoder: What `provenance.describe_encoders` wrote of it; nothing in early runs.
    """
    identity = encoder.get("identity", {})
    recorded = {**store, **encoder, "precision": identity.get("precision")}
    names = ("kind", "layer", "dtype", "precision", "weights")
    return {name: recorded[name] for name in names if recorded.get(name) is not None}


def readable_stores(
    home: Path, query: StoreQuery, progress: Progress = SILENT
) -> Sequence[StoreEntry]:
    """Return the stores where those asked for lie, newest first; a note names what is damaged."""
    catalog = read_catalog(home, f"{query.dataset or '*'}/{query.split}")
    if catalog.unread:
        more = f", as are {len(catalog.unread) - 1} more" if len(catalog.unread) > 1 else ""
        progress.note(
            f"a store is passed over{more}: {catalog.unread[0]}; see "
            f"`{command_line('cache', 'verify', home=home)}`"
        )
    return catalog.entries


def note_versions(entries: Iterable[StoreEntry], progress: Progress) -> None:
    """Note which version is taken where stores of a split are of several versions of a dataset."""
    places = {entry.description.source: entry.description for entry in entries}
    if len(places) > 1:
        store = next(iter(places.values()))
        progress.note(
            f"several versions of {store.dataset}/{store.split} are in the cache; the one that was "
            f"extracted last is taken: {_way_to_another(store.dataset, list(places))}"
        )


def _way_to_another(dataset: str, sources: Sequence[str]) -> str:
    """Return how to take another version of a dataset than the newest."""
    if not is_drawn(dataset):
        return f"name another with --data {dataset}=PATH"
    return f"remove the stores of the others, {len(sources) - 1} of {len(sources)}, to take one"


def require_pair(home: Path, query: StoreQuery, progress: Progress = SILENT) -> StorePair:
    """Return `newest_pair`, or say what is there and what to run.

    Raises:
        SpecError: The dataset holds graded pairs of texts, which belong to no image.
        StoreNotFoundError: No two complete stores match.
    """
    pair = newest_pair(home, query, progress)
    if pair is not None:
        return pair
    catalog = read_catalog(home)
    entries = catalog.entries
    _require_texts(home, query, entries)
    near = [entry for entry in entries if query.dataset in {None, entry.description.dataset}]
    if query.dataset is not None:
        for description in (entry.description for entry in near):
            path = pairs_path(home, description.dataset, description.split, description.source)
            if path.is_file():
                refuse_graded(read_pairs(path), description.dataset, home=home)
    have = sorted({label_of(entry, query) for entry in near or entries})
    missing = _missing_sides(query, entries, home=home)
    data = query.data or _data_of_others(query, missing, entries, home=home)
    close = {side: _close_stores(asked, side, near) for side, asked in missing.items()}
    wanted = {
        side: _as_before(asked, side, near, dataset=query.dataset)
        for side, asked in missing.items()
        # what names no encoder cannot be extracted: a close name was meant
        if not close[side] or asked.reference != asked.encoder or asked.encoder in card_names(home)
    }
    commands = [
        f"`{asked.extraction(data, home=home, modality=side.modality)}`"
        for side, asked in wanted.items()
    ]
    names = " and ".join(f"{side.label} store" for side in missing)
    similar = list(dict.fromkeys(name for some in close.values() for name in some))
    require_data(home, query)
    unread = read_catalog(home, f"{query.dataset or '*'}/{query.split}").unread
    if unread:  # it may be what is asked for: to extract it again is no way out
        raise StoreNotFoundError(
            f"{unread[0]}; no other {names} for {query.describe()} in {home}; have: "
            f"{have or 'none'}; see `{command_line('cache', 'verify', home=home)}`"
        )
    raise StoreNotFoundError(
        f"no {names} for {query.describe()} in {home}; have: {have or 'none'}"
        f"{catalog.unread_line()}{f'; close: {similar}' if similar else ''}; "
        + (f"run {' and '.join(dict.fromkeys(commands))}" if commands else "name one of these")
    )


def _missing_sides(
    query: StoreQuery, entries: Sequence[StoreEntry], *, home: Path
) -> Mapping[Side, SideQuery]:
    """Return the sides that no store is there for; both where stores are, of differing items."""
    by_side = query.by_side
    missing = {side: asked for side, asked in by_side.items() if not query.matching(entries, side)}
    if query.dataset is None and _partner(query, missing, entries, home=home) is None:
        return by_side
    return missing or by_side


def _partner(
    query: StoreQuery, missing: Iterable[Side], entries: Sequence[StoreEntry], *, home: Path
) -> StoreEntry | None:
    """Return the newest store of the side that is there, of a dataset that pairs both."""
    there = [side for side in query.by_side if side not in set(missing)]
    if len(there) != 1:
        return None
    for entry in query.matching(entries, there[0]):
        known = entry.description
        path = pairs_path(home, known.dataset, known.split, known.source)
        pairs = read_pairs(path) if path.is_file() else None
        if pairs is not None and pairs.links:
            return entry
    return None


def _data_of_others(
    query: StoreQuery, missing: Iterable[Side], entries: Sequence[StoreEntry], *, home: Path
) -> list[str]:
    """Return the options that name the dataset of the side that is there, or else a usual one."""
    partner = None
    if query.dataset is None:
        partner = _partner(query, missing, entries, home=home)
    if partner is None:
        return ["--data", query.dataset or "flickr30k"]
    known = partner.description
    version = version_of(home, known.dataset, known.split, known.source)
    if version is None or is_remembered(home, version):
        return ["--data", known.dataset]
    return version.words()


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
    """Return a query with the encoder and features of the newest store of a side, if it has none.

    What a name stood for before was extracted as its user wants it.
    """
    if asked != SideQuery() or dataset is None:
        return asked
    stores = (entry for entry in entries if entry.description.modality == side.modality.value)
    newest_store = next(stores, None)
    return asked if newest_store is None else SideQuery.like(newest_store)


def require_data(home: Path, query: StoreQuery) -> None:
    """Pass unless a dataset is gone or holds other data: no extraction brings what is asked for.

    Raises:
        DatasetNotFoundError: It is not where the home remembers it.
        StoreNotFoundError: Its place holds other data than those that a run was trained on.
    """
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
        return  # which the extraction will say
    if not there and query.is_of_run:
        place = source.root if version.place is None else version.place
        raise StoreNotFoundError(
            f"no stores of split {query.split!r} of {query.dataset} as it was when the run was "
            f"trained, and {place} holds other data by now (ids, texts or image files): "
            f"--data {shlex.quote(version.data)} measures what is there now"
        )


def _require_texts(home: Path, query: StoreQuery, entries: Iterable[StoreEntry]) -> None:
    """Refuse a dataset of images and classes: no text store of it can ever be there."""
    for entry in entries:
        store = entry.description
        if (store.dataset, store.split) != (query.dataset, query.split):
            continue
        path = pairs_path(home, store.dataset, store.split, store.source)
        if path.is_file() and not read_pairs(path).text_ids:
            raise StoreNotFoundError(
                f"dataset {store.dataset!r} has images and no texts, so there are no pairs to "
                "align or to retrieve: name a dataset with texts, see `lightalign list datasets`"
            )


def refuse_graded(pairs: Pairs, dataset: str, *, home: Path) -> None:
    """Refuse what aligns two sides on a dataset of which nothing belongs together.

    Raises:
        SpecError: The dataset holds graded pairs of texts.
    """
    if pairs.grades is not None:
        raise SpecError(
            f"dataset {dataset!r} holds graded pairs of texts, to measure by: "
            f"`{command_line('similarity', '--data', dataset, home=home)}`; name one of images "
            "with texts by --data"
        )


def others_line(home: Path, query: StoreQuery) -> str:
    """Return, for a message, that there are stores of what a name stood for before, or nothing."""
    others = [
        label_of(entry, query)
        for entry in read_catalog(home, f"{query.dataset}/{query.split}").entries
        if query.source not in {None, entry.description.source}
    ]
    return f"; have: {sorted(set(others))}" if others else ""


def label_of(entry: StoreEntry, query: StoreQuery) -> str:
    """Return a store as messages name it; one of other data that have the name, too, says so."""
    state = "" if entry.complete else ", incomplete"
    store = entry.description
    meant = query.splits.get(store.split, store.source)
    is_other = meant != store.source or store.source in query.others
    if store.dataset == query.dataset and is_other:
        state += ", of other data"
    kind = "" if store.kind == "tokens" else f" {store.kind}"
    return f"{store.dataset}/{store.split}/{store.encoder}{kind} ({store.modality}{state})"
