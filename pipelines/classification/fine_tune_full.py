"""Train adapter and head together on cached tokens."""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional

from ...adapters.adapter import parameter_groups
from ...adapters.checkpoint import load_adapter
from ...adapters.class_head import ClassHead, load_head
from ...adapters.gradient_check import Reached, require_gradients, shared_steps, side_parameters
from ...featcache.errors import DivergedError, SpecError
from ...featcache.reading.shuffle import block_shuffle
from ...featcache.tokens import Tokens
from ...featcache.types import Modality
from ..common.prefetch import prefetch
from ..common.progress import Progress
from ..common.reproducibility import seeded
from ..inputs.labelled_images import LabelledImages, hold_out
from ..metrics.ranks import label_ranks
from ..runs import run_folder
from ..runs.trained_run import TrainedRun
from ..training.checkpoint import TrainingState
from ..training.course import single_step_warning
from ..training.log import RunLog
from ..training.schedule import cosine_with_warmup
from ..training.step import OptimiserStep
from .classifiers import scaling
from .fine_tune_numbers import HeldOutImages
from .fine_tune_protocol import Protocol
from .fine_tune_spec import FineTuneSpec
from .sgd_head import score_rows

_SCALING_ROWS = 8192  # whose embeddings say what a head subtracts and divides by


class FullProtocol(Protocol):
    """Train adapter and head together by AdamW; the best epoch by held-out images is kept.

    Raises:
        SpecError: The adapter has nothing to train on the image side, or there are too few images.
        GradientError: A step of the adapter receives no gradient.
    """

    definition = (
        "adapter and head are trained together on cached tokens, with the adapter's dropout; the "
        "epoch with the best top-1 on held-out training images is kept; every parameter that is "
        "called trained was checked to receive a gradient, the others are left as they were"
    )
    names: ClassVar[Mapping[str, str]] = {
        "fine_tuned": "adapter and head together, as they were kept",
        "epoch_n": "after n epochs of the training, the best by held-out training images",
    }

    held_numbers: ClassVar[HeldOutImages] = HeldOutImages()

    def __init__(self, spec: FineTuneSpec, start: TrainedRun, train: LabelledImages) -> None:
        super().__init__(spec, start, train)
        self.options = spec.options
        self.rows, self.held = hold_out(train.labels, share=self.options.validation, seed=spec.seed)
        if not len(self.held):
            raise SpecError("every class has one training image: none is left to choose an epoch")
        self.labels = torch.from_numpy(train.labels)
        with seeded(spec.seed, device=self.device, deterministic=False):
            self.head = ClassHead(self.adapter.out_width, len(train.names))
        sample = np.random.default_rng(spec.seed).permutation(self.rows)[:_SCALING_ROWS]
        mean, scale = scaling(self.embed(self.adapter, train, np.sort(sample)))
        self.head.set_scaling(torch.from_numpy(mean), scale)
        self.head.to(self.device)
        self.of_adapter = side_parameters(self.adapter, Modality.IMAGE)
        if not self.of_adapter:
            raise SpecError(
                f"the adapter of {start.folder.name} has nothing that gradients train on the image "
                "side: probe it, or start from another run"
            )
        of_head = {f"head.{name}": value for name, value in self.head.named_parameters()}
        self.trained = {**self.of_adapter, **of_head}
        self.begun = [value.detach().clone() for value in self.of_adapter.values()]
        self.counts = TrainingState()
        self.num_batches = math.ceil(len(self.rows) / self.options.batch_size)
        self.warnings += single_step_warning(
            num_images=len(self.rows),
            batch_size=self.options.batch_size,
            epochs=self.options.epochs,
        )
        with seeded(spec.seed, device=self.device, deterministic=False):
            self.reached = self._leave_out_missed()
        decay = self.options.weight_decay
        rates = (
            (self.of_adapter.values(), self.options.adapter_rate),
            (self.head.parameters(), self.options.learning_rate),
        )
        self.optimiser = torch.optim.AdamW(
            [
                {**group, "lr": rate}
                for parameters, rate in rates
                for group in parameter_groups(parameters, weight_decay=decay)
            ]
        )
        self.optimiser_step = OptimiserStep(
            list(self.trained.values()),
            self.optimiser,
            gradient_clip=self.options.gradient_clip,
        )
        shared = shared_steps(self.adapter, Modality.IMAGE)
        if shared:
            self.warnings.append(
                f"the text side shares {shared} with the images: its embeddings change, too, and "
                "are aligned with those of the images no longer"
            )

    def fit(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Train all epochs, keep the best in `folder`, and return what happened.

        Raises:
            DivergedError: A loss or a weight is not finite.
        """
        began = time.perf_counter()
        counts, options = self.counts, self.options
        line: dict[str, list[float]] = {"x": [], "y": []}
        log = RunLog(folder, tensorboard=False)
        with seeded(self.spec.seed, device=self.device, deterministic=False), log:
            log.go_on(epochs=0, next_step=1)
            for epoch in range(1, options.epochs + 1):
                counts.epoch = epoch
                record = self._epoch(epoch, progress)
                log.append(record)
                validation = record["validation"]
                line["x"].append(epoch)
                line["y"].append(validation["top_1"])
                words = self.held_numbers.words(validation)
                progress.note(f"epoch {epoch}/{options.epochs}: loss {record['loss']:.3f}, {words}")
                score = self.held_numbers.score
                if not counts.best or score(validation) > score(counts.best["validation"]):
                    counts.best = record
                    self.save(folder, self.head)
        lines = {"held-out training images": line}
        held_out = f"{len(self.held)} held-out training images"
        title = "top-1 while fine-tuning"
        self.curves = [{"title": title, "x_label": "epoch", "y_label": "%", "lines": lines}]
        return {
            "best": counts.best,
            "epochs": counts.epoch,
            "steps": counts.step,
            "selected_by": f"{self.held_numbers.best.name} on {held_out}",
            "num_parameters": sum(value.numel() for value in self.trained.values()),
            "trained": {name: value.numel() for name, value in self.trained.items()},
            "largest_gradients": dict(self.reached.largest),
            "not_reached": list(self.reached.missed),
            "adapter_moved": self._moved(),
            "num_images": len(self.rows),
            "precision": "float32",
            "device": str(self.device),
            "residency": {"image": self.train.reader.residency.report()},
            "seconds": time.perf_counter() - began,
            "seconds_waiting": counts.seconds_waiting,
        }

    def metrics(self, folder: Path, test: LabelledImages) -> dict[str, Any]:
        """Return the accuracies of what was saved in `folder`, at the epoch that was kept."""
        adapter, _, _ = load_adapter(folder)
        head, _ = load_head(folder / run_folder.HEAD)
        # what was saved is measured, not what is in memory: the best epoch is an earlier one
        embeddings = self.embed(adapter.to(self.device), test, test.rows)
        numbers = self.numbers(head.to(self.device), embeddings, test)
        return {"fine_tuned": {f"epoch_{self.counts.best['epoch']}": numbers}}

    def _leave_out_missed(self) -> Reached:
        """Return what the gradient of the first batch reaches; nothing else is trained."""
        self.adapter.train()
        rows = next(self._order(epoch=1))
        torch.autograd.backward(self._loss(self.train.reader.padded(rows), rows))
        reach = require_gradients(self.trained)
        # weight decay would still pull to zero what no gradient reaches
        for name in reach.missed:
            self.trained.pop(name).requires_grad_(False)
        for value in self.trained.values():
            value.grad = None
        if reach.missed:
            self.warnings.append(
                f"no gradient reaches {', '.join(reach.missed)}: they cancel on these features and "
                "stay as they are"
            )
        return reach

    def _order(self, epoch: int) -> Iterator[Int64[np.ndarray, " batch"]]:
        """Yield the rows of each batch of an epoch, few shards at a time where they are packed."""
        seed = [self.spec.seed, epoch]
        reader = self.train.reader
        if reader.buffer_shards is None:
            order = np.random.default_rng(seed).permutation(self.rows)
        else:
            # shuffled before the choice, as a block is of whole shards
            every = block_shuffle(reader.first_rows, seed=seed, buffer_shards=reader.buffer_shards)
            order = every[np.isin(every, self.rows)]
        size = self.options.batch_size
        yield from (order[start : start + size] for start in range(0, len(order), size))

    def _loss(self, tokens: Tokens, rows: Int64[np.ndarray, " batch"]) -> Tensor:
        scores = self.head(self.adapter.embed(tokens.to(self.device), Modality.IMAGE))
        return functional.cross_entropy(scores, self.labels[rows].to(self.device))

    def _epoch(self, epoch: int, progress: Progress) -> dict[str, Any]:
        began, waited = time.perf_counter(), self.counts.seconds_waiting
        self.adapter.train()
        total = 0.0
        ahead = prefetch(
            lambda rows: (rows, self.train.reader.padded(rows)), self._order(epoch), ahead=2
        )
        loaded = self.counts.waiting_for(ahead)
        label = f"epoch {epoch}/{self.options.epochs}"
        for rows, tokens in progress.track(loaded, label, self.num_batches, unit="batches"):
            # weighed by rows, as the last batch may have fewer
            total += self._step(tokens, rows) * len(rows)
        # a loss is that of the weights before its step: only they tell what the last one made
        if not all(bool(torch.isfinite(value).all()) for value in self.trained.values()):
            raise DivergedError(
                f"the weights are not finite after step {self.counts.step}: lower learning_rate "
                "and adapter_rate"
            )
        seconds = time.perf_counter() - began
        return {
            "epoch": epoch,
            "step": self.counts.step,
            "loss": total / len(self.rows),
            "parts": {},
            "learning_rate": self.optimiser.param_groups[-1]["lr"],
            "seconds": seconds,
            "seconds_waiting": self.counts.seconds_waiting - waited,
            "images_per_second": len(self.rows) / seconds,
            "validation": self._validate(),
        }

    def _step(self, tokens: Tokens, rows: Int64[np.ndarray, " batch"]) -> float:
        steps = self.num_batches * self.options.epochs
        factor = cosine_with_warmup(self.counts.step, num_steps=steps, warmup=self.options.warmup)
        loss = self._loss(tokens, rows)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(
                f"the loss is {value} at step {self.counts.step + 1}: lower learning_rate and "
                "adapter_rate"
            )
        self.optimiser_step.add_gradient(loss)
        self.optimiser_step.take(factor)
        self.counts.step += 1
        return value

    def _validate(self) -> dict[str, float]:
        labels = self.train.labels[self.held]
        scores = score_rows(self.head, self.embed(self.adapter, self.train, self.held), self.device)
        loss = functional.cross_entropy(torch.from_numpy(scores), torch.from_numpy(labels))
        hits = label_ranks(scores, labels) == 1
        return {"top_1": float(100.0 * hits.mean()), "loss": float(loss)}

    def _moved(self) -> float:
        """Return how far the adapter's weights went, over their length at the start."""
        pairs = zip(self.of_adapter.values(), self.begun, strict=True)
        gone = sum(float((now.detach() - then).square().sum()) for now, then in pairs)
        return math.sqrt(gone / sum(float(then.square().sum()) for then in self.begun))
