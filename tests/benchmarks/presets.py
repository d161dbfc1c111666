"""Compare all presets on one dataset: `python tests/benchmarks/presets.py --data flickr8k=PATH`.

Extracts the dataset (or finds it in the cache), trains each preset with its own options and each
seed on the split `train`, and evaluates on `--split`, which takes no part in training: presets that
choose an epoch by validation hold back a tenth of the training images, the others keep the last
epoch. A preset whose epochs would take longer than `--limit` minutes is trained with one seed and
as many epochs as fit. Runs are named and kept below `--home`, so a stopped benchmark goes on.
Prints a table, and as its last line one JSON object. `--quick` takes `shapes`, three presets and
one seed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from _runs import COLUMNS, HEADS, extract_all, measured, summary, trained

from lightalign.adapters.preset import list_presets
from lightalign.pipelines import runs
from lightalign.pipelines.train import TrainOptions, resolve_preset


def validation_of(own: TrainOptions) -> str:
    """Return where a preset's validation images come from."""
    chooses = own.schedule == "plateau" or own.early_stopping or own.select_by != "recall"
    return "train.validation=0.1" if chooses else "train.validation=none"


def epochs_that_fit(
    options: argparse.Namespace, preset: str, own: TrainOptions, sets: tuple[str, ...]
) -> int:
    """Return how many of its epochs a preset can take in the time, from one that is timed."""
    probe = [*sets, "train.epochs=1"]
    folder = trained(
        f"probe-{preset}", options.home, options.data, options.source, probe, preset=preset
    )
    seconds = runs.read_report(folder)["seconds"]
    return min(own.epochs, max(1, int(options.limit * 60 / seconds)))


def measure(options: argparse.Namespace, preset: str) -> dict[str, Any]:
    table, own = resolve_preset(preset, None, ())
    sets = (validation_of(own),)
    epochs = own.epochs if "fit" in table else epochs_that_fit(options, preset, own, sets)
    seeds = options.seeds if epochs == own.epochs else options.seeds[:1]
    if epochs < own.epochs:
        sets = (*sets, f"train.epochs={epochs}")
    rows, reports = [], []
    for seed in seeds:
        folder = trained(
            f"preset-{preset}-{seed}",
            options.home,
            options.data,
            options.source,
            sets,
            preset=preset,
            seed=seed,
        )
        rows.append(measured(folder, options.home, options.data, options.source, options.split))
        reports.append(runs.read_report(folder))
    seconds = sum(report["seconds"] for report in reports) / len(reports)
    done = max(report.get("epochs", 1) for report in reports)
    images = reports[0]["num_images"]
    return {
        "preset": preset,
        "recalls": summary(rows),
        "seeds": len(rows),
        "epochs": done,
        "of_epochs": own.epochs,
        "parameters": reports[0]["num_parameters"],
        "images_per_second": done * images / seconds,
        "minutes": seconds / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--presets", nargs="+", default=list_presets())
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limit", type=float, default=10.0, help="minutes of one training")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.source = {}
    if options.quick:
        options.data, options.split, options.seeds, options.limit = "shapes", "test", [0], 0.1
        options.presets = ["cca", "linear", "lightcrl/no-context"]
        options.source = {"train": 100, "val": 10, "test": 50}
    extract_all(options.home, options.data, options.source)
    start = f"{'preset':32}" + "".join(f"{head:>13}" for head in HEADS)
    print(f"{start}{'sum':>13}{'parameters':>12}{'images/s':>9}{'minutes':>8}{'seeds':>6} epochs")
    found = []
    for preset in options.presets:
        row = measure(options, preset)
        found.append(row)
        recalls = row["recalls"]
        cells = [recalls[f"{side} R@{k}"] for side, k in COLUMNS] + [recalls["sum"]]
        numbers = "".join(f"{mean:8.1f} ±{deviation:3.1f}" for mean, deviation in cells)
        print(
            f"{preset:32}{numbers}{row['parameters']:12,}{row['images_per_second']:9.0f}"
            f"{row['minutes']:8.1f}{row['seeds']:6} {row['epochs']}/{row['of_epochs']}",
            flush=True,
        )
    print(json.dumps({"data": options.data.partition("=")[0], "presets": found}))


if __name__ == "__main__":
    main()
