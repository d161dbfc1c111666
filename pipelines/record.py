"""What a run records of the stores that it was trained on, and of the encoders behind them."""

from typing import Any

from ..featcache.card import card_names, read_card
from ..featcache.spec import Table, to_table
from .stores import StorePair


def describe_pair(pair: StorePair) -> Table:
    """Return which two stores a pair is."""
    return {
        "dataset": pair.dataset,
        "split": pair.split,
        "source": pair.source,
        **{
            side.value: {
                "encoder": entry.description.encoder,
                "kind": entry.description.kind,
                "layer": entry.description.layer,
                "dtype": entry.description.dtype,
                "encoder_key": entry.encoder_key,
                "key": entry.key,
                "width": entry.description.width,
            }
            for side, entry in pair.entries.items()
        },
    }


def describe_encoders(pair: StorePair) -> Table:
    """Return by side all that finds an encoder again: its card, and what decides its numbers.

    An encoder without a card, such as one of a later version, has no entry `card`.
    """
    found = {}
    for side, entry in pair.entries.items():
        name = entry.description.encoder
        described: dict[str, Any] = {"name": name, "identity": dict(entry.description.identity)}
        if name in card_names():
            card = to_table(read_card(name))
            described["card"] = {key: card[key] for key in card if key != "name"}
        found[side.value] = described
    return found
