"""Stores that one pass of extraction fills: encoders times layers times kinds, by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...featcache.encoders.base import Encoder
from ...featcache.encoders.pooling import FeaturePooling, LayerLayout
from ...featcache.store.key import StoreDescription
from ...featcache.store.stored_types import token_bytes
from ...featcache.types import Modality
from .loaded_encoder import LoadedEncoder
from .opening import ResolvedExtraction
from .spec import ExtractSpec

_SHARD_BYTES = 64 * 2**20  # large enough to write at disk speed, small enough to redo after a crash
_RAGGED_ROWS = 512, 2048  # of few and of many items; 512 captions take about 5 MB at 384 features
_RAGGED_SHARDS = 256  # from here on a shard has more rows, as each is several files
_POOLED_ROWS = 8192  # one token a row: with ids and companions they are in memory at once


@dataclass(frozen=True, kw_only=True)
class Output:
    """Name one store that a pass fills.

    Attributes:
        loaded: The encoder.
        layer: Which of its layers.
        kind: What is kept of the layer's tokens.
        layout: Which tokens the layer returns.
        description: What the store holds.
    """

    loaded: LoadedEncoder
    layer: int
    kind: FeaturePooling
    layout: LayerLayout
    description: StoreDescription

    @property
    def encoder(self) -> Encoder[Any]:
        """Return the encoder."""
        return self.loaded.encoder

    @property
    def layer_read(self) -> int:
        """Return what the encoder is asked for."""
        return self.kind.layer_read(self.layer)


def describe_outputs(
    spec: ExtractSpec, opened: ResolvedExtraction, loaded: Sequence[LoadedEncoder], split: str
) -> list[Output]:
    """Return every store that `spec` asks for of one split, in the order of its options.

    Raises:
        SpecError: An encoder has no such layer, or a layer no such features.
    """
    counts = {
        modality: len(opened.source.items(split, modality)) for modality in _modalities(loaded)
    }
    rows = _rows_per_shard(spec, loaded, counts)
    outputs = []
    for one in sorted(loaded, key=lambda one: one.encoder.modality.value):
        encoder = one.encoder
        for layer in spec.layers:
            for kind in map(FeaturePooling, spec.features):
                layout = encoder.layout(kind.layer_read(layer))
                tokens = kind.tokens_per_item(layout, encoder.modality)
                description = StoreDescription(
                    dataset=opened.dataset,
                    split=split,
                    source=opened.fingerprint(split),
                    encoder=encoder.name,
                    identity=encoder.identity_at(kind.layer_read(layer)),
                    modality=encoder.modality.value,
                    width=layout.width,
                    tokens_per_item=tokens,
                    num_items=counts[encoder.modality],
                    rows_per_shard=rows[encoder.modality],
                    layer=layer,
                    kind=kind.name,
                    dtype=spec.dtype,
                    container=spec.format,
                    compression=spec.compression,
                    companions=encoder.companion_names if kind.keeps_tokens else (),
                )
                outputs.append(
                    Output(
                        loaded=one, layer=layer, kind=kind, layout=layout, description=description
                    )
                )
    return outputs


def _modalities(loaded: Sequence[LoadedEncoder]) -> set[Modality]:
    return {loaded_encoder.encoder.modality for loaded_encoder in loaded}


def _rows_per_shard(
    spec: ExtractSpec, loaded: Sequence[LoadedEncoder], counts: Mapping[Modality, int]
) -> dict[Modality, int]:
    """Return the items of a shard: those of the largest rows make about 64 MiB.

    Stores that are filled together end their shards together.
    """
    by_modality: dict[Modality, int] = {}
    for loaded_encoder in loaded:
        modality = loaded_encoder.encoder.modality
        for layer in spec.layers:
            for kind in map(FeaturePooling, spec.features):
                layout = loaded_encoder.encoder.layout(kind.layer_read(layer))
                tokens = kind.tokens_per_item(layout, modality)
                fewest, most = _RAGGED_ROWS
                rows = min(max(fewest, counts[modality] // _RAGGED_SHARDS), most)
                if tokens is not None:
                    row_bytes = tokens * token_bytes(spec.dtype, layout.width)
                    rows = max(1, min(_SHARD_BYTES // row_bytes, _POOLED_ROWS))
                # the fewest of all kinds: one pass ends the shards of all its stores together
                by_modality[modality] = min(by_modality.get(modality, rows), rows)
    return {modality: spec.rows_per_shard or rows for modality, rows in by_modality.items()}
