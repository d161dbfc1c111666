"""Compare extraction with hand-written loops: `python tests/benchmarks/extract.py [--quick]`.

Photos are the first `--images` of Flickr8k below `LIGHTALIGN_TEST_DATA`, else drawn shapes saved as
JPEG. Times are taken with the models loaded, from the first file to the last byte on disk.

    speed    Items a second against a bare loop: files in memory, Pillow, the model's own transform,
             a forward pass a batch in the same precision, nothing kept. That over texts pads each
             batch, in item order, to its longest. Both take turns on all items, `--rounds` times.
             The ratio of processor seconds leaves out what decoding ahead gains.
    passes   Two encoders in one pass against two, on photos so large that decoding is most of it.
    peers    A DataLoader of two workers whose features become one array at the end, and the same
             with one `.pt` file a batch, each in a process of its own, as is ours.
    memory   Peak of a process that extracts n items, and of one that extracts 10 n.
    estimate What `--dry-run` says of minutes, bytes and peak memory, over what then happens.

Peaks are `VmHWM` of Linux, in bytes, without a DataLoader's workers. The ViT has random weights.
Prints a table a part, and as its last line one JSON object. `--quick` takes few photos.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _photos import ANYWHERE, Rows, photo_rows, write_table
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.encoders.weights import find_weights
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.extraction import estimate, extract
from lightalign.pipelines.extraction.extract import fill_split
from lightalign.pipelines.extraction.loaded_encoder import load_all
from lightalign.pipelines.extraction.opening import open_all
from lightalign.pipelines.extraction.outputs import describe_outputs
from lightalign.pipelines.extraction.spec import ExtractSpec

BATCH = 32
WORKERS = 2
CONVOLUTIONS, TRANSFORMER, TEXTS = "efficientnet-lite0", "dino-vits16", "minilm"
SIDE = 3456  # pixels of the photos of `passes`: 12 million, as a phone takes them
CASES = (("toy-image", "mean"), ("toy-text", "tokens"), (TEXTS, "tokens"))

Side = Callable[[Path], object]


def linked(folder: Path, rows: Rows, count: int) -> Rows:
    """Return `count` photos of one caption each: the given ones again and again, newly named."""
    folder.mkdir()
    found = []
    for number in range(count):
        again, place = divmod(number, len(rows))
        path = folder / f"{number:06d}.jpg"
        path.symlink_to(rows[place]["image"])
        caption = rows[place]["captions"][again % 5]
        found.append({"image": str(path), "captions": [caption]})
    return found


def enlarged(folder: Path, rows: Rows) -> Rows:
    folder.mkdir()
    grain = Image.effect_noise((SIDE, SIDE), 40).convert("RGB")  # else they decode too fast
    found = []
    for row in rows:
        path = folder / Path(row["image"]).name
        photo = Image.open(row["image"]).convert("RGB").resize((SIDE, SIDE))
        Image.blend(photo, grain, 0.15).save(path, quality=92)
        found.append({**row, "image": str(path)})
    return found


def load_encoders(*names: str, weights: Path | None = None) -> list[Any]:
    """Load encoders as `extract` does, and let it choose their precision."""
    spec = ExtractSpec(encoders=names, data="shapes", home=Path(), weights=weights)
    return load_all(spec, open_all(spec), SILENT)


class Extraction:
    """Extract a table's items with loaded encoders, into a new home each time."""

    def __init__(self, table: Path, loaded: list[Any], features: str = "tokens") -> None:
        self.loaded = loaded
        self.spec = ExtractSpec(
            encoders=tuple(one.encoder.name for one in loaded),
            data=f"image-text-table={table}",
            home=Path(),
            source=ANYWHERE,
            features=(features,),
            batch_size=BATCH,
            workers=WORKERS,
        )
        self.opened = open_all(replace(self.spec, encoders=("toy-image",)))

    def __call__(self, folder: Path) -> int:
        spec, opened = replace(self.spec, home=folder), self.opened
        outputs = describe_outputs(spec, opened, self.loaded, "train")
        stores = fill_split(spec, opened.source, outputs, SILENT)
        return sum(store.bytes for store in stores)


def build_model(encoder: str, weights: Path | None = None) -> tuple[nn.Module, Callable]:
    """Return a model of timm as its users build it, and its transform."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    card = read_card(encoder)
    model = timm.create_model(card.model, num_classes=0).eval()
    files = find_weights(card, override=weights).files
    state = timm.models.load_state_dict(str(files), weights_only=True)
    if card.weights.mapping == "by-order":
        state = dict(zip(model.state_dict(), state.values(), strict=False))
    model.load_state_dict(state)
    return model, create_transform(**resolve_model_data_config(model), is_training=False)


def image_loop(
    files: Sequence[bytes], model: nn.Module, transform: Callable, memory: torch.memory_format
) -> None:
    """Decode, transform and encode files that are in memory, one batch after the other."""
    for first in range(0, len(files), BATCH):
        photos = [
            transform(Image.open(io.BytesIO(file)).convert("RGB"))
            for file in files[first : first + BATCH]
        ]
        model.forward_features(torch.stack(photos).to(memory_format=memory))


def text_loop(texts: Sequence[str], model: nn.Module, tokenizer: Callable) -> None:
    """Tokenise, pad and encode texts, one batch after the other."""
    for first in range(0, len(texts), BATCH):
        batch = texts[first : first + BATCH]
        model(**tokenizer(batch, padding=True, truncation=True, return_tensors="pt"))


def loop_maker(encoder: str, weights: Path | None, low: bool) -> Callable[[Rows], Side]:
    """Return what makes the bare loop over some rows, in bfloat16 if `low`."""
    if encoder == TEXTS:
        from transformers import AutoModel, AutoTokenizer

        folder = find_weights(read_card(encoder)).files
        model = AutoModel.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    else:
        model, transform = build_model(encoder, weights)
        # what each is fastest in, and what lightalign takes
        memory = torch.channels_last if encoder == CONVOLUTIONS else torch.contiguous_format
        model.to(memory_format=memory)

    def make(rows: Rows) -> Side:
        if encoder == TEXTS:
            texts = [caption for row in rows for caption in row["captions"]]
            loop = partial(text_loop, texts, model, tokenizer)
        else:
            files = [Path(row["image"]).read_bytes() for row in rows]
            loop = partial(image_loop, files, model, transform, memory)

        def side(folder: Path) -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
                loop()

        return side

    return make


def race(work: Path, sides: Mapping[str, Side], *, backwards: bool) -> dict[str, float]:
    """Return the seconds of each side, one after the other, and its processor seconds as `cpu`."""
    seconds = {}
    for name in list(sides)[::-1] if backwards else list(sides):
        folder = Path(tempfile.mkdtemp(dir=work))
        began, cpu = time.perf_counter(), time.process_time()
        sides[name](folder)
        seconds[name] = time.perf_counter() - began
        seconds[f"{name} cpu"] = time.process_time() - cpu
        shutil.rmtree(folder)
    return seconds


def measure_speed(work: Path, rows: Rows, encoder: str, rounds: int) -> dict:
    weights = None
    if encoder == TRANSFORMER:
        import timm

        weights = work / "vit.safetensors"
        save_file(timm.create_model(read_card(encoder).model, num_classes=0).state_dict(), weights)
    loaded = load_encoders(encoder, weights=weights)
    precision = loaded[0].encoder.precision
    make_loop = loop_maker(encoder, weights, precision == "bfloat16")
    found = []
    for number, part in enumerate([rows[:BATCH], *[rows] * rounds]):  # first: warm-up
        ours = Extraction(write_table(work / encoder / str(number), part), loaded)
        sides = {"ours": ours, "loop": make_loop(part)}
        found.append(race(work, sides, backwards=number % 2 == 1))
    items = len(rows) * (5 if encoder == TEXTS else 1)
    return {
        "encoder": encoder,
        "precision": precision,
        "items": items,
        **{side: items / median(one[side] for one in found[1:]) for side in sides},
        "ratio": median(one["loop"] / one["ours"] for one in found[1:]),
        "cpu ratio": median(one["loop cpu"] / one["ours cpu"] for one in found[1:]),
        "target": 1.3 if encoder == TEXTS else 0.95,
    }


def measure_passes(work: Path, rows: Rows, rounds: int) -> dict:
    large = enlarged(work / "large", rows)
    table = write_table(work / "passes", large)
    toy, real = load_encoders("toy-image"), load_encoders(CONVOLUTIONS)

    def decode(folder: Path) -> None:
        for row in large:
            Image.open(row["image"]).convert("RGB")

    sides: dict[str, Side] = {"toy": Extraction(table, toy), "real": Extraction(table, real)}
    sides |= {"both": Extraction(table, toy + real), "decode": decode}
    race(work, sides, backwards=False)
    found = [race(work, sides, backwards=number % 2 == 1) for number in range(rounds)]
    return {
        "photos": len(large),
        **{name: median(one[name] for one in found) for name in sides},
        "ratio": median(one["both"] / (one["toy"] + one["real"]) for one in found),
        "target": 0.8,
    }


class Photos(Dataset):
    def __init__(self, rows: Rows, transform: Callable) -> None:
        self.files, self.transform = [row["image"] for row in rows], transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as photo:
            return self.transform(photo.convert("RGB"))


class OneArray:
    """Keep the features of all batches until the end, then save them as one array."""

    def __init__(self, rows: Rows, encoder: str) -> None:
        self.model, transform = build_model(encoder)
        self.loader = DataLoader(Photos(rows, transform), batch_size=BATCH, num_workers=WORKERS)

    @torch.inference_mode()
    def features(self) -> Iterator[Tensor]:
        for batch in self.loader:
            yield self.model.forward_features(batch).flatten(2).transpose(1, 2).contiguous()

    def __call__(self, folder: Path) -> int:
        torch.save(torch.cat(list(self.features())), folder / "features.pt")
        return (folder / "features.pt").stat().st_size


class FileEachBatch(OneArray):
    """Save each batch as a file, in half precision."""

    def __call__(self, folder: Path) -> int:
        for number, batch in enumerate(self.features()):
            torch.save(batch.half(), folder / f"{number}.pt")
        return sum(path.stat().st_size for path in folder.iterdir())


PEERS = {"one array": OneArray, "a file a batch": FileEachBatch}


def child(task: Mapping[str, Any]) -> dict:
    """Do one task in this process; return its seconds, its bytes and the peak of its memory."""
    if task["way"] == "estimate":
        return estimated(task)
    table = Path(task["table"])
    if task["way"] in PEERS:
        rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
        side: Side = PEERS[task["way"]](rows, task["encoder"])
    else:
        side = Extraction(table, load_encoders(task["encoder"]), task["features"])
    with tempfile.TemporaryDirectory(dir=table.parent) as folder:
        began = time.perf_counter()
        num_bytes = side(Path(folder))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "bytes": num_bytes, "peak": peak_bytes()}


def estimated(task: Mapping[str, Any]) -> dict:
    """Estimate an extraction, do it, and return the first over the second."""
    with tempfile.TemporaryDirectory(dir=Path(task["table"]).parent) as home:
        spec = ExtractSpec(
            encoders=(task["encoder"],),
            data=f"image-text-table={task['table']}",
            home=Path(home),
            source=ANYWHERE,
        )
        expected = estimate.run(spec)
        stores = extract.run(spec).stores
    return {
        "encoder": task["encoder"],
        "items": sum(store.rows for store in stores),
        "minutes": sum(store.seconds for store in stores) / 60,
        "minutes ratio": expected.minutes * 60 / sum(store.seconds for store in stores),
        "bytes ratio": expected.missing_bytes / sum(store.bytes for store in stores),
        "peak ratio": expected.peak_memory_bytes / peak_bytes(),
    }


def peak_bytes() -> int:
    _, _, status = Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")
    return int(status.split()[0]) * 1024


def measure_estimates(work: Path, rows: Rows) -> Iterator[dict]:
    table = str(write_table(work / "estimate", rows))
    for encoder in (TEXTS, CONVOLUTIONS):
        yield in_child(way="estimate", table=table, encoder=encoder)


def in_child(**task: str) -> dict:
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure_peers(work: Path, rows: Rows, rounds: int) -> Iterator[dict]:
    table = str(write_table(work / "peers", rows))
    task = {"table": table, "encoder": CONVOLUTIONS, "features": "tokens"}
    ways = ("lightalign", *PEERS)
    found = [{way: in_child(way=way, **task) for way in ways} for _ in range(rounds)]
    for way in ways:
        runs = [one[way] for one in found]
        yield {"way": way, **{key: median(one[key] for one in runs) for key in runs[0]}}


def measure_memory(
    work: Path, rows: Rows, items: int, cases: Sequence[tuple[str, str]]
) -> Iterator[dict]:
    tables = {
        count: write_table(work / f"memory-{count}", linked(work / f"links-{count}", rows, count))
        for count in (items, 10 * items)
    }
    for encoder, features in cases:
        few, many = (
            in_child(way="lightalign", table=str(table), encoder=encoder, features=features)["peak"]
            for table in tables.values()
        )
        row = {"encoder": encoder, "features": features, "items": items, "peak": few}
        yield {**row, "peak of 10 times": many, "growth": many / few - 1}


def table(title: str, rows: Iterable[dict]) -> list[dict]:
    """Print rows under their names as they come, and return them."""
    print(title)
    found: list[dict] = []
    for row in rows:
        if not found:
            print("".join(f"{name:>19}" for name in row))
        cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()]
        print("".join(f"{cell:>19}" for cell in cells), flush=True)
        found.append(row)
    return found


def run_parts(options: argparse.Namespace, work: Path) -> dict:
    rows, rounds = photo_rows(work, options.images), options.rounds
    parts: dict[str, Iterable[dict]] = {  # lazy
        "speed": (measure_speed(work, rows, encoder, rounds) for encoder in options.encoders),
        "passes": map(partial(measure_passes, work, rounds=rounds), [rows[: options.large]]),
        "peers": measure_peers(work, rows, rounds),
        "memory": measure_memory(work, rows, options.items, options.cases),
        "estimate": measure_estimates(work, rows),
    }
    found = {part: table(part, parts[part]) for part in options.parts}
    return {"photos": len(rows), "rounds": rounds, "threads": torch.get_num_threads(), **found}


def main() -> None:
    parts = ["speed", "passes", "peers", "memory", "estimate"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--large", type=int, default=100, help="photos of `passes`")
    parser.add_argument("--items", type=int, default=2000, help="the fewer items of `memory`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoders", nargs="+", default=[TEXTS, CONVOLUTIONS, TRANSFORMER])
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(child(json.loads(options.child))))
        return
    options.cases = CASES
    if options.quick:
        options.images, options.large, options.items, options.rounds = 16, 8, 20, 1
        options.cases, options.encoders = CASES[:1], [TEXTS, CONVOLUTIONS]
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(run_parts(options, Path(work))))


if __name__ == "__main__":
    main()
