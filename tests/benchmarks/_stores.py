"""Stores of random numbers, where the content of features is not what is measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import Features


def write_random_store(
    home: Path,
    modality: str,
    ids: Sequence[str],
    *,
    tokens: int,
    width: int,
    rows_per_shard: int,
) -> None:
    """Write a store of the split `train` of a dataset `random`, a row an id."""
    description = StoreDescription(
        dataset="random",
        split="train",
        source="random",
        encoder=f"random-{modality}",
        identity={"modality": modality},
        modality=modality,
        width=width,
        tokens_per_item=tokens,
        num_items=len(ids),
        rows_per_shard=rows_per_shard,
    )
    store = FeatureStore.create(description.folder(home), description, versions={})
    random = np.random.default_rng(0)
    for index in range(store.num_shards):
        items = store.shard_items(index)
        values = random.standard_normal((len(items) * tokens, width), np.float32)
        offsets = np.arange(len(items) + 1) * tokens
        names = tuple(ids[items.start : items.stop])
        store.write_shard(index, Features(values.astype(np.float16), offsets, names), [])
    store.finish()
