"""Choose the stored layers to train on: those of both sides that share most neighbours."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ...featcache.config import Table
from ...featcache.encoders.base import LAST, Encoder
from ...featcache.encoders.card import card_names, read_card
from ...featcache.encoders.loading import load_backend
from ...featcache.errors import SpecError
from ...featcache.known_datasets import source_words, version_of
from ...featcache.store.catalog import StoreEntry
from ...featcache.store.manifest import read_whole_manifest
from ...featcache.store.remedies import extract_command, feature_options, features_of
from ..common.progress import SILENT, Progress
from ..inputs.layer_ranking import newest_of_each, rank_layers
from ..inputs.store_selection import SideQuery, StorePair, StoreQuery, matching_stores, require_pair


def choose_layers(
    home: Path, query: StoreQuery, progress: Progress = SILENT
) -> tuple[StorePair, Table]:
    """Return the best pair of stored layers of a query, and how it was chosen.

    Encoders and kinds of features are those that a training takes without the choice; the layers
    of each are ranked by mutual nearest neighbours of items of the split that the query is of.

    Raises:
        SpecError: A side asks for several streams, or for a layer or a key; or one layer alone is
            stored of each side.
        LightalignError: See `require_stores`.
    """
    _check_query(query)
    usual = require_pair(home, query, progress)
    by_side = {
        side: SideQuery(encoder=entry.description.encoder, kind=entry.description.kind)
        for side, entry in usual.entries.items()
    }
    same_items = replace(query, by_side=by_side, dataset=usual.dataset, source=usual.source)
    # the notes on these stores were told by `require_pair`
    matching = matching_stores(home, same_items)
    assert matching is not None, "the usual pair matches"
    stores = {side: list(newest_of_each(entries).values()) for side, entries in matching.items()}
    if all(len(entries) == 1 for entries in stores.values()):
        raise SpecError(_only_one_layer(home, query, usual))
    ranking = rank_layers(home, stores, progress=progress)
    best = ranking.pairs[0]
    pair = StorePair(best.first, best.second)
    table = ranking.table()
    layers = {side.value: entry.description.layer for side, entry in pair.entries.items()}
    words = " and ".join(
        f"{entry.description.layer} of {side.label}s" for side, entry in pair.entries.items()
    )
    progress.note(
        f"layers {words}: {table['value']:.1f} % of {ranking.num_neighbours} nearest neighbours "
        f"are shared (chance {table['chance']:.1f} %), the most of {len(ranking.pairs)} pairs"
    )
    return pair, {**layers, **table}


def _check_query(query: StoreQuery) -> None:
    """Pass if every side has one stream, of any layer."""
    sides = {place.label for place in query.by_side}
    if len(sides) < len(query.by_side):
        raise SpecError(
            "--auto-layers chooses a layer for each side, and a side has several streams: name one "
            "encoder and one kind of features a side, or leave --auto-layers out"
        )
    for side, asked in query.by_side.items():
        if asked.layer is not None or asked.key is not None:
            named = f"layer {asked.layer}" if asked.key is None else f"store {asked.key[:12]}"
            raise SpecError(
                f"--auto-layers chooses the layers, and {named} is named of the {side.label}s: "
                "give one of the two"
            )


def _only_one_layer(home: Path, query: StoreQuery, usual: StorePair) -> str:
    """Return the message of a query that leaves no choice, with the commands that make one."""
    stores = " and ".join(
        f"layer {entry.description.layer} of {entry.description.encoder} ({entry.description.kind})"
        for entry in usual.entries.values()
    )
    commands = [
        f"`{_extraction_of_more(home, query, entry)}`"
        for entry in _with_other_layers(home, usual.entries.values())
    ]
    way = (
        f"extract more by {' or '.join(dict.fromkeys(commands))}"
        if commands
        else "neither encoder has another, so leave it out"
    )
    return (
        f"--auto-layers chooses among stored layers, and of {usual.dataset}/{usual.split} there "
        f"are only {stores}: {way}"
    )


def _with_other_layers(home: Path, entries: Iterable[StoreEntry]) -> list[StoreEntry]:
    """Return the stores whose encoder may give other layers, as far as its card says."""
    able = []
    for entry in entries:
        name = entry.description.encoder
        if name in card_names(home):
            backend = load_backend(read_card(name, home=home).backend)
            if backend.encode_layers is Encoder.encode_layers:
                continue
        able.append(entry)
    return able


def _extraction_of_more(home: Path, query: StoreQuery, entry: StoreEntry) -> str:
    """Return the command that extracts another layer of a store, of all splits."""
    store = entry.description
    settings = read_whole_manifest(entry.folder)["settings"]
    version = version_of(home, store.dataset, store.split, store.source)
    if query.data is not None:
        data = list(query.data)
    elif version is not None:
        data = version.words()
    else:
        options = settings.get("source")
        data = ["--data", store.dataset, *source_words(options if options else {})]
    other = store.layer - 1 if store.layer == LAST else LAST
    options = feature_options({**vars(store), **features_of(store, settings)})
    layers = (max(store.layer, other), min(store.layer, other))
    return extract_command([store.encoder], data, home=home, options={**options, "layers": layers})
