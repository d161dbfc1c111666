"""Compare joint trainings from the cache with online ones: `python tests/benchmarks/joint.py`.

Photos and encoders are those of `cached.py`. An epoch of `--preset` on pairs of photos and
captions, right and wrong ones, is trained in two ways by the same engine, with the same batches,
steps, precision and seed:

    cached  tokens come from the stores, as `train-joint` reads them
    online  the encoders that have filled the stores encode the items of each batch, without a
            gradient, one batch ahead of its step

Both have a trainer of their own and take turns, `--rounds` times after some batches to warm up;
their losses must agree. Prints a line a round, and as its last line one JSON object: median seconds
and CPU seconds, and their ratio (online over cached). `--quick` takes few photos.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _photos import ANYWHERE, photo_rows, write_table
from cached import AGREEMENT, extract_both
from jaxtyping import Int64

from lightalign.featcache.encoders.base import Encoder
from lightalign.featcache.hardware import resolve_device
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Item, Modality
from lightalign.pipelines.training.joint_plan import resolve
from lightalign.pipelines.training.joint_spec import TrainJointSpec
from lightalign.pipelines.training.trainer import Trainer


class EncodingReader:
    """Give rows of a store by encoding their items anew."""

    def __init__(
        self, reader: FeatureReader, encoder: Encoder[Any], items: Mapping[str, Item]
    ) -> None:
        self.reader = reader
        self.encoder = encoder
        self.items = items

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def padded(self, rows: Int64[np.ndarray, " n"]) -> Tokens:
        items = [self.items[self.reader.ids[row]] for row in rows.tolist()]
        with torch.no_grad():
            tokens = self.encoder.encode([self.encoder.prepare(item) for item in items])
        return tokens.with_values(tokens.values.half())


def epoch_of(trainer: Trainer, number: int, most: int | None) -> dict[str, float]:
    """Train an epoch, or the first batches of it, and time it."""
    with trainer.seeded():
        began, cpu = time.perf_counter(), time.process_time()
        batches = islice(trainer.loaded(number), most)
        losses = [record["loss"] for record in trainer.steps(batches)]
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        return {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu,
            "loss": sum(losses) / len(losses),
            "steps": len(losses),
        }


def race(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Train both ways in turn, and return what was measured."""
    rows: Sequence[Mapping[str, Any]] = photo_rows(work, options.photos)
    data = f"image-text-table={write_table(work / 'table', rows)}"
    encoders, extracting = extract_both(options, work, rows, data)
    spec = TrainJointSpec(
        home=work / "home",
        preset=options.preset,
        overrides=("train.validation=none", f"train.batch_size={options.batch}"),
        device=options.device,
    )
    plan, device = resolve(spec), resolve_device(options.device)
    trainers = {
        name: Trainer(plan, home=spec.home, seed=0, device=device) for name in ("cached", "online")
    }
    source = open_source(data, home=Path(), options=ANYWHERE)
    stores = trainers["online"].opened.stores  # type: ignore[attr-defined]
    for name, modality in (("first", Modality.IMAGE), ("second", Modality.TEXT)):
        items = {item.id: item for item in source.items("train", modality)}
        reader = EncodingReader(getattr(stores, name), encoders[modality], items)
        setattr(stores, name, reader)
    for trainer in trainers.values():
        epoch_of(trainer, 0, options.warm)
    heads = ("cached s", "online s", "ratio", "cached loss", "online loss")
    print(f"{'round':>6}" + "".join(f"{head:>13}" for head in heads))
    rounds = []
    for number in range(1, options.rounds + 1):
        order = list(trainers) if number % 2 else list(trainers)[::-1]
        measured = {name: epoch_of(trainers[name], number, None) for name in order}
        rounds.append(measured)
        cached, online = measured["cached"], measured["online"]
        if abs(cached["loss"] - online["loss"]) > AGREEMENT * abs(cached["loss"]):
            raise RuntimeError(f"the sides do not train the same: {measured}")
        times = f"{cached['seconds']:13.2f}{online['seconds']:13.2f}"
        ratio = online["seconds"] / cached["seconds"]
        losses = f"{cached['loss']:13.4f}{online['loss']:13.4f}"
        print(f"{number:6}{times}{ratio:13.2f}{losses}", flush=True)
    return {
        "preset": options.preset,
        "photos": len(rows),
        "batch": options.batch,
        "steps": rounds[0]["cached"]["steps"],
        "precision": str(trainers["cached"].dtype).removeprefix("torch."),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        **{
            f"{name}_{what}": median(measured[name][what] for measured in rounds)
            for name in trainers
            for what in ("seconds", "cpu_seconds")
        },
        "ratio": median(
            measured["online"]["seconds"] / measured["cached"]["seconds"] for measured in rounds
        ),
        "extraction_seconds": extracting,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="vle/small")
    parser.add_argument("--photos", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=2, help="batches of each side to warm up")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.photos, options.batch, options.rounds, options.warm = 4, 8, 1, 1
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(race(options, Path(work))))


if __name__ == "__main__":
    main()
