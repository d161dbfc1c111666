"""Measure what is for few pairs: `python tests/benchmarks/few_pairs.py --data flickr8k=PATH`.

Closed forms on the summaries of `kernel-cca` with each caption or their average, and trainings of
`structure/*` with the regulariser and without it, on averaged tokens, by default of few steps and
smaller batches than published. All on the split `train`, evaluated on `--split`, which takes no
part in training. Runs are named and kept below `--home`, so a stopped benchmark goes on. Prints a
row once its last seed is done, and as its last line one JSON object. `--quick` takes `shapes`, two
rows and small sizes.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from _runs import COLUMNS, ENCODERS, HEADS, extract_all, measured, summary, trained


class Row(NamedTuple):
    """Preset of a row, what it changes, and the features that it reads."""

    preset: str
    overrides: tuple[str, ...] = ()
    features: str = "tokens"


LINEAR = (
    "towers.both.project={part='linear',out=256,per_modality=true}",
    "fit={part='cca',regularisation=2.0}",
)
SHORT = ("train.batch_size=1024", "train.early_stopping=0", "objective.structure.warmup=100")
WITHOUT = "objective.structure.weight=0.0"
CLOSED: dict[str, Row] = {
    "cca, each caption": Row("kernel-cca", LINEAR),
    "cca, captions averaged": Row("kernel-cca", (*LINEAR, "fit.captions=average")),
    "kernel-cca, each caption": Row("kernel-cca"),
    "kernel-cca, captions averaged": Row("kernel-cca", ("fit.captions=average",)),
    "kernel-cca, 1,024 anchors": Row("kernel-cca", ("towers.both.project.anchors=1024",)),
}
TRAINED: dict[str, Row] = {
    "structure/linear": Row("structure/linear", SHORT, "mean"),
    "structure/linear, weight 0": Row("structure/linear", (*SHORT, WITHOUT), "mean"),
    "structure/mlp": Row("structure/mlp", SHORT, "mean"),
    "structure/mlp, weight 0": Row("structure/mlp", (*SHORT, WITHOUT), "mean"),
}
ROWS = CLOSED | TRAINED


def measure(options: argparse.Namespace, label: str, seed: int) -> dict[str, float]:
    """Train one row with one seed, or find its run, and return its recalls."""
    row = ROWS[label]
    place = (options.home, options.data, options.source)
    sets = ["train.validation=none", *row.overrides]
    if label in TRAINED:
        sets.append(f"train.steps={options.steps}")
    elif options.quick:
        sets.append("towers.both.project.out=32")
    folder = trained(
        f"few-{row.preset}-{seed}",
        *place,
        sets,
        preset=row.preset,
        seed=seed,
        image_features=row.features,
        text_features=row.features,
    )
    return measured(folder, *place, options.split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300, help="of the trained rows")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.source = {}
    if options.quick:
        options.data, options.split, options.seeds = "shapes", "test", [0]
        options.rows, options.steps = ["kernel-cca, each caption", "structure/linear"], 4
        options.source = {"train": 100, "val": 10, "test": 50}
    extract_all(options.home, options.data, options.source, ENCODERS, features=("tokens", "mean"))
    print(f"{'':30}" + "".join(f"{head:>13}" for head in [*HEADS, "sum"]), flush=True)
    table: dict[str, Any] = {}
    for label in options.rows:
        means = summary([measure(options, label, seed) for seed in options.seeds])
        table[label] = means
        cells = [means[f"{side} R@{k}"] for side, k in COLUMNS] + [means["sum"]]
        numbers = "".join(f"{value:8.1f} ±{deviation:3.1f}" for value, deviation in cells)
        print(f"{label:30}{numbers}", flush=True)
    print(json.dumps({"data": options.data.partition("=")[0], "rows": table}))


if __name__ == "__main__":
    main()
