"""Run frozen encoders once over a dataset and keep their features."""

from typing import Any

from ..featcache.encoders.references import keep_card
from ..featcache.known_datasets import newest, remember, stood_for
from .common import stopping
from .common.progress import SILENT, Progress
from .extract_spec import ExtractReport, ExtractSpec
from .opened import Opened, open_all, with_place

Prepared = tuple[Opened, list[Any]]  # with the `LoadedEncoder`s, whose module imports torch


def prepare(spec: ExtractSpec, progress: Progress = SILENT) -> Prepared:
    """Open the dataset that `spec` names and load its encoders.

    Raises:
        LightalignError: The dataset or the weights are not usable.
    """
    from .loaded_encoder import load_all  # imports torch; what is missing is reported without it

    opened = open_all(spec, progress)
    return opened, load_all(spec, opened, progress)


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
    from .exportable import note_exports  # imports torch, as the encoders do
    from .fill import fill
    from .loaded_encoder import splits_with_items

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
