"""Frozen encoders of a trained run, opened again as the training had them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...featcache.config import Table, canonical_json
from ...featcache.encoders.base import Encoder
from ...featcache.encoders.card import parse_card
from ...featcache.encoders.loading import build_encoder
from ...featcache.encoders.pooling import FeaturePooling, LayerLayout
from ...featcache.errors import (
    FeatureRangeError,
    SpecError,
    WeightsMismatchError,
    WeightsNotFoundError,
)
from ...featcache.home import expanded
from ...featcache.modalities import known_sides, reader_of
from ...featcache.modalities.image import upright_rgb
from ...featcache.store.key import encoder_key
from ...featcache.store.stored_form import as_stored
from ...featcache.store.stored_types import finite_tokens
from ...featcache.tokens import Tokens
from ...featcache.types import Item, Side
from ..inputs.store_selection import each_recorded, recorded_streams
from . import run_folder

_OF_FEATURES = ("layer", "kind", "dtype", "encoder_key")  # what finds the features of a run again


@dataclass(frozen=True)
class EncoderView:
    """Encoder, with the layer and the kind of features that a training read of it.

    Attributes:
        layer: Which of its layers, counted from the end.
        kind: What is kept of them.
        dtype: Type in which they are stored.
    """

    encoder: Encoder[Any]
    layer: int
    layout: LayerLayout
    kind: FeaturePooling
    dtype: str

    def features(self, prepared: Sequence[Any], names: Sequence[str]) -> Tokens:
        """Return the features of a batch as its store would hold them."""
        (tokens,) = self.encoder.encode_layers(prepared, [self.kind.layer_read(self.layer)])
        reduced = self.kind.reduce(tokens, self.layout)
        stored = as_stored(reduced.values[reduced.mask], self.dtype)
        finite = finite_tokens(*stored.arrays(), self.dtype)
        if not finite.all():
            rows = torch.arange(len(reduced))[:, None].expand_as(reduced.mask)[reduced.mask]
            name = names[int(rows[int(np.argmin(finite))])]
            raise FeatureRangeError(f"{name}: a feature does not fit {self.dtype}")
        restored = stored.floats()
        values = torch.zeros(reduced.values.shape, dtype=restored.dtype)
        values[reduced.mask] = restored
        return Tokens(values, reduced.mask)


class RunEncoders:
    """Encoders of a finished run, each opened when it is first needed.

    An encoder must be the very one whose features the adapter was trained on: weights,
    preprocessing, tokenizer and precision are compared.

    Args:
        folder: The run folder; nothing else is needed but the encoders' weights.
        device: Where they compute.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.

    Attributes:
        sides: The sides of the run.

    Raises:
        SpecError: The run did not record its encoders, or weights are named for another one.
        StoreCorruptError: A file of the run is damaged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: torch.device,
        weights: Mapping[str, Path] | None = None,
    ) -> None:
        self.folder = folder
        self.device = device
        self._table = run_folder.read_spec(folder)
        if "encoders" not in self._table:
            raise SpecError(
                f"{folder} does not say what its encoders were: {run_folder.ways_out(folder)}"
            )
        self.sides = known_sides(self._table["encoders"])
        self._weights = dict(weights or {})
        unknown = sorted(set(self._weights) - _names(self._table))
        if unknown:
            raise SpecError(
                f"weights are named for {unknown[0]!r}; the encoders of {folder} are {self.names}"
            )
        self._readings: dict[Side, tuple[EncoderView, ...]] = {}

    @property
    def names(self) -> dict[str, str]:
        """Return the name of the encoder of each side, such as `image` or `first_text`.

        Those of a side that reads several stand side by side, joined by `+`.
        """
        return {
            side: "+".join(encoder["name"] for encoder in each_recorded(of_side))
            for side, of_side in self._table["encoders"].items()
        }

    def features(
        self, side: Side, contents: Sequence[Any], names: Sequence[str], *, batch_size: int
    ) -> Iterator[list[Tokens]]:
        """Yield the features of some items after the other, those of each stream of a side.

        Args:
            side: One of `sides`.
            contents: Texts of a side of texts; else files, or contents of files, or pictures.
            names: What messages call each.
            batch_size: Items per forward pass, at least 1.

        Raises:
            LightalignError: See `Embedder.embed_images`.
        """
        if batch_size < 1:
            raise SpecError(f"batch_size must be at least 1, found {batch_size}")
        readings = self.readings(side)
        for start in range(0, len(contents), batch_size):
            chunk = slice(start, start + batch_size)
            streams = []
            for reading in readings:
                prepared = [
                    _prepare(content, name, reading.encoder, side)
                    for content, name in zip(contents[chunk], names[chunk], strict=True)
                ]
                streams.append(reading.features(prepared, names[chunk]))
            yield streams

    def readings(self, side: Side) -> tuple[EncoderView, ...]:
        """Return the encoder of each stream of a side, with what the training kept of its tokens.

        Raises:
            LightalignError: See `embed_images`.
        """
        if side not in self._readings:
            stores = self._table["stores"]["train"].get(side.value)
            streams = recorded_streams(stores, self._table["encoders"][side.value])
            self._readings[side] = tuple(
                self._open(side, described, stored) for stored, described in streams
            )
        return self._readings[side]

    def _open(
        self, side: Side, described: Mapping[str, Any], stored: Mapping[str, Any]
    ) -> EncoderView:
        missing = [name for name in _OF_FEATURES if name not in stored]
        if missing:
            raise SpecError(
                f"{self.folder / run_folder.SPEC} does not say {missing[0]} of the {side.label} "
                "features that the run was trained on, as an earlier lightalign wrote it: "
                "train anew"
            )
        name, identity = described["name"], described["identity"]
        if "card" not in described:
            raise SpecError(
                f"{self.folder} holds no card of encoder {name!r}, as the lightalign that trained "
                "it had none"
            )
        card = parse_card(name, described["card"])
        try:
            encoder = build_encoder(card, weights=self._weights.get(name), device=str(self.device))
        except WeightsNotFoundError as error:
            raise WeightsNotFoundError(
                f"{error}; of a run that is --weights {name}=PATH, in Python lightalign.load(..., "
                f"weights={{{name!r}: PATH}})"
            ) from error
        # the precision decides the numbers, so it is that of the extraction, whatever this machine
        # prefers
        encoder.precision = identity.get("precision", encoder.precision)
        layer, kind = stored["layer"], FeaturePooling(stored["kind"])
        layout = encoder.layout(kind.layer_read(layer))
        reading = EncoderView(encoder, layer, layout, kind, stored["dtype"])
        now: Table = json.loads(canonical_json(encoder.identity_at(kind.layer_read(layer))))
        key = encoder_key(now, layer=layer, kind=kind.name, dtype=stored["dtype"])
        # the key of a store hashes all that changes a feature: one comparison covers weights, layer
        # and type
        if key != stored["encoder_key"]:
            raise WeightsMismatchError(
                f"encoder {name!r} is not the one that {self.folder.name} was trained on: "
                f"{_difference(identity, now)}"
            )
        return reading


def weights_of(folder: Path, weights: Mapping[str, Path]) -> dict[str, Path]:
    """Return those of the weights by encoder name that are of an encoder of a run.

    Raises:
        StoreCorruptError: A file of the run is damaged.
    """
    names = _names(run_folder.read_spec(folder))
    return {name: path for name, path in weights.items() if name in names}


def _names(table: Table) -> set[str]:
    """Return the names of all encoders of a run; `table` is its `run.toml`."""
    return {
        encoder["name"]
        for of_side in table.get("encoders", {}).values()
        for encoder in each_recorded(of_side)
    }


def _prepare(content: Any, name: str, encoder: Encoder[Any], side: Side) -> Any:
    """Return an item as an encoder takes it: a text, a file, its bytes, or a decoded picture."""
    if isinstance(content, Image.Image):
        return encoder.preprocess(upright_rgb(content, item_id=name), item_id=name)
    if isinstance(content, bytes):
        return encoder.prepare(Item(id=name, data=content))
    if not reader_of(side.modality).has_files:
        return encoder.prepare(Item(id=name, text=content))
    return encoder.prepare(Item(id=name, path=expanded(Path(content))))


def _difference(then: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> str:
    """Return in words where two identities differ; TOML has left out what is None."""
    differences = []
    for key in sorted({*then, *now}):
        first, second = then.get(key), now.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            differences.append(_difference(first, second, f"{within}{key}."))
        elif first != second:
            differences.append(f"{within}{key} was {first!r:.60}, is {second!r:.60}")
    return "; ".join(difference for difference in differences if difference)
