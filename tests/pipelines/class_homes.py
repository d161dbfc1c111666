"""A home with stores of classed images of made-up features, and a run whose adapter reads them."""

import json
from pathlib import Path

import numpy as np

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.checkpoint import save_adapter
from lightalign.adapters.objective import build_objective
from lightalign.featcache.config import to_toml
from lightalign.featcache.links import Links
from lightalign.featcache.store import catalog
from lightalign.featcache.store.catalog import StoreEntry
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import Classes, Features, Modality
from lightalign.pipelines.inputs.labelled_images import LabelledImages
from lightalign.pipelines.runs import run_folder

NAMES = ("ash", "beech", "cedar")
LINEAR = {
    "both": {
        "project": {"part": "linear", "out": 6, "per_modality": True},
        "pool": {"part": "mean-pool"},
    }
}
OBJECTIVE = {"part": "clip"}


def blobs(count, *, seed, spread=0.5, width=6, num_classes=3, tokens=2, centres=0):
    """Return rows of `tokens` tokens around a centre for each class, and the classes."""
    middle = 2.0 * np.random.default_rng(centres).standard_normal((num_classes, width))
    random = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    noise = spread * random.standard_normal((count, tokens, width))
    return (middle[labels][:, None] + noise).astype(np.float32), labels


def write_split(
    home: Path, split: str, features, labels, *, names=NAMES, dataset="trees", prefix=None
) -> StoreEntry:
    """Write a store of images with classes, in shards of ten rows."""
    num, tokens, width = features.shape
    ids = tuple(f"{split if prefix is None else prefix}/{row:04d}" for row in range(num))
    description = StoreDescription(
        dataset=dataset,
        split=split,
        source=f"source-of-{dataset}-{split}",
        encoder="made-up",
        identity={"version": 1},
        modality="image",
        width=width,
        tokens_per_item=tokens,
        num_items=num,
        rows_per_shard=10,
        dtype="float32",
    )
    folder = description.folder(home)
    store = FeatureStore.create(folder, description, versions={})
    for index in range(store.num_shards):
        items = store.shard_items(index)
        values = features[items.start : items.stop].reshape(-1, width)
        offsets = np.arange(len(items) + 1) * tokens
        store.write_shard(index, Features(values, offsets, ids[items.start : items.stop]), [])
    store.finish()
    named = {}
    if labels is not None:
        named["classes"] = Classes(
            tuple(names), dict(zip(ids, np.asarray(labels).tolist(), strict=True))
        )
    path = catalog.pairs_path(home, dataset, split, description.source)
    catalog.write_pairs(path, Links.of({Modality.IMAGE: ids}, labels=named))
    return next(entry for entry in catalog.list_stores(home) if entry.folder == folder)


def write_run(home: Path, entry: StoreEntry, *, towers=LINEAR, weights=None, name="start") -> Path:
    """Write a finished run whose image side reads what `entry` holds, trained on other data."""
    widths = {Modality.IMAGE: entry.description.width, Modality.TEXT: 5}
    adapter = build_adapter(towers, widths=widths, seed=0)
    if weights is not None:
        adapter.load_state_dict({**adapter.state_dict(), **weights})
    folder = home / "runs" / name
    table = {"towers": towers, "objective": OBJECTIVE}
    save_adapter(folder, adapter, build_objective(OBJECTIVE), table=table)
    image = {
        "encoder": entry.description.encoder,
        "encoder_key": entry.encoder_key,
        "key": "of another dataset",
        "kind": entry.description.kind,
        "layer": entry.description.layer,
        "dtype": entry.description.dtype,
        "width": entry.description.width,
    }
    text = {**image, "encoder": "made-up-text", "encoder_key": "text", "width": 5}
    stores = {"dataset": "captions", "split": "train", "source": "s", "image": image, "text": text}
    spec = {**table, "stores": {"train": stores}, "encoders": {}}
    (folder / run_folder.SPEC).write_text(to_toml(spec))
    (folder / run_folder.REPORT).write_text(json.dumps({"kind": "train", "spec": spec}))
    return folder


def class_rows(home: Path, entry: StoreEntry) -> LabelledImages:
    return LabelledImages(entry, home=home)
