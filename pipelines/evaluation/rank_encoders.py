"""Rank pairs of image and text encoders by how well they fit, before training, by stores alone."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...featcache.errors import SpecError
from ...featcache.reading.reader import FeatureReader
from ...featcache.store import catalog
from ...featcache.store.catalog import StoreEntry
from ...featcache.types import IMAGE_TEXT
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import DatasetQuery, SideQuery, matching_stores, refuse
from ..runs.evaluation import Evaluation
from .encoder_comparison import HELD_OUT, RECALL_AT, EncoderNeighbours, compared, in_all_of
from .rank_encoders_spec import FEWEST, RankReport, RankSpec

DEFINITIONS = {
    "items": (
        "images drawn at random, each with its first text, that have a row in every store; all "
        "pairs of encoders are compared on the same ones. Of a store of all tokens their mean is "
        "taken, of a grid its cells one after the other"
    ),
    "ridge": (
        "mean of both directions of R@10, percent: a linear map with a penalty predicts "
        "texts from images on four fifths of the items, and the last fifth is ranked by the cosine "
        "of predicted and real texts, each less the training mean. The table is sorted by it"
    ),
    "image_to_text, text_to_image": "the same of one direction; ties count against the encoders",
    "mutual_knn": (
        "percent of an item's k nearest others by image features that are among the k nearest by "
        "text features, mean over items; by chance k / (items - 1)"
    ),
    "cka": (
        "linear centred kernel alignment of all items, times 100; chance is its mean over all "
        "orders of one side. It has no interval: an item that is drawn twice is alike to itself"
    ),
    "interval": (
        "95 %: of one direction the score interval of a share (Wilson), else the percentile "
        "interval over items drawn again; the ridge map stays"
    ),
}


def run(spec: RankSpec, progress: Progress = SILENT) -> RankReport:
    """Compare every image store with every text store of one split.

    Raises:
        StoreNotFoundError: There are no stores of images and texts of the same items.
        SpecError: There are too few items with rows in all of them.
        StoreCorruptError: The features of a store do not vary.
    """
    evaluation = Evaluation(
        kind="rank-encoders",
        home=spec.home,
        data=DatasetQuery.of(spec.data, home=spec.home, options=spec.source),
        split=spec.split,
        progress=progress,
        options={
            "data": spec.data,
            "items": spec.items,
            "neighbours": spec.neighbours,
            "seed": spec.seed,
            "held_out": HELD_OUT,
            "recall_at": RECALL_AT,
        },
        definitions=DEFINITIONS,
    )
    query = evaluation.query(dict.fromkeys(IMAGE_TEXT, SideQuery()))
    stores = matching_stores(spec.home, query, progress) or refuse(spec.home, query)
    images, texts = map(_by_label, stores.values())
    evaluation.stores = {**images, **texts}
    dataset, source = evaluation.dataset, evaluation.source
    progress.note(
        f"{len(images)} image stores by {len(texts)} text stores of {dataset}/{spec.split}"
    )
    # read from disk: all stores of a split together rarely fit the memory
    readers = {
        label: FeatureReader(entry.folder, residency="disk")
        for label, entry in evaluation.stores.items()
    }
    pairs = catalog.pairs_path(spec.home, dataset, spec.split, source)
    readable = [in_all_of([readers[label] for label in labels]) for labels in (images, texts)]
    links = _first_links(catalog.read_pairs(pairs).id_pairs(IMAGE_TEXT), *readable)
    image_ids, text_ids = zip(*_draw(links, spec), strict=True)
    by_text_store = {
        label: EncoderNeighbours.of(label, readers[label], text_ids, spec.neighbours)
        for label in texts
    }
    comparisons: dict[str, dict[str, Any]] = {}
    for label in progress.track(images, "compare", len(images), unit="image stores"):
        image = EncoderNeighbours.of(label, readers[label], image_ids, spec.neighbours)
        for name, numbers in compared(image, by_text_store, spec.neighbours).items():
            comparisons[f"{label} | {name}"] = numbers
    evaluation.metrics = dict(sorted(comparisons.items(), key=lambda pair: -pair[1]["ridge"].value))
    evaluation.ids = [*image_ids, *text_ids]
    unread = catalog.read_catalog(spec.home, f"{dataset}/{spec.split}").unread
    evaluation.warnings = [f"a store takes no part: {reason}" for reason in unread]
    path, report = evaluation.write()
    return RankReport(path=path, report=report)


def _by_label(entries: Sequence[StoreEntry]) -> dict[str, StoreEntry]:
    """Return the newest store of each encoder, layer and kind, by a name that says these."""
    stores: dict[str, StoreEntry] = {}
    summarised = set()
    for entry in entries:
        described = entry.description
        layer = "" if described.layer == -1 else f" layer {described.layer}"
        stores.setdefault(f"{described.encoder}{layer} {described.kind}", entry)
        if described.kind in {"mean", "cls", "last", "pooled"}:
            summarised.add((described.encoder, described.layer))
    # the mean of all tokens is worked out only where it is not stored, nor CLS
    return {
        label: entry
        for label, entry in sorted(stores.items())
        if entry.description.kind != "tokens"
        or (entry.description.encoder, entry.description.layer) not in summarised
    }


def _first_links(
    links: Iterable[tuple[str, str]], images: set[str], texts: set[str]
) -> list[tuple[str, str]]:
    """Return each of `images` with the first of its texts that is one of `texts`."""
    first: dict[str, str] = {}
    for image, text in links:
        if image in images and text in texts:
            first.setdefault(image, text)
    return list(first.items())


def _draw(links: Sequence[tuple[str, str]], spec: RankSpec) -> list[tuple[str, str]]:
    """Return some of `links` in a random order: the last fifth is held out."""
    order = np.random.default_rng(spec.seed).permutation(len(links))[: spec.items].tolist()
    fewest = max(FEWEST, spec.neighbours + 2)
    if len(order) < fewest:
        raise SpecError(
            f"{len(order)} items of split {spec.split!r} have rows in all stores, and at least "
            f"{fewest} are needed: R@10 of a fifth of fewer is high by chance; take a larger split"
        )
    return [links[place] for place in order]
