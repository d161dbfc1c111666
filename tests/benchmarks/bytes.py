"""Weigh quality against bytes: `python tests/benchmarks/bytes.py --data flickr8k=PATH --home HOME`.

Keeps the image features of one encoder in several kinds and stored types, trains the same preset on
each of them with each seed, on the split `train` without any validation, and evaluates on
`--split`. Kinds of one stored type come from one pass. The texts are float16 tokens throughout.
Runs are named and kept below `--home`, so a stopped benchmark goes on. Prints a table, and as its
last line one JSON object. `--quick` takes `shapes`, one seed and three epochs.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from _runs import ENCODERS, evaluated, kept_home, trained

from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.reports import StoreReport
from lightalign.pipelines.extraction.spec import ExtractSpec

TEXTS = ENCODERS[1]
VARIANTS = (
    ("float32", "tokens"),
    ("float16", "tokens"),
    ("float16", "grid:4x4"),
    ("float16", "grid:2x2"),
    ("float16", "mean"),
    ("bfloat16", "tokens"),
    ("int8", "tokens"),
)
SIDES = ("text_to_image", "image_to_text")


def extract_images(
    options: argparse.Namespace, dtype: str, features: Sequence[str]
) -> list[StoreReport]:
    """Extract the splits, or find them in the cache; the stores become the newest either way."""
    spec = ExtractSpec(
        encoders=(options.encoder,),
        data=options.data,
        home=options.home,
        source=options.source,
        weights=options.weights,
        dtype=dtype,
        features=tuple(features),
    )
    return list(extract.run(spec).stores)


def extract_texts(options: argparse.Namespace) -> None:
    spec = ExtractSpec(
        encoders=(TEXTS,), data=options.data, home=options.home, source=options.source
    )
    extract.run(spec)


def measure(
    options: argparse.Namespace, dtype: str, kind: str, seed: int, keys: set[str]
) -> dict[str, Any]:
    """Train on the newest stores of one kind, which must be those of `keys`; return the metrics."""
    place = (options.home, options.data, options.source)
    weights = options.weights.stem if options.weights else "own"
    folder = trained(
        f"bytes-{options.encoder}-{weights}-{dtype}-{kind.replace(':', '-')}-{seed}",
        *place,
        ("train.validation=none", *options.sets),
        preset=options.preset,
        image_encoder=options.encoder,
        image_features=kind,
        seed=seed,
    )
    report = evaluated(folder, *place, options.split)
    used = {report["stores"]["image"], report["training"]["stores"]["train"]["image"]["key"]}
    assert used <= keys, f"{folder.name} used {used}, not {keys}"
    return report["metrics"]


def variants(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return stored types and kinds, those of one stored type together."""
    if options.variants is None:
        return list(VARIANTS)
    return sorted(tuple(variant.split("/")) for variant in options.variants)


def weigh(options: argparse.Namespace) -> list[dict[str, Any]]:
    extract_texts(options)
    for dtype, group in groupby(variants(options), key=lambda variant: variant[0]):
        extract_images(options, dtype, [kind for _, kind in group])
    found = []
    print(f"{'stored':10}{'kind':10}{'bytes/image':>12}{'MB':>8}", end="")
    print(f"{'t2i R@1':>15}{'i2t R@1':>15}{'chance':>15}")
    for dtype, kind in variants(options):
        stores = extract_images(options, dtype, [kind])  # a verb takes the newest of a kind
        keys = {store.key for store in stores}
        measured = [measure(options, dtype, kind, seed, keys) for seed in options.seeds]
        num_bytes, rows = sum(s.bytes for s in stores), sum(s.rows for s in stores)
        row = {"dtype": dtype, "kind": kind, "bytes_per_image": num_bytes / rows}
        row["megabytes"] = num_bytes / 1e6
        cells = ""
        for side in SIDES:
            recalls = [one[side]["recall"]["1"]["value"] for one in measured]
            deviation = stdev(recalls) if recalls[1:] else 0.0
            row[side] = {"mean": mean(recalls), "deviation": deviation}
            row[side]["chance"] = measured[0][side]["recall"]["1"]["chance"]
            cells += f"{row[side]['mean']:9.1f} ±{deviation:4.1f}"
        chances = "/".join(f"{row[side]['chance']:.2f}" for side in SIDES)
        start = f"{dtype:10}{kind:10}{row['bytes_per_image']:12.0f}{row['megabytes']:8.1f}"
        print(f"{start}{cells}{chances:>15}", flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--preset", default="lightalign/fusion")
    parser.add_argument("--variants", nargs="+", metavar="DTYPE/KIND", help="such as int8/tokens")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], dest="sets")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.source = {}
    if options.quick:
        options.data, options.split, options.seeds = "shapes", "test", [0]
        options.sets = ["train.epochs=3", *options.sets]
        options.source = {"train": 100, "val": 10, "test": 50}
    with kept_home(options.home) as options.home:
        found = weigh(options)
    print(json.dumps({"data": options.data.partition("=")[0], "variants": found}))


if __name__ == "__main__":
    main()
