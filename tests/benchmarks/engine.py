"""Compare trainings with minimal loops: `python tests/benchmarks/engine.py [--quick]`.

Stores of random features are written: `--images` images and five texts each, as pooled vectors of
384 in float16; for `lightalign/base` as 197 tokens an image and 8 to 24 a text, of which both sides
keep the summaries (the loop has them in a table). A trainer of each preset and a loop of the same
mathematics in plain PyTorch, with tables of float16 in memory, take turns at epochs in this
process, on `--threads` threads of PyTorch. The loops draw no validation, log nothing, and read no
file; they have the same batches, towers, loss, clipping and optimiser.

Presets of large batches take smaller ones here, so that an epoch has several steps. Prints a table
of samples (images, or captions of `fusemix`) a CPU second and a second, medians over `--rounds`
epochs, and as its last line one JSON object. `--quick` takes few images.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from pooling import TEXTS, WIDTH, write_home
from torch import Tensor, nn
from torch.nn import functional

from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

# of a batch where that of the preset is as large as all images here
SMALLER = {"sail/star": ("train.batch_size=256",), "fusemix": ("train.batch_size=2048",)}
PRESETS = ("linear", "lightalign/base", "sail/star", "fusemix")

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def image_batches(
    images: Tensor, texts: Tensor, size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield images with all of their texts, and the place of the image of each text."""
    order = torch.randperm(len(images))
    for rows in order.tensor_split(-(-len(images) // size)):
        of_rows = (rows[:, None] * TEXTS + torch.arange(TEXTS)).flatten()
        owners = torch.arange(len(rows)).repeat_interleave(TEXTS)
        yield images[rows].float(), texts[of_rows].float(), owners


def mixtures(images: Tensor, texts: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield pairs of captions, the first half of a batch mixed with the second."""
    order = torch.randperm(len(texts))
    for rows in order[: len(texts) // size * size].split(size):
        share = float(np.random.beta(1.0, 1.0))  # noqa: NPY002
        first, second = rows.chunk(2)
        mixed = [
            share * table[one].float() + (1 - share) * table[other].float()
            for table, one, other in (
                (images, first // TEXTS, second // TEXTS),
                (texts, first, second),
            )
        ]
        yield *mixed, torch.arange(len(first))


def contrast(image: Tensor, text: Tensor, owners: Tensor, scale: Tensor) -> Tensor:
    """Return the loss of `clip`: of each image the mean over its texts, of each text one image."""
    logits = scale * image @ text.T
    to_text = logits.log_softmax(dim=1)[owners, torch.arange(len(text))]
    share = torch.bincount(owners)[owners] * len(image)
    return (functional.cross_entropy(logits.T, owners) - (to_text / share).sum()) / 2


class Clip(nn.Module):
    def __init__(self, scale: float, *, heads: int = 1, fixed: bool = False) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=not fixed)
        self.heads = heads

    def forward(self, image: Tensor, text: Tensor, owners: Tensor) -> Tensor:
        scale = self.log_scale.clamp(max=math.log(100.0)).exp()
        if self.heads == 1:
            return contrast(unit(image), unit(text), owners, scale)
        parts = zip(image.chunk(self.heads, 1), text.chunk(self.heads, 1), strict=True)
        # the last head is solved and not contrasted
        losses = [contrast(unit(i), unit(t), owners, scale) for i, t in list(parts)[:-1]]
        return torch.stack(losses).mean()


class Siglip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, image: Tensor, text: Tensor, owners: Tensor) -> Tensor:
        logits = self.log_scale.exp() * unit(image) @ unit(text).T + self.bias
        signs = torch.full_like(logits, -1.0)
        signs[owners, torch.arange(len(text))] = 1.0
        size = (len(image) + len(text)) / 2
        share = (1 / len(image) + 1 / len(text)) / 2
        return -functional.logsigmoid(signs * logits).sum() * share / size


def unit(values: Tensor) -> Tensor:
    return functional.normalize(values, dim=1)


class Star(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.first, self.second = (nn.Linear(WIDTH, 8 * WIDTH) for _ in range(2))
        self.project = nn.Linear(8 * WIDTH, 1024)

    def forward(self, values: Tensor) -> Tensor:
        values = self.norm(values)
        first = self.first(values).clamp(-1000, 1000)
        return self.project(functional.relu6(first) * self.second(values).clamp(-1000, 1000))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.GELU(),
            nn.Dropout(0.6),
            nn.Linear(4 * WIDTH, WIDTH),
        )

    def forward(self, values: Tensor) -> Tensor:
        return values + self.block(values)


class Heads(nn.Module):
    """Three trained heads of length one beside the solved one, on centred summaries."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

        def head() -> nn.Module:
            layers = [nn.Linear(width, hidden), nn.ReLU()] if hidden else []
            return nn.Sequential(nn.Dropout(dropout), *layers, nn.Linear(hidden or width, 256))

        self.heads = nn.ModuleList(head() for _ in range(3))
        self.solved = nn.Linear(width, 256).requires_grad_(False)

    def forward(self, values: Tensor) -> Tensor:
        values = (values - self.mean) / self.spread
        return torch.cat([unit(head(values)) for head in [*self.heads, self.solved]], dim=1)


@dataclass
class Loop:
    """Minimal training: tables, batches, two towers, a loss and an optimiser."""

    images: Tensor
    texts: Tensor
    batches: Callable[[Tensor, Tensor, int], Iterator[tuple[Tensor, Tensor, Tensor]]]
    size: int
    towers: tuple[nn.Module, nn.Module]
    loss: nn.Module
    optimiser: torch.optim.Optimizer
    clip: float

    def epoch(self) -> None:
        parameters = [*nn.ModuleList([*self.towers, self.loss]).parameters()]
        image_tower, text_tower = self.towers
        for image, text, owners in self.batches(self.images, self.texts, self.size):
            loss = self.loss(image_tower(image), text_tower(text), owners)
            loss.backward()
            if self.clip:
                nn.utils.clip_grad_norm_(parameters, self.clip)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)


def loop_of(preset: str, trainer: Trainer) -> Loop:
    """Return the minimal loop of a preset, on the rows of a trainer's stores."""
    options = trainer.plan.options
    tables = []
    for source in trainer.stores.sources:
        rows = np.arange(len(source.lengths))
        tables.append(source.padded(rows).values[:, 0].clone())
    if preset == "linear":
        towers = tuple(nn.Sequential(nn.Dropout(0.3), nn.Linear(WIDTH, 256)) for _ in range(2))
        loss: nn.Module = Clip(14.2857)
    elif preset == "lightalign/base":
        towers = Heads(3 * WIDTH, 0, 0.7), Heads(5 * WIDTH, 512, 0.5)
        loss = Clip(20.0, heads=4, fixed=True)
    elif preset == "sail/star":
        towers, loss = (Star(), Star()), Siglip()
    else:
        towers = tuple(
            nn.Sequential(
                *(Residual() for _ in range(4)), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 512)
            )
            for _ in range(2)
        )
        loss = Clip(14.2857)
    parameters = [p for p in nn.ModuleList([*towers, loss]).parameters() if p.requires_grad]
    trained = sum(p.numel() for p in parameters)
    if preset != "lightalign/base" and trained != trainer.trainable.num_parameters:
        raise RuntimeError(f"the loop of {preset} trains {trained} numbers")
    make = type(trainer.optimiser)
    optimiser = make(parameters, lr=1e-4, weight_decay=options.weight_decay)
    batches = mixtures if options.mixup.alpha else image_batches
    size = options.batch_size
    return Loop(*tables, batches, size, towers, loss, optimiser, options.gradient_clip)


def compare(preset: str, home: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return samples a CPU second and a second of both, and the ratios within rounds."""
    sets = ("train.precision=float32", "train.validation=none", *SMALLER.get(preset, ()))
    spec = TrainSpec(preset=preset, home=home, overrides=sets, device="cpu")
    trainer = Trainer(resolve(spec, SILENT), home=home, seed=0, device=torch.device("cpu"))
    loop = loop_of(preset, trainer)
    number = 0

    def ours() -> None:
        nonlocal number
        number += 1
        for _ in trainer.steps(trainer.loaded(number)):
            pass

    turns = {"ours": ours, "loop": loop.epoch}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    # the first epoch of each is told apart: rows are read and pooled in it
    for turn in range(options.rounds + 1):
        for name in list(turns)[:: 1 if turn % 2 else -1]:
            cpu, wall = time.process_time(), time.perf_counter()
            turns[name]()
            spent = time.process_time() - cpu, time.perf_counter() - wall
            if turn:
                times[name].append(spent)
    samples = trainer.course.rows
    found = {
        f"{name}_per_{what}": samples / median(spent[place] for spent in times[name])
        for name in turns
        for place, what in enumerate(("cpu_second", "second"))
    }
    pairs = list(zip(times["ours"], times["loop"], strict=True))
    found["cpu_ratio"] = median(loop[0] / our[0] for our, loop in pairs)
    found["ratio"] = median(loop[1] / our[1] for our, loop in pairs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=PRESETS, choices=PRESETS)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="waiting ones cost CPU seconds, too")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.images, options.rounds = 1024, 5
    torch.set_num_threads(options.threads)
    print("| Preset | Ours a CPU s | Loop a CPU s | Ours over it | Ours a s | Loop a s | Over it |")
    print("|---|---|---|---|---|---|---|", flush=True)
    results = {}
    with tempfile.TemporaryDirectory(prefix="lightalign-") as name:
        homes = {
            preset: "tokens" if preset == "lightalign/base" else "pooled" for preset in PRESETS
        }
        for kind in sorted(set(map(homes.__getitem__, options.presets))):
            write_home(Path(name) / kind, options.images, tokens=kind == "tokens")
        for preset in options.presets:
            found = results[preset] = compare(preset, Path(name) / homes[preset], options)
            cells = [
                f"{found['ours_per_cpu_second']:,.0f}",
                f"{found['loop_per_cpu_second']:,.0f}",
                f"{found['cpu_ratio']:.2f}",
                f"{found['ours_per_second']:,.0f}",
                f"{found['loop_per_second']:,.0f}",
                f"{found['ratio']:.2f}",
            ]
            print(f"| `{preset}` | " + " | ".join(cells) + " |", flush=True)
    print(json.dumps({"ours_over_loop": results}))


if __name__ == "__main__":
    main()
