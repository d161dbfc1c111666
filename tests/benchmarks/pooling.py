"""Compare epochs that pool once with epochs that pool at each step: `pooling.py [--quick]`.

Stores of random features with the shapes of Flickr8k are written: `--images` images of 197 tokens
and five texts each of 8 to 24 tokens, 384 wide, in float16. Two trainers of `lightalign/base` have
the same seed, batches and weights; one reads the tokens of a row once, the other at each step. They
take turns, `--rounds` epochs each after one that is told apart: in it rows are pooled.

Prints a line a round, and as its last line one JSON object with medians and whether the weights are
equal in the end, to the bit. `--quick` takes few images.
"""

import argparse
import json
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch

from lightalign.featcache.links import Links
from lightalign.featcache.store import catalog
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import IMAGE_TEXT, Features
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.inputs import pairs as joined
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

WIDTH, PATCHES, TEXTS = 384, 197, 5
ROWS = 256  # of a shard


def write_store(home: Path, modality: str, ids: list[str], lengths: np.ndarray) -> None:
    """Write a store of random features with so many tokens of each row."""
    random = np.random.default_rng(len(ids))
    is_ragged = len(np.unique(lengths)) > 1
    described = StoreDescription(
        dataset="flickr8k",
        split="train",
        source="0" * 64,
        encoder=f"random-{modality}",
        identity={"backend": "random"},
        modality=modality,
        width=WIDTH,
        tokens_per_item=None if is_ragged else int(lengths[0]),
        num_items=len(ids),
        rows_per_shard=ROWS,
    )
    store = FeatureStore.create(described.folder(home), described, versions={})
    for index in range(store.num_shards):
        items = store.shard_items(index)
        offsets = np.concatenate([[0], np.cumsum(lengths[items.start : items.stop])])
        values = random.standard_normal((int(offsets[-1]), WIDTH), np.float32).astype(np.float16)
        rows = tuple(ids[items.start : items.stop])
        store.write_shard(index, Features(values, offsets.astype(np.int64), rows), [])
    store.finish()


def write_home(home: Path, num_images: int, *, tokens: bool = True) -> None:
    """Write both stores and their pairs; without `tokens` each row is one vector."""
    images = [f"{number:05d}.jpg" for number in range(num_images)]
    texts = [f"{image}#{number}" for image in images for number in range(TEXTS)]
    write_store(home, "image", images, np.full(num_images, PATCHES if tokens else 1))
    lengths = np.random.default_rng(0).integers(*((8, 25) if tokens else (1, 2)), len(texts))
    write_store(home, "text", texts, lengths)
    links = ((text.partition("#")[0], text) for text in texts)
    path = catalog.pairs_path(home, "flickr8k", "train", "0" * 64)
    catalog.write_pairs(
        path, Links.of(dict(zip(IMAGE_TEXT, (images, texts), strict=True)), {IMAGE_TEXT: links})
    )


def at_each_step() -> AbstractContextManager[object]:
    """Return a block in which trainers are made that pool at each step."""
    return patch.object(joined, "pool_once", lambda reader, *_, **__: reader)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    num_images = 512 if options.quick else options.images
    with tempfile.TemporaryDirectory(prefix="lightalign-") as folder:
        home = Path(folder)
        write_home(home, num_images)
        overrides = ("train.precision=float32", "train.validation=none")
        spec = TrainSpec(preset="lightalign/base", home=home, overrides=overrides)
        plan = resolve(spec, SILENT)
        device = torch.device(options.device)

        def trainer() -> Trainer:
            return Trainer(plan, home=home, seed=0, device=device)

        with at_each_step():
            each = trainer()
        trainers = {"once": trainer(), "each": each}
        assert trainers["once"].stores.pooled
        assert not each.stores.pooled
        seconds: dict[str, list[float]] = {name: [] for name in trainers}
        for epoch in range(1, options.rounds + 2):
            for name, one in trainers.items():
                torch.manual_seed(epoch)
                began = time.perf_counter()
                for _ in one.steps(one.loaded(epoch)):
                    pass
                seconds[name].append(time.perf_counter() - began)
            shown = ", ".join(f"{name} {found[-1]:.2f} s" for name, found in seconds.items())
            print(f"epoch {epoch}: {shown}", flush=True)
        pairs = zip(*(one.adapter.state_dict().values() for one in trainers.values()), strict=True)
        print(
            json.dumps(
                {
                    "images": num_images,
                    "first": {name: found[0] for name, found in seconds.items()},
                    "later": {name: median(found[1:]) for name, found in seconds.items()},
                    "ratio": median(seconds["each"][1:]) / median(seconds["once"][1:]),
                    "kept_megabytes": sum(
                        shape.num_bytes for shape in trainers["once"].stores.pooled.values()
                    )
                    / 1e6,
                    "equal": all(torch.equal(first, second) for first, second in pairs),
                }
            )
        )


if __name__ == "__main__":
    main()
