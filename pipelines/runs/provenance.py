"""Provenance of a run: its command, its stores, and the encoders behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...featcache.config import Table, to_table
from ...featcache.encoders.card import card_names, read_card
from ...featcache.sources.opening import absolute_data
from ...featcache.store.catalog import StoreEntry
from ...featcache.store.manifest import read_whole_manifest
from ..inputs.store_selection import StorePair


def describe_pair(pair: StorePair) -> Table:
    """Return which two stores a pair is."""
    return {
        "dataset": pair.dataset,
        "split": pair.split,
        "source": pair.source,
        **{
            side.value: _with_further([_describe_store(entry) for entry in entries])
            for side, entries in pair.streams.items()
        },
    }


def _describe_store(entry: StoreEntry) -> Table:
    return {
        "encoder": entry.description.encoder,
        "kind": entry.description.kind,
        "layer": entry.description.layer,
        "dtype": entry.description.dtype,
        "encoder_key": entry.encoder_key,
        "key": entry.key,
        "width": entry.description.width,
    }


def _with_further(streams: Sequence[Table]) -> Table:
    """Return the record of a side, as `store_selection.recorded_streams` reads it."""
    first, *further = streams
    return {**first, "further": further} if further else first


def describe_encoders(pair: StorePair) -> Table:
    """Return by side all that finds an encoder again: its card, and what decides its numbers.

    An encoder without a card, such as one of a later version, has no entry `card`.
    """
    return {
        side.value: _with_further([_describe_encoder(entry) for entry in entries])
        for side, entries in pair.streams.items()
    }


def _describe_encoder(entry: StoreEntry) -> Table:
    name = entry.description.encoder
    described: dict[str, Any] = {"name": name, "identity": dict(entry.description.identity)}
    settings = read_whole_manifest(entry.folder)["settings"]
    if "weights" in settings:
        described["weights"] = settings["weights"]
    card = card_of(entry, settings)
    if card is not None:
        described["card"] = {key: card[key] for key in card if key != "name"}
    return described


def card_of(entry: StoreEntry, settings: Mapping[str, Any]) -> Table | None:
    """Return the card of a store's encoder: that of lightalign, of the store, or of its home."""
    name = entry.description.encoder
    if name in card_names():
        return to_table(read_card(name))
    stored: Table | None = settings.get("card")
    home = entry.folder.absolute().parents[3]
    if stored is None and name in card_names(home):
        return to_table(read_card(name, home=home))
    return stored


def command_of(spec: Any) -> Table:
    """Return what a training was asked for, so that it can be asked for again in any folder.

    Where files lie on this machine, and what computes, is left out; but not where the dataset is.
    """
    left_out = {"home", "device", "name"}
    command = {key: value for key, value in to_table(spec).items() if value is not None}
    if "data" in command:
        command["data"] = absolute_data(command["data"])
    return {key: value for key, value in command.items() if key not in left_out}
