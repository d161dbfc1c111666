"""Run frozen encoders once over a dataset and keep their features."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..featcache.backends import load_encoder, resolve_device
from ..featcache.bounds import MOST_THREADS
from ..featcache.card import EncoderCard
from ..featcache.datasets import open_defined
from ..featcache.description import COMPRESSIONS, DTYPES, Skipped
from ..featcache.errors import SpecError, TooManyBadItemsError
from ..featcache.known_datasets import DatasetVersion, newest, remember, stood_for
from ..featcache.references import find_card, keep_card, table_of_own
from ..featcache.registry import unknown_name
from ..featcache.source import SkippedRow, Source
from ..featcache.spec import check_counts
from ..featcache.store import FORMATS
from ..featcache.types import Modality
from ..featcache.weights import GIVEN, Weights, find_weights
from . import stopping
from .progress import SILENT, Progress

_ON_ERROR = re.compile(r"skip|fail|max=(\d{1,18})")


@dataclass(frozen=True, kw_only=True)
class ExtractSpec:
    """Say what to extract.

    Attributes:
        encoders: Encoder cards by name, file, `timm:MODEL` or `hf:MODEL`; those of one modality
            share each decoded item.
        data: `NAME` or `NAME=PATH` of a dataset.
        home: Folder of everything lightalign keeps.
        split: One split, or None for all.
        weights: File or local hub folder to take instead of the card's own places.
        source: Options of the dataset, by name.
        features: What to keep: `tokens`, `cls`, `mean`, `last`, `pooled`, `grid:HxW`; one store
            each.
        layers: Which layers, counted from the end; one store each. -1 is after the final norm.
        format: Container of the shards, `zarr` or `hdf5`.
        dtype: Stored type: `float16`, `bfloat16`, `float32` or `int8`.
        compression: `none`, `zstd` or `blosc-lz4`; compressed shards are read whole.
        precision: Matrix products in `float32`, `bfloat16`, or `auto`: see `choose_precision`.
        compile: Whether to compile the encoders with torch.compile.
        batch_size: Items per forward pass, or None for as many as are fast and fit the memory.
        workers: Threads that decode and tokenise; 0 does both between forward passes.
        rows_per_shard: Items per shard, or None for about 64 MiB.
        max_bad: Share of a split's items that may be unreadable, in [0, 1].
        on_error: Instead of `max_bad`: `skip` any number, `fail` at the first, or `max=N`.
        device: `auto`, `cpu` or `cuda`.
        derive: Whether features other than tokens are made of a complete store of the same tokens,
            where there is one that is at least as exact, instead of encoding again.
    """

    encoders: tuple[str, ...]
    data: str
    home: Path
    split: str | None = None
    weights: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ("tokens",)
    layers: tuple[int, ...] = (-1,)
    format: str = "zarr"
    dtype: str = "float16"
    compression: str = "none"
    precision: str = "auto"
    compile: bool = False
    batch_size: int | None = None
    workers: int = 2
    rows_per_shard: int | None = None
    max_bad: float = 0.01
    on_error: str | None = None
    device: str = "auto"
    derive: bool = True

    def __post_init__(self) -> None:
        known_names = (
            ("format", FORMATS.names()),
            ("dtype", DTYPES),
            ("compression", COMPRESSIONS),
        )
        for name, known in known_names:
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        self._check_numbers()
        for name in ("encoders", "features", "layers"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SpecError(f"{name} must name at least one, each once; found {list(values)}")
        if any(layer >= 0 for layer in self.layers):
            raise SpecError(f"layers count from the end, -1 is the last; found {list(self.layers)}")
        if self.weights is not None and len(self.encoders) > 1:
            raise SpecError("weights can be given for one encoder at a time")

    def _check_numbers(self) -> None:
        check_counts(self, {"batch_size": 1, "rows_per_shard": 1})
        check_counts(self, {"workers": 0}, most=MOST_THREADS)
        if not 0 <= self.max_bad <= 1:
            raise SpecError(f"max_bad is a share in [0, 1], found {self.max_bad}")
        if self.on_error is not None and not _ON_ERROR.fullmatch(self.on_error):
            raise SpecError(f"on_error is skip, fail or max=N, found {self.on_error!r:.200}")

    def allowed_bad(self, num_items: int) -> int:
        """Return how many of a split's items may be unreadable."""
        found = _ON_ERROR.fullmatch(self.on_error or "")
        if found is None:
            return int(self.max_bad * num_items)
        if found[1] is not None:
            return int(found[1])
        return num_items if self.on_error == "skip" else 0


@dataclass(frozen=True, kw_only=True)
class StoreReport:
    """Say what was done for one store.

    Attributes:
        encoder: Name of the encoder card.
        modality: What was encoded.
        layer: Which of the encoder's layers.
        kind: What was kept of its tokens.
        split: Name of the split.
        folder: The store.
        key: Its full key.
        rows: Rows in the store.
        tokens: Tokens in the store.
        bytes: Size of the store's shards.
        encoded: Items that this call encoded for it; 0 when the cache had them all.
        derived: Items that this call made of stored tokens instead.
        derived_from: Name of the store of these tokens below the home, or None.
        skipped: Items without a row, and why.
        seconds: Wall-clock time of the pass that filled it and others of its split and modality.
        shares: Seconds of it in which the encoding thread waited for items (`decode`), ran
            encoders (`encode`), or waited for the writer (`write`); of derived features, read
            tokens, reduced them, or waited for the writer.
    """

    encoder: str
    modality: str
    layer: int
    kind: str
    split: str
    folder: Path
    key: str
    rows: int
    tokens: int
    bytes: int
    encoded: int
    skipped: tuple[Skipped, ...]
    seconds: float
    shares: Mapping[str, float]
    derived: int = 0
    derived_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """Say what one call of `extract` did.

    Attributes:
        dataset: Name of the dataset.
        weights: Where the weights of each encoder came from.
        stores: One report a store.
        skipped_rows: Rows of the dataset's table that cannot be read, and so are no items.
        stood_for: What the name stood for before, in words, where that was something else.
    """

    dataset: str
    weights: Mapping[str, str]
    stores: tuple[StoreReport, ...]
    skipped_rows: tuple[SkippedRow, ...] = ()
    stood_for: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoreEstimate:
    """Say what one store will hold.

    Attributes:
        encoder: Name of the encoder card.
        split: Name of the split.
        layer: Which of the encoder's layers.
        kind: What is kept of its tokens.
        key: The store's key.
        rows: Items of the split, each a row if it can be read.
        missing: Items that are still to be encoded or derived; 0 for a complete store.
        bytes: Size of the whole store's shards.
        missing_bytes: Size of the shards that are still to be written.
        derived_from: Name of the store of tokens that it would be made of, or None.
    """

    encoder: str
    split: str
    layer: int
    kind: str
    key: str
    rows: int
    missing: int
    bytes: int
    missing_bytes: int
    derived_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Say what an extraction will cost.

    Attributes:
        stores: Every store that it would fill.
        missing_bytes: What it would write.
        free_bytes: What the disk of the home folder has left.
        peak_memory_bytes: Largest resident memory, with the encoders.
        minutes: Time for what is missing, from a timed probe; the encoders' loading is not in it.
    """

    stores: tuple[StoreEstimate, ...]
    missing_bytes: int
    free_bytes: int
    peak_memory_bytes: int
    minutes: float


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Hold what a spec names: the dataset, its splits, and the encoders with their weights.

    Attributes:
        dataset: Name of the dataset.
        version: What that name stands for.
        source: The dataset.
        splits: Splits to extract.
        cards: Card of each encoder, with the weights that were found.
    """

    dataset: str
    version: DatasetVersion
    source: Source
    splits: tuple[str, ...]
    cards: tuple[tuple[EncoderCard, Weights], ...]
    _fingerprints: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def fingerprint(self, split: str) -> str:
        """Return the fingerprint of a split when it was first asked for, as files may change."""
        if split not in self._fingerprints:
            self._fingerprints[split] = self.source.fingerprint(split)
        return self._fingerprints[split]

    def identified(self) -> DatasetVersion:
        """Return the version with the fingerprints of all its splits."""
        splits = {split: self.fingerprint(split) for split in self.source.splits()}
        return replace(self.version, splits=splits)


Prepared = tuple[Opened, list[Any]]  # with the `LoadedEncoder`s, whose module imports torch


def open_all(spec: ExtractSpec, progress: Progress = SILENT) -> Opened:
    """Find everything that `spec` names, without torch: what is missing is reported at once.

    Raises:
        LightalignError: The dataset or the weights are not there.
    """
    version, source = open_defined(spec.data, home=spec.home, options=spec.source)
    splits = _chosen_splits(source, spec.split)
    cards = [find_card(name, home=spec.home, weights=spec.weights) for name in spec.encoders]
    names = [card.name for card in cards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"two of {list(spec.encoders)} are called {twice[0]!r}: rename one card")
    found = tuple(
        (card, find_weights(card, override=spec.weights, progress=progress.shows_downloads))
        for card in cards
    )
    for note in source.notes():
        progress.note(f"{version.name}: {note}")
    _check_rows(spec, source)
    return Opened(dataset=version.name, version=version, source=source, splits=splits, cards=found)


def prepare(spec: ExtractSpec, progress: Progress = SILENT) -> Prepared:
    """Open the dataset that `spec` names and load its encoders.

    Raises:
        LightalignError: The dataset or the weights are not usable.
    """
    opened = open_all(spec, progress)
    return opened, load_all(spec, opened, progress)


def _check_rows(spec: ExtractSpec, source: Source) -> None:
    """Pass if no more rows of a table cannot be read than `on_error` allows, where it says so.

    Raises:
        TooManyBadItemsError: There are more; the first few are named.
    """
    rows = source.skipped_rows()
    allowed = len(rows) if spec.on_error is None else spec.allowed_bad(len(rows))
    if len(rows) > allowed:
        examples = "; ".join(f"{row.place}: {row.reason}" for row in rows[:3])
        raise TooManyBadItemsError(
            f"{len(rows)} rows cannot be read, {allowed} are allowed (--on-error): {examples}"
        )


def run(
    spec: ExtractSpec,
    progress: Progress = SILENT,
    *,
    makes_newest: bool = True,
    prepared: Prepared | None = None,
) -> ExtractReport:
    """Extract every split that `spec` asks for, going on where an earlier call stopped.

    Args:
        spec: What to extract.
        progress: Receives notes and the progress.
        makes_newest: Whether verbs take these stores when they are not told which.
        prepared: What `spec` names, where it is open already.

    Raises:
        LightalignError: The dataset, the weights or too many items are not usable.
    """
    stopping.keep(stopping.SHARDS)
    opened, loaded = prepare(spec, progress) if prepared is None else prepared
    from .exportable import note_exports  # imports torch; what is missing is reported without it
    from .fill import fill

    note_exports(spec, [one.encoder for one in loaded], progress)
    splits = splits_with_items(opened, loaded, progress)
    for reference, (card, weights) in zip(spec.encoders, opened.cards, strict=True):
        keep_card(reference, with_place(card, weights), spec.home)
    stores = fill(spec, opened, loaded, splits, progress, makes_newest=makes_newest)
    before = None
    if makes_newest:
        version = opened.identified()
        before = stood_for(newest(spec.home, version.name), version)
        remember(spec.home, version, tell=progress.note)
    return ExtractReport(
        dataset=opened.dataset,
        weights={one.encoder.name: one.origin for one in loaded},
        stores=tuple(stores),
        skipped_rows=opened.source.skipped_rows(),
        stood_for=before,
    )


def with_place(card: EncoderCard, weights: Weights) -> EncoderCard:
    """Return a card that names the place of weights which a user gave."""
    if weights.origin != GIVEN or weights.files is None:
        return card
    return replace(card, weights=replace(card.weights, path=str(weights.files)))


def load_all(spec: ExtractSpec, opened: Opened, progress: Progress) -> list[Any]:
    """Load the encoders, settle their precision and compile them; returns `LoadedEncoder`s."""
    from ..featcache.compiling import compile_encoder
    from ..featcache.footprint import bytes_of_an_item
    from ..featcache.precision import choose_precision
    from .outputs import LoadedEncoder

    device = resolve_device(spec.device)
    loaded = []
    for card, weights in opened.cards:
        progress.note(f"loading encoder {card.name}, weights: {weights.origin}")
        encoder = load_encoder(card, weights, device=spec.device)
        cosine = choose_precision(encoder, spec.precision, device)
        settings: dict[str, Any] = {
            "precision": encoder.precision,
            "first_is_class": _begins_with_class(encoder),
        }
        own_card = table_of_own(with_place(card, weights))
        if own_card is not None:
            settings["card"] = own_card
        elif weights.origin == GIVEN and weights.files is not None:
            settings["weights"] = str(weights.files)
        if cosine is not None:
            progress.note(
                f"{card.name}: computes in {encoder.precision}; in bfloat16 the smallest cosine of "
                f"a token to its float32 self is {cosine:.5f}"
            )
            settings["bfloat16_cosine"] = f"{cosine:.6f}"
        measured = None
        if spec.compile:
            if spec.batch_size is None:
                measured = bytes_of_an_item(encoder)  # what is compiled hides its tensors
            progress.note(f"compiling encoder {card.name}")
            settings["compiled_cosine"] = f"{compile_encoder(encoder):.6f}"
        loaded.append(
            LoadedEncoder(
                encoder=encoder, origin=weights.origin, settings=settings, measured_bytes=measured
            )
        )
    return loaded


def _begins_with_class(encoder: Any) -> bool:  # Any: an `Encoder`, whose module imports torch
    """Return whether the first token that an encoder gives stands for the whole item."""
    layout = encoder.layout()
    if encoder.modality is Modality.IMAGE and not layout.prefix_tokens:
        return False
    return bool(layout.first_is_class)


def splits_with_items(opened: Opened, loaded: list[Any], progress: Progress) -> list[str]:
    """Return the splits that hold items of every encoder's modality; others are noted."""
    source = opened.source
    modalities = {one.encoder.modality for one in loaded}
    full = [s for s in opened.splits if all(source.items(s, m) for m in modalities)]
    wanted = " and ".join(sorted(modality.value for modality in modalities))
    if not full:
        raise SpecError(
            f"no split of {list(opened.splits)} of {opened.dataset} holds {wanted} items"
        )
    for split in opened.splits:
        if split not in full:
            progress.note(f"{opened.dataset}: split {split!r} lacks {wanted} items, passed over")
    return full


def _chosen_splits(source: Source, split: str | None) -> tuple[str, ...]:
    splits = source.splits()
    if split is None:
        return splits
    if split not in splits:
        raise unknown_name("split", split, splits)
    return (split,)
