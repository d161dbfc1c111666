"""Stores of made-up features, whose pairs and answers a test has written down."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lightalign.featcache.answers import Answers
from lightalign.featcache.links import Links
from lightalign.featcache.store import catalog
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import IMAGE_TEXT, Features, Modality
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import newest_pair

from ....helpers import both_sides

DATASET, SPLIT = "made-up", "train"


def write_store(home: Path, modality: Modality, rows: Mapping[str, Sequence[float]]) -> None:
    """Write a store whose row has a token of one feature for each number."""
    description = StoreDescription(
        dataset=DATASET,
        split=SPLIT,
        source=f"source-of-{SPLIT}",
        encoder=f"made-up-{modality}",
        identity={"version": 1},
        modality=modality.value,
        width=1,
        tokens_per_item=None,
        num_items=len(rows),
        rows_per_shard=100,
        dtype="float32",
    )
    store = FeatureStore.create(description.folder(home), description, versions={})
    values = np.concatenate([np.array(row, dtype=np.float32) for row in rows.values()])
    offsets = np.cumsum([0, *map(len, rows.values())])
    store.write_shard(0, Features(values[:, None], offsets, tuple(rows)), [])
    store.finish()


def made_up_pairs(
    home: Path,
    *,
    images: Mapping[str, Sequence[float]],
    texts: Mapping[str, Sequence[float]],
    links: Sequence[tuple[str, str]],
    text_ids: Sequence[str] | None = None,
    answers: Answers | None = None,
) -> PairedStores:
    """Write stores and what belongs together, and return them joined.

    Args:
        home: The home.
        images: Numbers of the tokens of each image that is stored, in the order of the rows.
        texts: Those of each text.
        links: Ids of each image and text that belong together.
        text_ids: All texts of the split in their order; those that are stored without.
        answers: Answers to them.
    """
    write_store(home, Modality.IMAGE, images)
    write_store(home, Modality.TEXT, texts)
    ids = {Modality.IMAGE: tuple(images), Modality.TEXT: tuple(text_ids or texts)}
    labels = {} if answers is None else {"answers": answers}
    path = catalog.pairs_path(home, DATASET, SPLIT, f"source-of-{SPLIT}")
    catalog.write_pairs(path, Links.of(ids, {IMAGE_TEXT: links}, labels))
    return PairedStores(newest_pair(home, both_sides(split=SPLIT)), home=home)
