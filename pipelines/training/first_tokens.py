"""Refuse to train on the first token of each row where it is the same in all of them.

It is in a text encoder whose attention is causal, such as CLIP's or GPT: the first token knows
nothing of those after it. A run on it would end with the ranks of chance. Where no class token
stands first, it is the upper left cell of an image or a register, which are refused as well.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from ...adapters.adapter import Adapter, table_of
from ...adapters.step import Step
from ...adapters.steps.cls_pool import ClsPool
from ...adapters.steps.concat_pool import ConcatPool
from ...featcache.encoders.pooling import FeaturePooling
from ...featcache.errors import SpecError
from ...featcache.reading.reader import FeatureReader
from ...featcache.store.catalog import StoreEntry
from ...featcache.store.manifest import read_whole_manifest
from ...featcache.types import Modality, Side
from ..inputs.pairs import PairDataset
from ..inputs.pooled_features import are_alike, begins_with_added, first_is_constant, spread_rows
from ..runs.provenance import card_of


def check_first_tokens(adapter: Adapter, stores: PairDataset, *, device: torch.device) -> list[str]:
    """Return a line for each tower that reads such tokens of its store among other things.

    Raises:
        SpecError: A tower reads nothing else.
    """
    notes = []
    for side, reader in zip(stores.pair.sides, (stores.first, stores.second), strict=True):
        entries = stores.pair.streams[side]
        for number, (entry, stream) in enumerate(zip(entries, reader.streams, strict=True)):
            _check_stream(stream, side)
            path = adapter.path_of(side, number)
            name = next((name for name in path if _takes_first(adapter.steps[name])), "")
            # what stands behind the join reads the first token of the first stream
            if name and (number == 0 or name not in adapter.paths[side]):
                tower = _Tower(adapter, side, number, reader, device)
                notes += _notes_of_step(tower, name, _what_is_first(entry, stream))
    return notes


class _Tower(NamedTuple):
    """One stream of a tower, and the reader of all its streams."""

    adapter: Adapter
    side: Side
    stream: int
    reader: FeatureReader
    device: torch.device


def _check_stream(stream: FeatureReader, side: Side) -> None:
    """Pass unless the features that are read are one vector for all items.

    Raises:
        SpecError: They are.
    """
    description = stream.description
    if description.kind == "cls" and first_is_constant(stream):
        raise SpecError(
            f"the 'cls' features of {description.encoder} are one vector for all "
            f"{side.label}s, as those of a causal encoder are: extract and train on its "
            "'last', 'mean' or 'pooled'"
        )


def _notes_of_step(tower: _Tower, name: str, instead: str | None) -> list[str]:
    """Return lines for the step `name`, whose first token is `instead` where it is of no class.

    Raises:
        SpecError: The step reads nothing else.
    """
    step = tower.adapter.steps[name]
    encoder = tower.reader.streams[tower.stream].description.encoder
    place = f"towers.{table_of(name)}.{name.partition('/')[2]}"
    summary, mean = place, f"{place}.part=mean-pool"
    if isinstance(step, ConcatPool):
        summary, mean = f"'cls' in {place}.summaries", f"'{place}.summaries=[\"mean\"]'"
    takes_more = isinstance(step, ConcatPool) and len(step.summaries) > 1
    notes = []
    if instead is not None and not _is_mixed_before(tower, name):
        what = f"{encoder} has no class token: it is {instead}"
        if takes_more:
            return [f"warning: {summary} reads the first token, but {what}"]
        raise SpecError(
            f"{place} reads the first token alone, but {what}; add --set {mean}, or train on its "
            "'mean' or 'pooled' features"
        )
    if instead is not None:
        notes.append(
            f"{summary} reads the first token, which is no class token, as {encoder} has none: it "
            f"begins as {instead}, and the steps before let it know of the others"
        )
    if _is_constant_at(tower, name):
        what = f"the first token of {encoder} is the same for all {tower.side.label}s"
        if not takes_more:
            raise SpecError(
                f"{place} reads the first token alone, but {what}: add --set {mean}, or train on "
                "its 'last', 'mean' or 'pooled' features"
            )
        notes.append(f"warning: {what}: {summary} tells nothing of any")
    return notes


def _what_is_first(entry: StoreEntry, reader: FeatureReader) -> str | None:
    """Return what the first token of each row is, where it is known to be no class token."""
    description = entry.description
    if description.tokens_per_item == 1:
        return None
    settings = read_whole_manifest(entry.folder)["settings"]
    if description.modality == Modality.IMAGE.value:
        return _first_of_image(entry, settings)
    is_text = description.modality == Modality.TEXT.value
    if not is_text or not FeaturePooling(description.kind).keeps_tokens:
        return None
    recorded = settings.get("first_is_class")
    if recorded is None and "special_tokens" in description.companions:
        recorded = begins_with_added(reader)
    # an encoder without a tokenizer, as toy-text, calls the first word its class token
    return "the first word of a text" if recorded is False else None


def _first_of_image(entry: StoreEntry, settings: Mapping[str, Any]) -> str | None:
    if not FeaturePooling(entry.description.kind).keeps_tokens:
        return "the upper left cell of an image"
    card = card_of(entry, settings)
    if card is not None and not card["layout"].get("prefix_tokens", 0):
        return "the upper left cell of an image"
    # stores of before this was recorded do not tell a register from a class token
    return "a register" if settings.get("first_is_class") is False else None


def _is_mixed_before(tower: _Tower, name: str) -> bool:
    """Return whether a step before another lets each token know of the others."""
    names = tower.adapter.path_of(tower.side, tower.stream)
    steps = (tower.adapter.steps[earlier] for earlier in names[: names.index(name)])
    return any(isinstance(step, Step) and step.mixes for step in steps)


@torch.no_grad()
def _is_constant_at(tower: _Tower, name: str) -> bool:
    """Return whether the first token of what a step reads is the same in all rows, unlike the rest.

    Steps before it may have mixed the tokens.
    """
    # dropout before the step would make equal tokens differ
    adapter, reader = tower.adapter, tower.reader
    was_training = adapter.training
    adapter.eval()
    rows = reader.padded(spread_rows(reader)).to(tower.device)
    tokens = adapter.tokens_before(rows, tower.side, name)
    adapter.train(was_training)
    real = tokens.mask.unsqueeze(2)
    means = torch.where(real, tokens.values, 0).sum(dim=1) / real.sum(dim=1)
    firsts = tokens.values[:, 0]
    # where the means are alike, too, the rows are: that says nothing of the first token
    return are_alike(firsts.float().cpu().numpy()) and not are_alike(means.float().cpu().numpy())


def _takes_first(step: nn.Module) -> bool:
    return isinstance(step, ClsPool) or (isinstance(step, ConcatPool) and "cls" in step.summaries)
