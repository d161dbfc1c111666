"""Find the stores of tokens that features can be derived from, so that nothing is encoded again."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...featcache.store.catalog import StoreEntry, read_catalog
from ...featcache.store.feature_store import FORMATS
from ...featcache.store.key import COMPRESSIONS, StoreDescription
from ...featcache.store.manifest import has_manifest, read_whole_manifest
from ...featcache.store.stored_types import exact_enough
from .outputs import Output
from .spec import ExtractSpec


def find_origins(spec: ExtractSpec, outputs: Sequence[Output]) -> dict[str, StoreEntry]:
    """Return the complete store of tokens that each output is derived from, by the output's key.

    An output is not among them where there is none that is exact enough, nor where it was begun by
    encoding: a store goes on as it was begun, so that its bytes do not depend on interruptions. All
    outputs are of one split.
    """
    if not spec.derive or not any(output.kind.is_derivable for output in outputs):
        return {}
    described = outputs[0].description
    stores = read_catalog(spec.home, f"{described.dataset}/{described.split}").entries
    whole = {store.key: store for store in stores if store.complete}
    origins = {}
    for output in outputs:
        origin = _origin_of(output, spec.home, whole)
        if origin is not None:
            origins[output.description.key] = origin
    return origins


def name_of(origin: StoreEntry) -> str:
    """Return the name of a store below its home, by which commands know it."""
    return "/".join(origin.folder.parts[-3:])


def begun_manifest(description: StoreDescription, home: Path) -> Mapping[str, Any] | None:
    """Return the manifest of a store that was begun, by another process just now perhaps."""
    folder = description.folder(home)
    return read_whole_manifest(folder) if has_manifest(folder) else None


def as_begun(description: StoreDescription, home: Path) -> StoreDescription:
    """Return `description` with the shards of the store that was begun, if one was."""
    begun = begun_manifest(description, home)
    if begun is None:
        return description
    return replace(description, rows_per_shard=begun["description"]["rows_per_shard"])


def pass_of(description: StoreDescription, origin: StoreEntry | None) -> tuple[str, int, str, str]:
    """Return the value that the stores of one pass have in common."""
    return (
        description.modality,
        description.rows_per_shard,
        "" if origin is None else origin.key,
        description.view_name or "",
    )


def _origin_of(output: Output, home: Path, whole: Mapping[str, StoreEntry]) -> StoreEntry | None:
    candidates = [whole[key] for key in _keys_of_tokens(output) if key in whole]
    usable = [
        store
        for store in candidates
        if all(
            getattr(store.description, name) == getattr(output.description, name)
            for name in ("dataset", "split", "width", "num_items")  # which no key covers
        )
    ]
    begun = begun_manifest(output.description, home)
    if begun is None:
        return next(iter(usable), None)
    # from another store of the same tokens it would get other bytes
    recorded = begun["settings"].get("derived_from", {}).get("key")
    return next((store for store in usable if store.key == recorded), None)


def _keys_of_tokens(output: Output) -> list[str]:
    """Return the keys of all stores of the output's tokens that are exact enough, best first."""
    described, encoder = output.description, output.encoder
    if not output.kind.is_derivable or described.companions or described.view is not None:
        return []
    places = itertools.product(exact_enough(described.dtype), COMPRESSIONS, FORMATS.names())
    return [
        replace(
            described,
            kind="tokens",
            dtype=dtype,
            compression=compression,
            container=container,
            companions=encoder.companion_names,
        ).key
        for dtype, compression, container in places
    ]
