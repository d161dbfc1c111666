"""Compare the fusions on one dataset: `python tests/benchmarks/fusions.py --data flickr8k=PATH`.

Extracts the dataset (or finds it in the cache), trains the default preset with each fusion and each
seed on the split `train` without any validation, so that the last epoch is kept, and evaluates on
`--split`. Runs are named and kept below `--home`, so a stopped benchmark goes on. Prints a table,
and as its last line one JSON object. `--quick` takes `shapes`, two fusions and one seed.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from lightalign.adapters.preset import list_fusions
from lightalign.featcache.errors import RunNotFoundError
from lightalign.featcache.spec import fingerprint
from lightalign.pipelines import extract, retrieve, runs, train
from lightalign.pipelines.stores import WantedData

ENCODERS = ("efficientnet-lite0", "minilm")
COLUMNS = [(side, k) for side in ("text_to_image", "image_to_text") for k in ("1", "5", "10")]


def measure(
    home: Path, data: str, source: dict, split: str, fusion: str, seed: int, sets: list[str]
) -> dict:
    wanted = WantedData.of(data, home=home, options=source)
    asked = fingerprint([wanted.fingerprint("train"), sets])[:12]
    name = f"fusions-{wanted.name}-{fusion}-{seed}-{asked}"
    try:
        folder = runs.find_run(home, name)
    except RunNotFoundError:
        spec = train.TrainSpec(
            home=home,
            data=data,
            source=source,
            image_encoder=ENCODERS[0],
            text_encoder=ENCODERS[1],
            fusion=fusion,
            seed=seed,
            overrides=("train.validation=none", *sets),
            name=name,
        )
        folder = train.run(spec).folder
    spec = retrieve.RetrieveSpec(home=home, run=str(folder), data=data, source=source, split=split)
    metrics = retrieve.run(spec).report["metrics"]
    seconds = runs.read_report(folder)["seconds"]
    found = {f"{side} R@{k}": metrics[side]["recall"][k] for side, k in COLUMNS}
    return {**found, "sum": metrics["recall_sum"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--split", default="test")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--fusions", nargs="+", default=[name for name, _ in list_fusions()])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], dest="sets")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    source = {}
    if options.quick:
        options.data, options.split, options.seeds = "shapes", "test", [0]
        options.fusions = ["none", "cross_attn"]
        options.sets = ["train.epochs=5", *options.sets]
        source = {"train": 100, "val": 10, "test": 50}
    for encoder in ENCODERS:
        extract.run(
            extract.ExtractSpec(
                encoders=(encoder,), data=options.data, home=options.home, source=source
            )
        )
    results: dict[str, dict[str, list[float]]] = {}
    heads = [f"{'t2i' if side == 'text_to_image' else 'i2t'} R@{k}" for side, k in COLUMNS]
    print(f"{'fusion':14}" + "  ".join(f"{head:>11}" for head in [*heads, "sum"]))
    for fusion in options.fusions:
        rows = [
            measure(options.home, options.data, source, options.split, fusion, seed, options.sets)
            for seed in options.seeds
        ]
        summary = {
            key: [
                mean(row[key] for row in rows),
                stdev(row[key] for row in rows) if rows[1:] else 0.0,
            ]
            for key in rows[0]
        }
        results[fusion] = summary
        cells = [summary[f"{side} R@{k}"] for side, k in COLUMNS] + [summary["sum"]]
        print(f"{fusion:14}" + "  ".join(f"{m:5.1f} ±{s:4.1f}" for m, s in cells), flush=True)
    print(json.dumps({"mean_and_deviation_over_seeds": results, "seeds": options.seeds}))


if __name__ == "__main__":
    main()
