"""Rank pairs of image and text encoders by how well they fit, before training, by stores alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...featcache.errors import SpecError
from ...featcache.reading.reader import FeatureReader
from ...featcache.store import catalog
from ...featcache.store.catalog import StoreEntry
from ...featcache.types import IMAGE_TEXT
from ..common.progress import SILENT, Progress
from ..inputs.layer_ranking import (
    first_texts,
    in_all_of,
    newest_of_each,
    rank_layers,
)
from ..inputs.store_selection import DatasetQuery, SideQuery, matching_stores, refuse
from ..runs.evaluation import Evaluation
from .encoder_comparison import HELD_OUT, RECALL_AT, EncoderNeighbours, compared
from .rank_encoders_spec import FEWEST, USUAL_NEIGHBOURS, RankReport, RankSpec

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

DEFINITIONS_OF_LAYERS = {
    "items": DEFINITIONS["items"].replace("pairs of encoders", "pairs of layers"),
    "mutual_knn": f"{DEFINITIONS['mutual_knn']}. The table is sorted by it",
    "interval": "95 %, the percentile interval over items drawn again",
}


def run(spec: RankSpec, progress: Progress = SILENT) -> RankReport:
    """Compare every image store with every text store of one split.

    With `layers` they are ranked by mutual nearest neighbours, and every kind of features that is
    stored of a layer takes part.

    Raises:
        StoreNotFoundError: There are no stores of images and texts of the same items.
        SpecError: There are too few items with rows in all of them.
        StoreCorruptError: The features of a store do not vary.
    """
    if spec.layers is not None:
        return _run_layers(spec, progress)
    num_neighbours = USUAL_NEIGHBOURS if spec.neighbours is None else spec.neighbours
    evaluation, images, texts = _opened(spec, _by_label, progress)
    evaluation.definitions = DEFINITIONS
    evaluation.options = {
        "data": spec.data,
        "items": spec.items,
        "neighbours": num_neighbours,
        "seed": spec.seed,
        "held_out": HELD_OUT,
        "recall_at": RECALL_AT,
    }
    dataset, source = evaluation.dataset, evaluation.source
    # read from disk: all stores of a split together rarely fit the memory
    readers = {
        label: FeatureReader(entry.folder, residency="disk")
        for label, entry in evaluation.stores.items()
    }
    pairs = catalog.pairs_path(spec.home, dataset, spec.split, source)
    readable = [in_all_of([readers[label] for label in labels]) for labels in (images, texts)]
    links = first_texts(catalog.read_pairs(pairs).id_pairs(IMAGE_TEXT), *readable)
    image_ids, text_ids = zip(*_draw(links, spec, num_neighbours), strict=True)
    by_text_store = {
        label: EncoderNeighbours.of(label, readers[label], text_ids, num_neighbours)
        for label in texts
    }
    comparisons: dict[str, dict[str, Any]] = {}
    for label in progress.track(images, "compare", len(images), unit="image stores"):
        image = EncoderNeighbours.of(label, readers[label], image_ids, num_neighbours)
        for name, numbers in compared(image, by_text_store, num_neighbours).items():
            comparisons[f"{label} | {name}"] = numbers
    evaluation.metrics = dict(sorted(comparisons.items(), key=lambda pair: -pair[1]["ridge"].value))
    evaluation.ids = [*image_ids, *text_ids]
    unread = catalog.read_catalog(spec.home, f"{dataset}/{spec.split}").unread
    evaluation.warnings = [f"a store takes no part: {reason}" for reason in unread]
    path, report = evaluation.write()
    return RankReport(path=path, report=report)


def _run_layers(spec: RankSpec, progress: Progress) -> RankReport:
    """Rank all pairs of stored layers and kinds; raises what `run` does."""
    evaluation, images, texts = _opened(spec, newest_of_each, progress)
    evaluation.definitions = DEFINITIONS_OF_LAYERS
    evaluation.variant = "layers"
    by_side = zip(IMAGE_TEXT, (list(images.values()), list(texts.values())), strict=True)
    ranking = rank_layers(
        spec.home,
        dict(by_side),
        num_items=spec.items,
        num_neighbours=spec.neighbours,
        seed=spec.seed,
        progress=progress,
    )
    evaluation.options = {
        "data": spec.data,
        "layers": spec.layers,
        "items": spec.items,
        "neighbours": ranking.num_neighbours,
        "seed": spec.seed,
    }
    evaluation.metrics = {pair.name: {"mutual_knn": pair.shared} for pair in ranking.pairs}
    evaluation.ids = ranking.ids
    evaluation.beside["layers"] = {
        label: {
            "encoder": entry.description.encoder,
            "layer": entry.description.layer,
            "kind": entry.description.kind,
        }
        for label, entry in evaluation.stores.items()
    }
    unread = catalog.read_catalog(spec.home, f"{evaluation.dataset}/{spec.split}").unread
    evaluation.warnings = [f"a store takes no part: {reason}" for reason in unread]
    path, report = evaluation.write()
    return RankReport(path=path, report=report)


def _opened(
    spec: RankSpec,
    choose: Callable[[Sequence[StoreEntry]], dict[str, StoreEntry]],
    progress: Progress,
) -> tuple[Evaluation, dict[str, StoreEntry], dict[str, StoreEntry]]:
    """Open the evaluation, and return it with the stores of each side that `choose` names.

    Raises:
        StoreNotFoundError: There are no stores of images and texts of the same items.
    """
    evaluation = Evaluation(
        kind="rank-encoders",
        home=spec.home,
        data=DatasetQuery.of(spec.data, home=spec.home, options=spec.source),
        split=spec.split,
        progress=progress,
    )
    query = evaluation.query(dict.fromkeys(IMAGE_TEXT, SideQuery()))
    matching = matching_stores(spec.home, query, progress) or refuse(spec.home, query)
    images, texts = map(choose, matching.values())
    evaluation.stores = {**images, **texts}
    progress.note(
        f"{len(images)} image stores by {len(texts)} text stores of "
        f"{evaluation.dataset}/{spec.split}"
    )
    return evaluation, images, texts


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


def _draw(
    links: Sequence[tuple[str, str]], spec: RankSpec, num_neighbours: int
) -> list[tuple[str, str]]:
    """Return some of `links` in a random order: the last fifth is held out."""
    order = np.random.default_rng(spec.seed).permutation(len(links))[: spec.items].tolist()
    fewest = max(FEWEST, num_neighbours + 2)
    if len(order) < fewest:
        raise SpecError(
            f"{len(order)} items of split {spec.split!r} have rows in all stores, and at least "
            f"{fewest} are needed: R@10 of a fifth of fewer is high by chance; take a larger split"
        )
    return [links[place] for place in order]
