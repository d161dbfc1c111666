"""Take our own default apart: `python tests/benchmarks/ablation.py --data flickr8k=PATH`.

Each row changes one thing of `lightalign/base`, trains it on the split `train` with every seed for
all its epochs, keeps the last one, and evaluates on `--split`, which takes no part in training.
Runs are named and kept below `--home`, so a stopped benchmark goes on: all rows with the first seed
come first, and the preset as it is may be there from `presets.py`. Prints a table, a row once its
last seed is done, and as its last line one JSON object.
`--quick` takes `shapes`, two rows and one seed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from _runs import COLUMNS, ENCODERS, HEADS, extract_all, kept_home, measured, summary, trained

BOTH = ("image", "text")


def of_both(option: str) -> tuple[str, ...]:
    """Return an override of both towers."""
    return tuple(f"towers.{tower}.{option}" for tower in BOTH)


ROWS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "offsets nearly zero": ("finish.limit=1e-6",),
    "one trained head": (
        *of_both("project.heads=1"),
        *("objective.parts=2", "objective.contrasted=1"),
    ),
    "no solved head": of_both("project.solved=1e-6"),
    "the solved head alone": (*of_both("project.solved=1e6"), "train.epochs=1"),
    "solved head by a kernel": (
        "start.part=kernel-cca",
        *of_both("project.anchors=2048"),
        *of_both("project.features=512"),
    ),
    "solved head weighs a third": of_both("project.solved=0.3333"),
    "one loss of all heads": ("objective.parts=1", "objective.contrasted=1"),
    "averages only": (*of_both("pool.summaries=['mean']"), *of_both("centre.blocks=1")),
    "summaries as long as they are": of_both("pool.unit=false"),
    "texts by one matrix": ("towers.text.project.hidden=0",),
    "images by two matrices": ("towers.image.project.hidden=512",),
    "dropout 0.3": of_both("project.dropout=0.3"),
    "one caption a step": ("train.captions=one",),
    "batch of 64": ("train.batch_size=64",),
    "batch of 1,024": ("train.batch_size=1024",),
    "scale learnt from 14.3": ("objective.scale_init=14.2857", "objective.learnable=true"),
    "label smoothing 0.1": ("objective.label_smoothing=0.1",),
    "averaged weights": ("train.ema=0.99",),
}


def measure(options: argparse.Namespace, row: str, seed: int) -> dict[str, float]:
    """Train one row with one seed, or find its run, and return its recalls."""
    place = (options.home, options.data, options.source)
    sets = ("train.validation=none", *ROWS[row])
    kinds = {"image_features": "tokens", "text_features": "tokens"}
    preset = "lightalign/base"
    label = f"preset-{preset}-{seed}"
    folder = trained(label, *place, sets, preset=preset, seed=seed, **kinds)
    return measured(folder, *place, options.split)


def compare(options: argparse.Namespace) -> None:
    """Train and evaluate each row with each seed."""
    extract_all(options.home, options.data, options.source, ENCODERS)
    print(f"{'':30}" + "".join(f"{head:>13}" for head in [*HEADS, "sum"]), flush=True)
    by_row: dict[str, list[dict[str, float]]] = {label: [] for label in options.rows}
    found: dict[str, Any] = {}
    for seed in options.seeds:
        for label, rows in by_row.items():
            rows.append(measure(options, label, seed))
            if len(rows) < len(options.seeds):
                continue
            found[label] = summary(rows)
            cells = [found[label][f"{side} R@{k}"] for side, k in COLUMNS] + [found[label]["sum"]]
            numbers = "".join(f"{value:8.1f} ±{deviation:3.1f}" for value, deviation in cells)
            print(f"{label:30}{numbers}", flush=True)
    print(json.dumps({"data": options.data.partition("=")[0], "rows": found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--home", type=Path, help="keeps stores and runs")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.source = {}
    if options.quick:
        options.data, options.split, options.seeds = "shapes", "test", [0]
        options.rows = ["as it is", "the solved head alone"]
        options.source = {"train": 100, "val": 10, "test": 50}
    with kept_home(options.home) as options.home:
        compare(options)


if __name__ == "__main__":
    main()
