"""Time a pass that derives means and a grid from stored tokens: `deriving.py [--images N]`.

Stores are those of `pooling.py`: random features with the shapes of Flickr8k. The first pass
compares checksums as it reads; the second finds in the home that they were compared. Prints seconds
and items a second of each.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from pooling import PATCHES, TEXTS, WIDTH, write_home

from lightalign.featcache.encoders.pooling import FeaturePooling, LayerLayout
from lightalign.featcache.store.catalog import StoreEntry, list_stores
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.extraction.derive import Derivation
from lightalign.pipelines.extraction.filling import StoreJob
from lightalign.pipelines.extraction.outputs import Output

_SETTLES = 2.5  # seconds after which a file is remembered as whole


def derive(home: Path, entry: StoreEntry, ids: list[str]) -> float:
    """Derive what a store of tokens decides, remove it again, and return the seconds."""
    is_image = entry.description.modality == "image"
    kinds = ("mean", "cls", "grid:7x7") if is_image else ("mean", "cls")
    grid = (14, 14) if is_image else None
    layout = LayerLayout(width=WIDTH, prefix_tokens=PATCHES - 196 if is_image else 0, grid=grid)
    jobs = []
    for kind in map(FeaturePooling, kinds):
        tokens = 49 if kind.name.startswith("grid") else 1
        described = replace(
            entry.description, kind=kind.name, tokens_per_item=tokens, rows_per_shard=1024
        )
        store = FeatureStore.create(described.folder(home), described, versions={})
        no_encoder = cast(Any, None)  # nothing is encoded
        output = Output(
            loaded=no_encoder, layer=-1, kind=kind, layout=layout, description=described
        )
        jobs.append(StoreJob(output=output, store=store))
    began = time.perf_counter()
    Derivation(jobs, entry.folder, ids, max_bad=0, progress=SILENT).run()
    seconds = time.perf_counter() - began
    for job in jobs:
        shutil.rmtree(job.store.folder)
    return seconds


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="few images")
    options = parser.parse_args()
    if options.quick:
        options.images = 64
    with tempfile.TemporaryDirectory(prefix="lightalign-") as folder:
        home = Path(folder)
        write_home(home, options.images)
        time.sleep(_SETTLES)
        images = [f"{number:05d}.jpg" for number in range(options.images)]
        ids = {
            "image": images,
            "text": [f"{image}#{number}" for image in images for number in range(TEXTS)],
        }
        for entry in list_stores(home):
            modality = entry.description.modality
            for label in ("checksums compared", "remembered"):
                seconds = derive(home, entry, ids[modality])
                count = len(ids[modality])
                print(
                    f"{modality}s, {label}: {seconds:.1f} s, {count / seconds:,.0f} items a second "
                    f"on {torch.get_num_threads()} threads"
                )


if __name__ == "__main__":
    main()
