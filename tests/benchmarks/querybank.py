"""Compare scorings of retrieval: `python tests/benchmarks/querybank.py --data NAME=PATH`.

Extracts averaged tokens of the dataset (or finds them in the cache), trains `--preset` with each
seed on the split `train`, where no validation chooses an epoch, and evaluates on `--split`, which
so takes no part in training: by the cosine, and normalised by a bank of at most 10,000 training
items of a side, by both rules at several values of sharpness. R@1, R@5 and R@10 of both directions
are summed (RSUM, at most 600). Runs are named and kept below `--home`. Prints a table of the means
over seeds with the smallest and the largest, the share of queries that the dynamic rule touches,
and as its last line one JSON object. `--quick` takes `shapes` and one seed.
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from _runs import ENCODERS, kept_home

from lightalign.featcache.sources.opening import parse_data
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.evaluation.query_bank import embed_bank, find_bank
from lightalign.pipelines.evaluation.retrieve_spec import BANK
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.inputs.image_text import join_stores
from lightalign.pipelines.inputs.store_selection import StoreQuery, require_pair
from lightalign.pipelines.metrics.ranks import recall_curve
from lightalign.pipelines.ranking.hubness import querybank
from lightalign.pipelines.ranking.normalisation import DYNAMIC, RULES, Normalisation
from lightalign.pipelines.ranking.ranking import Direction, both_directions, ranks_only
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.embed_stored import embed_pairs
from lightalign.pipelines.runs.trained_run import TrainedRun
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

SHARPNESS = (10.0, 15.0, 20.0, 30.0)
KS = (1, 5, 10)
DIRECTIONS = ("text_to_image", "image_to_text")


def trained(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Return the run of one seed, trained now unless it is there."""
    run = f"querybank-{name}-{options.preset.replace('/', '-')}-{seed}"
    folder = options.home / "runs" / run
    if not (folder / run_folder.REPORT).is_file():
        train.run(
            TrainSpec(
                home=options.home,
                preset=options.preset,
                data=options.data,
                source=options.source,
                image_encoder=ENCODERS[0],
                text_encoder=ENCODERS[1],
                image_features="mean",
                text_features="mean",
                overrides=("train.validation=none",),
                seed=seed,
                name=run,
            )
        )
    return folder


def recalls(direction: Direction) -> list[float]:
    """Return R@1, R@5 and R@10, percent."""
    curve = recall_curve(ranks_only(direction, KS[-1]), KS[-1])
    return [float(curve[k - 1]) for k in KS]


def measured(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Return the recalls of both directions by each scoring, of the run of one seed."""
    run = TrainedRun(options.home, str(trained(options, name, seed)))
    query = StoreQuery(split=options.split, dataset=name, by_side=run.queries)
    paired = join_stores(require_pair(options.home, query), home=options.home)
    rows = paired.relations(paired.images).rows
    found = find_bank(run, paired, rows, home=options.home, most=BANK)
    bank = embed_bank(run, found, SILENT)
    pairs = embed_pairs(run.adapter, paired, device=run.device)
    table: dict[str, Any] = {"cosine": {}, "touched": {}}
    for direction in both_directions(pairs):
        own = bank[direction.name.partition("_to_")[0]]
        table["cosine"][direction.name] = recalls(direction)
        for rule in RULES:
            for sharpness in SHARPNESS:
                scoring = Normalisation(rule=rule, sharpness=sharpness)
                scored = querybank(direction, own, scoring)
                table.setdefault(f"{rule} {sharpness:g}", {})[direction.name] = recalls(scored)
                if rule == DYNAMIC:
                    share = 100.0 * float(np.mean(scored.queries[:, -1]))
                    table["touched"][direction.name] = share
    return table


def extracted(options: argparse.Namespace) -> str:
    """Extract what is not in the cache, and return the name of the dataset."""
    for encoder in ENCODERS:
        for split in ("train", options.split):
            spec = ExtractSpec(
                encoders=(encoder,),
                data=options.data,
                home=options.home,
                split=split,
                source=options.source,
                features=("mean",),
            )
            extract.run(spec)
    return parse_data(options.data)[0]


def compare(options: argparse.Namespace) -> None:
    """Train, evaluate and normalise with each seed."""
    name = extracted(options)
    found = [measured(options, name, seed) for seed in range(options.seeds)]
    touched = [mean(one["touched"][direction] for one in found) for direction in DIRECTIONS]
    print("| Scoring | Text to image R@1 / 5 / 10 | Image to text R@1 / 5 / 10 | RSUM |")
    print("|---|---|---|---|")
    for scoring in (key for key in found[0] if key != "touched"):
        cells = []
        for direction in DIRECTIONS:
            every = zip(*(one[scoring][direction] for one in found), strict=True)
            cells.append(" / ".join(f"{mean(values):.1f}" for values in every))
        sums = [sum(sum(one[scoring][name]) for name in DIRECTIONS) for one in found]
        spread = f"{mean(sums):.1f} [{min(sums):.1f}, {max(sums):.1f}]"
        print(f"| {scoring} | {cells[0]} | {cells[1]} | {spread} |")
    print(f"the dynamic rule touches {touched[0]:.0f} % of the texts, {touched[1]:.0f} % of images")
    print(json.dumps({"data": name, "preset": options.preset, "seeds": found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--home", type=Path, help="keeps stores and runs")
    parser.add_argument("--preset", default="lightalign/base")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.source = {}
    if options.quick:
        options.data, options.split, options.seeds = "shapes", "test", 1
        options.source = {"train": 100, "val": 10, "test": 50}
    with kept_home(options.home) as options.home:
        compare(options)


if __name__ == "__main__":
    main()
