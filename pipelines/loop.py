"""The training loop: batches from the cache, one objective, the best weights by validation."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ..adapters.adapter import build_adapter, count_parameters, parameter_groups
from ..adapters.checkpoint import save_adapter
from ..adapters.objective import PairBatch, build_objective
from ..featcache.errors import DivergedError, SpecError
from ..featcache.precision import has_fast_bfloat16
from ..featcache.shuffle import block_shuffle
from ..featcache.tokens import Tokens
from ..featcache.types import Modality
from . import runs
from .ahead import map_ahead
from .embed import embed_pairs
from .pairs import PairedStores
from .progress import Progress
from .schedule import cosine_with_warmup
from .stores import StorePair
from .tasks.retrieval import Retrieval
from .train import TrainPlan

_GROUPS = 8  # groups of similar length in a step; more saves little padding and costs calls


@dataclass(frozen=True)
class _Rows:
    """Name the rows of one step."""

    image: Int64[np.ndarray, " n"]
    text: Int64[np.ndarray, " m"]


@dataclass(frozen=True)
class _Batch:
    """Hold the features of one step, images and texts in groups of similar length."""

    rows: _Rows
    images: list[Tokens]
    texts: list[Tokens]
    positives: torch.Tensor


class Trainer:
    """Train the adapter of one plan.

    Args:
        plan: The resolved training.
        home: Folder of everything lightalign keeps.
        seed: Seed of initialisation, order and dropout.
        device: Where to train.

    Raises:
        SpecError: Fewer than two images are left to train on, or the preset is wrong.
    """

    def __init__(self, plan: TrainPlan, *, home: Path, seed: int, device: torch.device) -> None:
        self.plan = plan
        self.options = plan.options
        self.seed = seed
        self.device = device
        self.dtype = resolve_precision(plan.options.precision, device)
        self.stores = self._open(plan.stores, home)
        self.train_rows, self.held_out = _split_rows(self.stores.image_rows, plan.holdout, seed)
        if len(self.train_rows) < 2:
            raise SpecError(
                f"{len(self.train_rows)} images of split {plan.stores.split!r} are left to train "
                "on, and one image has no negatives: extract more, or validate on fewer"
            )
        self.validation = self._open(plan.validation, home) if plan.validation else None
        widths = {
            Modality.IMAGE: plan.stores.image.description.width,
            Modality.TEXT: plan.stores.text.description.width,
        }
        self.adapter = build_adapter(plan.table["towers"], widths=widths, seed=seed)
        self.objective = build_objective(plan.table["objective"])
        self.adapter.to(device)
        self.objective.to(device)
        groups = parameter_groups(
            self.adapter, self.objective, weight_decay=plan.options.weight_decay
        )
        self.optimiser = torch.optim.AdamW(groups, lr=plan.options.learning_rate)
        self.num_batches = math.ceil(len(self.train_rows) / plan.options.batch_size)
        self.num_steps = self.num_batches * plan.options.epochs
        self.step = 0
        self.seconds_waiting = 0.0

    def fit(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Train all epochs, keep the best weights in `folder`, and return what happened.

        Raises:
            DivergedError: A loss is not finite.
        """
        began = time.perf_counter()
        best: dict[str, Any] = {}
        best_score = -math.inf
        with torch.random.fork_rng(devices=self._cuda_devices()):
            torch.manual_seed(self.seed)
            for epoch in range(1, self.options.epochs + 1):
                record = self._epoch(epoch, progress)
                _append_json(folder / runs.LOG, record)
                progress.note(_summary(record, self.options.epochs))
                # without validation the last epoch wins
                score = record.get("validation", {"recall_sum": epoch})["recall_sum"]
                if score > best_score:
                    best, best_score = record, score
                    self._save(folder)
        return {
            "best": best,
            "selected_by": self._selection(),
            "num_parameters": count_parameters(self.adapter) + count_parameters(self.objective),
            "num_images": len(self.train_rows),
            "num_links_lost": self.stores.num_links_lost,
            "precision": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "residency": self.stores.residency,
            "seconds": time.perf_counter() - began,
            "seconds_waiting": self.seconds_waiting,
        }

    def _open(self, pair: StorePair, home: Path) -> PairedStores:
        residency = self.options.residency
        return PairedStores(pair, home=home, residency=residency, device=self.device)

    def _epoch(self, epoch: int, progress: Progress) -> dict[str, Any]:
        began = time.perf_counter()
        self.adapter.train()
        sums: Counter[str] = Counter()
        waited_before = self.seconds_waiting
        batches = self._waiting_for(map_ahead(self._load, self._order(epoch), ahead=2))
        label = f"epoch {epoch}/{self.options.epochs}"
        for batch in progress.track(batches, label, self.num_batches, unit="steps"):
            sums.update(self._train_step(batch))
        seconds = time.perf_counter() - began
        means = {name: total / self.num_batches for name, total in sums.items()}
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": self.step,
            "loss": means.pop("loss"),
            "parts": means,
            "seconds": seconds,
            "seconds_waiting": self.seconds_waiting - waited_before,
            "images_per_second": len(self.train_rows) / seconds,
        }
        self._check_weights()
        validation = self._validate()
        return {**record, "validation": validation} if validation else record

    def _waiting_for(self, batches: Iterator[_Batch]) -> Iterator[_Batch]:
        """Yield the same and count the seconds in which the next one was not ready."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waiting += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _order(self, epoch: int) -> Iterator[_Rows]:
        """Yield the rows of each step; the order depends on seed, epoch and residency alone."""
        random = np.random.default_rng([self.seed, epoch])
        rows = self._shuffled(random, epoch)
        for images in np.array_split(rows, self.num_batches):
            if self.options.captions == "all":
                yield _Rows(images, self.stores.texts_of_images(images))
            else:
                yield _Rows(images, self.stores.draw_texts(images, random))

    def _shuffled(self, random: np.random.Generator, epoch: int) -> Int64[np.ndarray, " n"]:
        """Return the images to train on, a few shards at a time where not all are at hand."""
        images, texts = self.stores.image, self.stores.text
        seed = [self.seed, epoch]
        if images.buffer_shards is not None:
            order = block_shuffle(images.first_rows, seed=seed, buffer_shards=images.buffer_shards)
            return order[np.isin(order, self.train_rows)]
        if texts.buffer_shards is not None:
            # shards of texts, and of each image that in which its first text is
            first_texts = self.stores.first_text_of(self.train_rows)
            by_text = np.argsort(first_texts, kind="stable")
            first_rows = np.searchsorted(first_texts[by_text], texts.first_rows)
            order = block_shuffle(first_rows, seed=seed, buffer_shards=texts.buffer_shards)
            rows: np.ndarray = self.train_rows[by_text[order]]
            return rows
        return random.permutation(self.train_rows)

    def _load(self, rows: _Rows) -> _Batch:
        images, image_order = self.stores.image.padded_groups(rows.image, _GROUPS)
        texts, text_order = self.stores.text.padded_groups(rows.text, _GROUPS)
        positives = self.stores.positives(rows.image, rows.text)
        return _Batch(
            rows=rows,
            images=images,
            texts=texts,
            positives=positives[image_order][:, text_order],
        )

    def _train_step(self, batch: _Batch) -> dict[str, float]:
        factor = cosine_with_warmup(self.step, num_steps=self.num_steps, warmup=self.options.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = factor * self.options.learning_rate
        low = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=low):
            image = self._embed(batch.images, Modality.IMAGE)
            text = self._embed(batch.texts, Modality.TEXT)
        loss = self.objective(PairBatch(image, text, batch.positives.to(self.device)))
        value = float(loss.total.detach())
        if not math.isfinite(value):
            ids = [self.stores.image.ids[row] for row in batch.rows.image[:3].tolist()]
            raise DivergedError(
                f"the loss is {value} at step {self.step + 1}, with images such as {ids}: "
                "lower train.learning_rate"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters(), self.options.gradient_clip)
        self.optimiser.step()
        self.step += 1
        return {"loss": value, **{name: float(part) for name, part in loss.parts.items()}}

    def _check_weights(self) -> None:
        """Refuse what the last step did, which no later loss would show."""
        if not all(bool(torch.isfinite(p).all()) for p in self._parameters()):
            raise DivergedError(
                f"the weights are not finite after step {self.step}: lower train.learning_rate"
            )

    def _embed(self, groups: list[Tokens], modality: Modality) -> torch.Tensor:
        return torch.cat([self.adapter.embed(group.to(self.device), modality) for group in groups])

    def _validate(self) -> dict[str, Any]:
        if self.validation is None and not len(self.held_out):
            return {}
        stores, rows = self.stores, self.held_out
        if self.validation is not None:
            stores, rows = self.validation, self.validation.image_rows
        embeddings = embed_pairs(self.adapter, stores, image_rows=rows, device=self.device)
        measured = Retrieval(k=10).run(embeddings)
        return {
            "recall_sum": measured["recall_sum"],
            "text_to_image": measured["text_to_image"]["recall"],
            "image_to_text": measured["image_to_text"]["recall"],
        }

    def _save(self, folder: Path) -> None:
        table = {
            "towers": self.plan.table["towers"],
            "objective": self.plan.table["objective"],
        }
        save_adapter(folder, self.adapter, self.objective, table=table)

    def _selection(self) -> str:
        if self.validation is not None:
            return f"recall_sum on split {self.validation.pair.split!r}"
        if len(self.held_out):
            return f"recall_sum on {len(self.held_out)} held-out images of split 'train'"
        return "last epoch"

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [*self.adapter.parameters(), *self.objective.parameters()]

    def _cuda_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products; `auto` is bfloat16 where the device has units for it."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def _split_rows(
    rows: Int64[np.ndarray, " n"], holdout: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    count = math.ceil(holdout * len(rows))
    shuffled = np.random.default_rng(seed).permutation(rows)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def _append_json(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _summary(record: dict[str, Any], epochs: int) -> str:
    text = f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.3f}"
    if "validation" in record:
        found = record["validation"]
        there, back = found["text_to_image"]["1"], found["image_to_text"]["1"]
        text += f", validation R@1 text to image {there:.1f} %, image to text {back:.1f} %"
    return f"{text} ({record['images_per_second']:.0f} images/s)"
