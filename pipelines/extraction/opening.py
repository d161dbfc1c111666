"""Dataset, splits and encoder cards that a request for an extraction names, found without torch."""

from dataclasses import dataclass, field, replace

from ...featcache.encoders.card import EncoderCard
from ...featcache.encoders.references import find_card
from ...featcache.encoders.weights import GIVEN, Weights, find_weights
from ...featcache.errors import SpecError, TooManyBadItemsError
from ...featcache.known_datasets import DatasetVersion
from ...featcache.registry import unknown_name
from ...featcache.sources.base import Source
from ...featcache.sources.opening import open_defined
from ..common.progress import SILENT, Progress
from .spec import ExtractSpec


@dataclass(frozen=True, kw_only=True)
class ResolvedExtraction:
    """Dataset, splits, and encoders with their weights, as a spec names them.

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


def open_all(spec: ExtractSpec, progress: Progress = SILENT) -> ResolvedExtraction:
    """Find everything that `spec` names, without torch: what is missing is reported at once.

    Raises:
        LightalignError: The dataset or the weights are not there.
    """
    version, source = open_defined(spec.data, home=spec.home, options=spec.source)
    splits = source.splits()
    if spec.split is not None and spec.split not in splits:
        raise unknown_name("split", spec.split, splits)
    cards = [find_card(name, home=spec.home, weights=spec.weights) for name in spec.encoders]
    names = [card.name for card in cards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"two of {list(spec.encoders)} are called {twice[0]!r}: rename one card")
    with_weights = tuple(
        (card, find_weights(card, override=spec.weights, progress=progress.shows_downloads))
        for card in cards
    )
    for note in source.notes():
        progress.note(f"{version.name}: {note}")
    _check_rows(spec, source)
    return ResolvedExtraction(
        dataset=version.name,
        version=version,
        source=source,
        splits=splits if spec.split is None else (spec.split,),
        cards=with_weights,
    )


def _check_rows(spec: ExtractSpec, source: Source) -> None:
    """Refuse a table with more unreadable rows than `on_error` allows, where that is given."""
    rows = source.skipped_rows()
    allowed = len(rows) if spec.on_error is None else spec.allowed_bad(len(rows))
    if len(rows) > allowed:
        examples = "; ".join(f"{row.place}: {row.reason}" for row in rows[:3])
        raise TooManyBadItemsError(
            f"{len(rows)} rows cannot be read, {allowed} are allowed (--on-error): {examples}"
        )


def with_place(card: EncoderCard, weights: Weights) -> EncoderCard:
    """Return a card that names the place of weights which a user gave."""
    if weights.origin != GIVEN or weights.files is None:
        return card
    return replace(card, weights=replace(card.weights, path=str(weights.files)))
