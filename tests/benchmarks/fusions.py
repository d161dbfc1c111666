"""Compare the fusions on one dataset: `python tests/benchmarks/fusions.py --data flickr8k=PATH`.

Extracts the dataset (or finds it in the cache), trains the default preset with each fusion and each
seed on the split `train` without any validation, so that the last epoch is kept, and evaluates on
`--split`. Runs are named and kept below `--home`, so a stopped benchmark goes on. Prints a table,
and as its last line one JSON object. `--quick` takes `shapes`, two fusions and one seed.
"""

import argparse
import json
from pathlib import Path

from _runs import COLUMNS, HEADS, extract_all, kept_home, measured, summary, trained

from lightalign.adapters.preset import list_fusions
from lightalign.pipelines.runs import run_folder


def measure(options: argparse.Namespace, source: dict, fusion: str, seed: int) -> dict[str, float]:
    sets = ("train.validation=none", *options.sets)
    place = (options.home, options.data, source)
    folder = trained(f"fusion-{fusion}-{seed}", *place, sets, fusion=fusion, seed=seed)
    found = measured(folder, *place, options.split)
    return {**found, "seconds": run_folder.read_report(folder)["seconds"]}


def compare(options: argparse.Namespace) -> None:
    """Train and evaluate each fusion with each seed."""
    extract_all(options.home, options.data, options.source)
    results = {}
    print(f"{'fusion':14}" + "  ".join(f"{head:>11}" for head in [*HEADS, "sum"]))
    for fusion in options.fusions:
        found = summary([measure(options, options.source, fusion, seed) for seed in options.seeds])
        results[fusion] = found
        cells = [found[f"{side} R@{k}"] for side, k in COLUMNS] + [found["sum"]]
        print(f"{fusion:14}" + "  ".join(f"{m:5.1f} ±{s:4.1f}" for m, s in cells), flush=True)
    print(json.dumps({"mean_and_deviation_over_seeds": results, "seeds": options.seeds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--split", default="test")
    parser.add_argument("--home", type=Path, help="keeps stores and runs")
    parser.add_argument("--fusions", nargs="+", default=[name for name, _ in list_fusions()])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], dest="sets")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.source = {}
    if options.quick:
        options.data, options.split, options.seeds = "shapes", "test", [0]
        options.fusions = ["none", "cross_attn"]
        options.sets = ["train.epochs=5", *options.sets]
        options.source = {"train": 100, "val": 10, "test": 50}
    with kept_home(options.home) as options.home:
        compare(options)


if __name__ == "__main__":
    main()
