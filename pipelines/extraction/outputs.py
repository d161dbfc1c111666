"""Stores that one pass of extraction fills: encoders times layers times kinds, by split."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...featcache.encoders.base import Encoder
from ...featcache.encoders.pooling import FeaturePooling, LayerLayout
from ...featcache.sources.base import Source
from ...featcache.store.key import StoreDescription
from ...featcache.store.stored_types import token_bytes
from ...featcache.types import Item, Modality
from ...featcache.views import View
from .loaded_encoder import LoadedEncoder
from .opening import ResolvedExtraction
from .spec import ExtractSpec
from .views import views_of

# large enough to write at disk speed, small enough to redo after a crash
_SHARD_BYTES = 64 * 2**20
# of few and of many items; 512 captions take about 5 MB at 384 features
_RAGGED_ROWS = 512, 2048
# from here on a shard has more rows, as each is several files
_RAGGED_SHARDS = 256
# one token a row: with ids and companions they are in memory at once
_POOLED_ROWS = 8192


@dataclass(frozen=True, kw_only=True)
class Output:
    """Name one store that a pass fills.

    Attributes:
        loaded: The encoder.
        layer: Which of its layers.
        kind: What is kept of the layer's tokens.
        layout: Which tokens the layer returns.
        description: What the store holds.
        view: What is encoded in place of the items themselves, or None.
    """

    loaded: LoadedEncoder
    layer: int
    kind: FeaturePooling
    layout: LayerLayout
    description: StoreDescription
    view: View | None = None

    @property
    def encoder(self) -> Encoder[Any]:
        """Return the encoder."""
        return self.loaded.encoder

    @property
    def layer_read(self) -> int:
        """Return what the encoder is asked for."""
        return self.kind.layer_read(self.layer)

    def items(self, source: Source) -> Sequence[Item]:
        """Return what is encoded, a row each."""
        split = self.description.split
        if self.view is not None:
            return self.view.items(source, split)
        return source.items(split, self.encoder.modality)

    def ids(self, source: Source) -> Sequence[str]:
        """Return the ids of `items`, without what it may cost to make these."""
        split = self.description.split
        if self.view is not None:
            return self.view.ids(source, split)
        return source.ids(split, self.encoder.modality)


def describe_outputs(
    spec: ExtractSpec, opened: ResolvedExtraction, loaded: Sequence[LoadedEncoder], split: str
) -> list[Output]:
    """Return every store that `spec` asks for of one split, in the order of its options.

    Raises:
        SpecError: An encoder has no such layer, a layer no such features, or something no view.
    """
    outputs: list[Output] = []
    views = views_of(spec, [loaded_encoder.encoder for loaded_encoder in loaded], opened, split)
    for loaded_encoder in loaded:
        encoder = loaded_encoder.encoder
        for layer, name in itertools.product(spec.layers, spec.features):
            kind = FeaturePooling(name)
            layout = encoder.layout(kind.layer_read(layer))
            description = StoreDescription(
                dataset=opened.dataset,
                split=split,
                source=opened.fingerprint(split),
                encoder=encoder.name,
                identity=encoder.identity_at(kind.layer_read(layer)),
                modality=encoder.modality.value,
                width=layout.width,
                tokens_per_item=kind.tokens_per_item(layout, encoder.modality),
                num_items=len(opened.source.items(split, encoder.modality)),
                rows_per_shard=1,  # until those of all stores are known
                layer=layer,
                kind=kind.name,
                dtype=spec.dtype,
                container=spec.format,
                compression=spec.compression,
                companions=encoder.companion_names if kind.keeps_tokens else (),
            )
            plain = Output(
                loaded=loaded_encoder,
                layer=layer,
                kind=kind,
                layout=layout,
                description=description,
            )
            outputs += [] if spec.views_only else [plain]
            outputs += [
                _viewed(plain, view, opened.source)
                for view in views
                if view.modality is encoder.modality and view.keeps(kind)
            ]
    rows_per_shard: dict[tuple[Modality, str | None], int] = {}
    for output in outputs:
        rows = spec.rows_per_shard or _rows_of_a_shard(output.description)
        # the fewest of all kinds: one pass ends the shards of all its stores together
        rows_per_shard[_pass(output)] = min(rows_per_shard.get(_pass(output), rows), rows)
    return [
        replace(
            output,
            description=replace(output.description, rows_per_shard=rows_per_shard[_pass(output)]),
        )
        # those of views last: what cannot be read is told of the items themselves
        for output in sorted(outputs, key=_order)
    ]


def _viewed(plain: Output, view: View, source: Source) -> Output:
    """Return the store of a view beside that of the items themselves."""
    described = plain.description
    description = replace(
        described,
        view=view.described(),
        num_items=len(view.items(source, described.split)),
        companions=(*described.companions, *view.companions(plain.kind)),
    )
    return replace(plain, description=description, view=view)


def _pass(output: Output) -> tuple[Modality, str | None]:
    """Return what the stores of one pass over the items have in common."""
    return output.encoder.modality, output.description.view_name


def _order(output: Output) -> tuple[str, str]:
    return output.encoder.modality.value, output.description.view_name or ""


def _rows_of_a_shard(description: StoreDescription) -> int:
    """Return the items of a shard of about 64 MiB, or fewer where they are held in memory."""
    tokens = description.tokens_per_item
    if tokens is None:
        fewest, most = _RAGGED_ROWS
        return min(max(fewest, description.num_items // _RAGGED_SHARDS), most)
    row_bytes = tokens * token_bytes(description.dtype, description.width)
    return max(1, min(_SHARD_BYTES // row_bytes, _POOLED_ROWS))
