"""Compare all presets on one dataset: `python tests/benchmarks/presets.py --data flickr8k=PATH`.

Extracts the dataset (or finds it in the cache), trains each preset with its own options and each
seed on the split `train`, and evaluates on `--split`, which takes no part in training: presets that
choose an epoch by validation hold back a tenth of the training images, the others keep the last
epoch. A preset whose epochs would take longer than `--limit` minutes reads the 2x2 blocks of the
image tokens' grid instead of all tokens; where that takes longer, too, it is trained with one seed
and as many epochs as fit. Its corrected twin gets the same. Presets of mixed latents read averaged
tokens. Runs are named and kept below `--home`, so a stopped benchmark goes on, and a finished one
only evaluates. `fusion:NAME` among `--presets` is what `--fusion NAME` trains. Prints a table, and
as its last line one JSON object: images/s and the minutes of all epochs are those of steps that are
timed at the end, one preset after the other, so a last call on a quiet machine gives speeds that
compare. `--quick` takes `shapes`, three of them and one seed.
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

from _runs import (
    COLUMNS,
    ENCODERS,
    HEADS,
    extract_all,
    file_name,
    kept_home,
    measured,
    summary,
    trained,
)

from lightalign.adapters.preset import DUAL, list_presets
from lightalign.featcache.config import fingerprint
from lightalign.pipelines.planning import dry_run
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training.options import TrainOptions, resolve_preset
from lightalign.pipelines.training.spec import TrainSpec

BLOCKS = ("grid:2x2", "tokens")


def named(preset: str) -> dict[str, str]:
    """Return the fields of a `TrainSpec` that name a preset, or a fusion of the default one."""
    fusion = preset.removeprefix("fusion:")
    return {"preset": preset} if fusion == preset else {"fusion": fusion}


def resolved(preset: str) -> tuple[dict[str, Any], TrainOptions]:
    """Return the table of a preset or fusion, and how it is trained."""
    fields = named(preset)
    return resolve_preset(fields.get("preset"), fields.get("fusion"), ())


def validation_of(own: TrainOptions) -> str:
    """Return where a preset's validation images come from."""
    chooses = own.schedule == "plateau" or own.early_stopping or own.select_by != "recall"
    return "train.validation=0.1" if chooses else "train.validation=none"


def timed(
    options: argparse.Namespace, preset: str, sets: tuple[str, ...], features: dict[str, str]
) -> dict[str, float]:
    """Return images a second and the minutes of all epochs of a preset, from some real steps."""
    image_encoder, text_encoder = ENCODERS
    found = dry_run.run(
        TrainSpec(
            home=options.home,
            **named(preset),
            data=options.data,
            source=options.source,
            overrides=sets,
            image_encoder=image_encoder,
            text_encoder=text_encoder,
            **features,
        )
    )
    return {"images_per_second": found.images / found.epoch_seconds, "minutes": found.minutes}


def course_of(
    options: argparse.Namespace, preset: str, own: TrainOptions, sets: tuple[str, ...]
) -> tuple[int, dict[str, str]]:
    """Return for how many epochs on which features a preset is trained, as its twin is.

    What was decided once is kept, and holds when a stopped benchmark goes on.
    """
    name = preset.removesuffix("-corrected")
    table, _ = resolved(name)
    asked = fingerprint([options.data, options.source, options.limit, table])[:12]
    place = options.home / "benchmarks" / f"{file_name(name)}-{asked}.json"
    if not place.is_file():
        found = None
        for image, text in [("mean", "mean")] if own.mixup.alpha else [("tokens",) * 2, BLOCKS]:
            features = {"image_features": image, "text_features": text}
            minutes = timed(options, preset, sets, features)["minutes"] / own.epochs
            found = min(own.epochs, max(1, int(options.limit / minutes))), features
            if found[0] == own.epochs:
                break
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(found))
    epochs, features = json.loads(place.read_text())
    return epochs, features


def measure(options: argparse.Namespace, preset: str) -> dict[str, Any]:
    """Train a preset with each seed, or with one for as long as there is time, and evaluate it."""
    table, own = resolved(preset)
    solved = "fit" in table
    sets = (validation_of(own),)
    epochs, features = own.epochs, {"image_features": "tokens", "text_features": "tokens"}
    if not solved:
        epochs, features = course_of(options, preset, own, sets)
    seeds = options.seeds if epochs == own.epochs else options.seeds[:1]
    trained_sets = sets if epochs == own.epochs else (*sets, f"train.epochs={epochs}")
    rows, reports = [], []
    for seed in seeds:
        folder = trained(
            f"preset-{preset}-{seed}",
            options.home,
            options.data,
            options.source,
            trained_sets,
            **named(preset),
            seed=seed,
            **features,
        )
        rows.append(measured(folder, options.home, options.data, options.source, options.split))
        reports.append(run_folder.read_report(folder))
    minutes = mean(report["seconds"] for report in reports) / 60
    speed = {"images_per_second": reports[0]["num_images"] / minutes / 60, "minutes": minutes}
    return {
        "preset": preset,
        "recalls": summary(rows),
        "seeds": len(rows),
        "features": features["image_features"],
        "epochs": max(report.get("epochs", 1) for report in reports),
        "of_epochs": 1 if solved else own.epochs,
        "steps": max(report.get("steps", 0) for report in reports),
        "parameters": reports[0]["num_parameters"],
        **(speed if solved else timed(options, preset, sets, features)),
    }


def compare(options: argparse.Namespace) -> None:
    """Train and evaluate each preset with each seed."""
    for encoder, kinds in zip(
        ENCODERS, (("tokens", "mean", "grid:2x2"), ("tokens", "mean")), strict=True
    ):
        extract_all(options.home, options.data, options.source, encoders=(encoder,), features=kinds)
    start = f"{'preset':32}" + "".join(f"{head:>13}" for head in HEADS)
    print(
        f"{start}{'sum':>13}{'parameters':>12}{'images/s':>9}{'minutes':>8}{'seeds':>6}"
        f" {'images':9}{'epochs':9}steps"
    )
    found = []
    for preset in options.presets:
        row = measure(options, preset)
        found.append(row)
        recalls = row["recalls"]
        cells = [recalls[f"{side} R@{k}"] for side, k in COLUMNS] + [recalls["sum"]]
        numbers = "".join(f"{value:8.1f} ±{deviation:3.1f}" for value, deviation in cells)
        epochs = f"{row['epochs']}/{row['of_epochs']}"
        print(
            f"{preset:32}{numbers}{row['parameters']:12,}{row['images_per_second']:9.0f}"
            f"{row['minutes']:8.2f}{row['seeds']:6} {row['features']:9}"
            f"{epochs:9}{row['steps']:,}",
            flush=True,
        )
    print(json.dumps({"data": options.data.partition("=")[0], "presets": found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--home", type=Path, help="keeps stores and runs")
    # `as-is` compares what a pair of encoders already shares; these two share nothing
    all_presets = [name for name in list_presets(DUAL) if name != "as-is"]
    parser.add_argument("--presets", nargs="+", default=[*all_presets, "fusion:cross_attn"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limit", type=float, default=10.0, help="minutes of one training")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.source = {}
    if options.quick:
        options.data, options.split, options.seeds, options.limit = "shapes", "test", [0], 0.1
        options.presets = ["cca", "linear", "fusion:cross_attn"]
        options.source = {"train": 100, "val": 10, "test": 50}
    with kept_home(options.home) as options.home:
        compare(options)


if __name__ == "__main__":
    main()
