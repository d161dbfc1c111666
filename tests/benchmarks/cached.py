"""Compare epochs from the cache with online ones: `python tests/benchmarks/cached.py [--quick]`.

Photos are the first `--photos` of Flickr8k below `LIGHTALIGN_TEST_DATA`, else drawn shapes saved as
JPEG. A ViT-S/16 and a DistilBERT with random weights, which take as long as trained ones, are
saved, given by `--weights` and extracted; then an epoch of `--preset` is trained in two ways by the
same engine, with the same batches, steps, precision and seed:

    cached  features come from the stores, as `train-adapter` reads them
    online  `--workers` threads decode photos and tokenise texts ahead of time, and the encoders
            that have filled the stores encode each batch, without a gradient, before its step

Both have a trainer of their own and take turns, `--rounds` times after some batches to warm up;
the page cache is warm. Their losses must agree: features are rounded to the type of the stores on
both sides. `waiting` is the share of the cached epoch in which the next batch was not ready.

Prints a line a round, and as its last line one JSON object: medians, their ratio (online over
cached), and after how many epochs the extraction has paid for itself. `--quick` takes few photos.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _photos import ANYWHERE, photo_rows, write_table
from jaxtyping import Int64
from safetensors.torch import save_file

from lightalign.featcache.encoders.base import Encoder
from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.hardware import resolve_device
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.tokens import Tokens, split_by_length
from lightalign.featcache.types import Item, Modality
from lightalign.pipelines.common.prefetch import prefetch
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.loaded_encoder import load_all
from lightalign.pipelines.extraction.opening import open_all
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.extraction.threads import threads_kept, use_one_thread
from lightalign.pipelines.inputs.pairs import BatchRows
from lightalign.pipelines.training.batches import GROUPS, Batch
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

ENCODERS = {Modality.IMAGE: "dino-vits16", Modality.TEXT: "distilbert"}
WORKERS = 2
AGREEMENT = 0.01  # by how much the losses of both sides may differ, relatively
TARGET = 0.05  # of `waiting`


def save_vit(path: Path) -> Path:
    """Save random weights of the card's architecture."""
    import timm

    card = read_card(ENCODERS[Modality.IMAGE])
    save_file(timm.create_model(card.model, num_classes=0).state_dict(), path)
    return path


def save_distilbert(folder: Path, texts: Sequence[str]) -> Path:
    """Save a DistilBERT of the default shape with word pieces of the captions."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast, DistilBertConfig, DistilBertModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder.mkdir()
    config = DistilBertConfig()
    pieces = BertWordPieceTokenizer()
    pieces.train_from_iterator(
        texts, vocab_size=config.vocab_size, min_frequency=1, show_progress=False
    )
    pieces.save_model(str(folder))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    DistilBertModel(config).save_pretrained(folder)
    return folder


class Online:
    """Make the batches of a trainer by encoding their items, which it otherwise reads."""

    def __init__(
        self, trainer: Trainer, encoders: Mapping[Modality, Encoder], data: str, workers: int
    ) -> None:
        self.trainer, self.encoders, self.workers = trainer, encoders, workers
        source = open_source(data, home=Path(), options=ANYWHERE)
        stores = trainer.stores
        self.readers = {Modality.IMAGE: stores.first, Modality.TEXT: stores.second}
        self.items: dict[Modality, dict[str, Item]] = {
            modality: {item.id: item for item in source.items("train", modality)}
            for modality in encoders
        }

    def loaded(self, epoch: int) -> Iterator[Batch]:
        order = list(self.trainer.batches.order(epoch))
        size = max(len(rows.first) + len(rows.second) for rows in order)
        prepared = prefetch(
            self.prepare,
            self.wanted(order),
            ahead=2 * size,
            workers=self.workers,
            initializer=use_one_thread,
        )
        with closing(prepared), threads_kept():
            for rows in order:
                images = self.encode(Modality.IMAGE, islice(prepared, len(rows.first)))
                order, texts = self.in_groups(list(islice(prepared, len(rows.second))), rows.second)
                positives = self.trainer.stores.positives(rows.first, rows.second)[:][:, order]
                yield Batch(
                    BatchRows(rows.first, rows.second[order]),
                    [partial(itself, images)],
                    [partial(itself, group) for group in texts],
                    positives,
                )

    def in_groups(
        self, prepared: Sequence[Any], rows: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], list[Tokens]]:
        """Encode texts in groups of similar length, as they are read from a store."""
        groups = split_by_length(self.readers[Modality.TEXT].lengths[rows], GROUPS)
        encoded = [self.encode(Modality.TEXT, [prepared[at] for at in group]) for group in groups]
        return np.concatenate(groups), encoded

    def wanted(self, order: Iterable[BatchRows]) -> Iterator[tuple[Modality, str]]:
        for rows in order:
            for modality, own in ((Modality.IMAGE, rows.first), (Modality.TEXT, rows.second)):
                yield from ((modality, self.readers[modality].ids[row]) for row in own.tolist())

    def prepare(self, wanted: tuple[Modality, str]) -> Any:
        modality, name = wanted
        return self.encoders[modality].prepare(self.items[modality][name])

    def encode(self, modality: Modality, prepared: Iterable[Any]) -> Tokens:
        with torch.no_grad():
            tokens = self.encoders[modality].encode(list(prepared))
        return tokens.with_values(tokens.values.half())


def itself(tokens: Tokens) -> Tokens:
    return tokens


class Side:
    """Train epochs on batches of one kind, and time them."""

    def __init__(self, trainer: Trainer, online: Online | None = None) -> None:
        self.trainer = trainer
        self.loaded = trainer.loaded if online is None else online.loaded

    def warm_up(self, num_batches: int) -> None:
        with self.trainer.seeded():
            list(islice(self.trainer.steps(self.loaded(0)), num_batches))

    def epoch(self, number: int) -> dict[str, float]:
        trainer = self.trainer
        waited, steps = trainer.counts.seconds_waiting, trainer.counts.step
        with trainer.seeded():
            began = time.perf_counter()
            losses = [found["loss"] for found in trainer.steps(self.loaded(number))]
            if trainer.device.type == "cuda":
                torch.cuda.synchronize(trainer.device)
            seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "waiting": (trainer.counts.seconds_waiting - waited) / seconds,
            "loss": sum(losses) / len(losses),
            "steps": trainer.counts.step - steps,
        }


def extract_both(
    options: argparse.Namespace, work: Path, rows: Sequence[Mapping[str, Any]], data: str
) -> tuple[dict[Modality, Encoder], float]:
    """Extract photos and captions; return the encoders and the seconds it took."""
    weights = {
        Modality.IMAGE: save_vit(work / "vit.safetensors"),
        Modality.TEXT: save_distilbert(
            work / "distilbert", [text for row in rows for text in row["captions"]]
        ),
    }
    encoders, seconds = {}, 0.0
    for modality, name in ENCODERS.items():
        spec = ExtractSpec(
            encoders=(name,),
            data=data,
            home=work / "home",
            split="train",
            source=ANYWHERE,
            weights=weights[modality],
            device=options.device,
        )
        seconds += sum(store.seconds for store in extract.run(spec).stores)
        (loaded,) = load_all(spec, open_all(spec), SILENT)
        encoders[modality] = loaded.encoder
    return encoders, seconds


def race(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    rows = photo_rows(work, options.photos)
    data = f"image-text-table={write_table(work / 'table', rows)}"
    encoders, extracting = extract_both(options, work, rows, data)
    spec = TrainSpec(
        home=work / "home",
        preset=options.preset,
        overrides=("train.chunk_size=0", "train.validation=none"),
        device=options.device,
    )
    plan, device = resolve(spec), resolve_device(options.device)
    trainers = [Trainer(plan, home=spec.home, seed=0, device=device) for _ in range(2)]
    online = Online(trainers[1], encoders, data, options.workers)
    sides = {"cached": Side(trainers[0]), "online": Side(trainers[1], online)}
    for side in sides.values():
        side.warm_up(options.warm)
    heads = ("cached s", "online s", "ratio", "waiting", "cached loss", "online loss")
    print(f"{'round':>6}" + "".join(f"{head:>13}" for head in heads))
    found = []
    for number in range(1, options.rounds + 1):
        order = list(sides) if number % 2 else list(sides)[::-1]
        one = {name: sides[name].epoch(number) for name in order}
        found.append(one)
        cached, other = one["cached"], one["online"]
        if abs(cached["loss"] - other["loss"]) > AGREEMENT * abs(cached["loss"]):
            raise RuntimeError(f"the sides do not train the same: {one}")
        times = f"{cached['seconds']:13.2f}{other['seconds']:13.2f}"
        ratio = other["seconds"] / cached["seconds"]
        losses = f"{cached['loss']:13.4f}{other['loss']:13.4f}"
        print(f"{number:6}{times}{ratio:13.2f}{cached['waiting']:13.2%}{losses}", flush=True)
    seconds = {name: median(one[name]["seconds"] for one in found) for name in sides}
    saved = seconds["online"] - seconds["cached"]
    return {
        "preset": options.preset,
        "photos": len(rows),
        "batch": plan.options.batch_size,
        "steps": found[0]["cached"]["steps"],
        "precision": str(trainers[0].dtype).removeprefix("torch."),
        "encoders": {name.value: one.precision for name, one in encoders.items()},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "workers": options.workers,
        "rounds": options.rounds,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "ratio": median(one["online"]["seconds"] / one["cached"]["seconds"] for one in found),
        "waiting": median(one["cached"]["waiting"] for one in found),
        "waiting_target": TARGET,
        "extraction_seconds": extracting,
        "epochs_to_pay": extracting / saved if saved > 0 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="peme/bridge")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=8, help="batches of each side to warm up")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.photos, options.rounds, options.warm = 16, 1, 1
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(race(options, Path(work))))


if __name__ == "__main__":
    main()
