"""The training step that a plan looks at, on random features in the place of a store's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ...adapters.adapter import Adapter, Widths, each_width
from ...adapters.gradcache import LazyTokens
from ...adapters.klot import Klot
from ...adapters.objective import Objective, PairBatch, QueuedNegatives, TeacherFeatures
from ...adapters.positives import Positives
from ...adapters.preset import preset_of
from ...featcache.config import Table
from ...featcache.encoders.card import EncoderCard
from ...featcache.encoders.references import find_card
from ...featcache.errors import SpecError
from ...featcache.hardware import resolve_device
from ...featcache.home import usual_home
from ...featcache.tokens import PooledTokens, StreamTokens, Tokens
from ...featcache.types import Modality, Side, Sides, sides_of
from ..common.reproducibility import resolve_precision
from ..inputs.pairs import BatchRows
from ..inputs.pooled_shape import PooledShape
from ..training.batches import Batch
from ..training.mixup import MixupOptions
from ..training.modules import TrainingModules, build_trainable
from ..training.options import TrainOptions, resolve_preset
from ..training.step import TrainStep
from ..training.unpaired_options import UNPAIRED, UnpairedOptions, unpaired_options
from .spec import PlanSpec


@dataclass(frozen=True, kw_only=True)
class InputShape:
    """Shape of one row of each side, as a step reads it.

    What is said of images is of items of the first side, what is said of texts of the second.

    Attributes:
        tokens: Tokens of an image and of a text.
        widths: Features of one of their tokens, or of one of each stream: all have as many tokens.
        texts: Texts of an image in its batch.
        feature_bytes: Bytes of one feature as it is loaded.
        ready: Batches or chunks that are in this memory at once: the one that is used, and where
            features stay on the CPU one that waits and one that is being loaded.
        pooled: What is left of a row of a side whose rows are pooled once; a step reads that.
    """

    tokens: Mapping[Side, int]
    widths: Mapping[Side, Widths]
    texts: int
    feature_bytes: int = 2
    ready: int = 3
    pooled: Mapping[Side, PooledShape] = field(default_factory=dict)

    @property
    def sides(self) -> Sides:
        """Return the two sides in their order."""
        return sides_of(self.tokens)

    def row_bytes(self, side: Side) -> int:
        """Return the bytes of one row as it comes into a step."""
        if side in self.pooled:
            return self.pooled[side].width * 4
        return self.tokens[side] * self.width(side) * self.feature_bytes

    def width(self, side: Side) -> int:
        """Return the features of one token, of all streams."""
        return sum(each_width(self.widths[side]))

    def rows(self, images: int) -> dict[Side, int]:
        """Return how many rows of each side so many images bring."""
        first, second = self.sides
        return {first: images, second: images * self.texts}

    def random_rows(self, side: Side, rows: int) -> Tokens:
        """Return so many rows of random features as they come into a step."""
        if side in self.pooled:
            pooled = self.pooled[side]
            values = torch.randn(rows, 1, pooled.width)
            return PooledTokens(values, torch.ones(rows, 1, dtype=torch.bool), pooled.num_steps)
        dtype = torch.float16 if self.feature_bytes == 2 else torch.float32
        mask = torch.ones(rows, self.tokens[side], dtype=torch.bool)
        # one row many times: drawing them all takes longer than a step
        streams = [
            Tokens(torch.randn(1, self.tokens[side], width).to(dtype).repeat(rows, 1, 1), mask)
            for width in each_width(self.widths[side])
        ]
        return StreamTokens.of(streams)


class _FullQueue:
    """Full queue, all of which is negative for every row."""

    def __init__(self, remembered: QueuedNegatives) -> None:
        self._remembered = remembered

    def recall(self, rows: BatchRows) -> QueuedNegatives:
        return self._remembered

    def add(self, rows: BatchRows, pairs: PairBatch) -> None:
        """Keep the queue as it is, which takes as much memory as any other."""


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """Parts that a planned training step is made of.

    Attributes:
        table: Preset with `towers` and `objective`.
        options: How it is trained.
        shape: What one row is.
        device: Where.
        is_unpaired: Whether it is the part of a step that learns from unpaired items alone.
    """

    table: Table
    options: TrainOptions
    shape: InputShape
    device: torch.device
    is_unpaired: bool = False

    @property
    def paired(self) -> "PlannedStep":
        """Return the part of the step that learns from pairs."""
        table = {key: value for key, value in self.table.items() if key != UNPAIRED}
        return replace(self, table=table)

    @property
    def unpaired(self) -> "PlannedStep | None":
        """Return the part of the step that learns from unpaired items, if there is one.

        Its batch is of items of either side, and what it adds its gradients to is there before.
        """
        if UNPAIRED not in self.table or self.is_unpaired:
            return None
        size = self.unpaired_options.batch_size
        options = replace(
            self.options,
            batch_size=size,
            queue=0,
            mixup=MixupOptions(),
            accumulate=max(2, self.options.accumulate),
        )
        shape = replace(self.shape, texts=1, pooled={})
        return replace(self, options=options, shape=shape, is_unpaired=True)

    @property
    def unpaired_options(self) -> UnpairedOptions:
        """Return the `[unpaired]` table of a preset that has one."""
        return unpaired_options(self.table)

    @property
    def teacher_widths(self) -> dict[Side, int]:
        """Return the features of what a teacher makes of a row of each side."""
        widths = {side: self.shape.width(side) for side in self.shape.sides}
        if not self.is_unpaired:
            return widths
        return dict.fromkeys(widths, self.unpaired_options.width(widths))

    def modules(self, device: torch.device) -> TrainingModules[Adapter, Objective]:
        """Return what is trained, on a device that may be another one."""
        trained = build_trainable(
            self.table, self.options, widths=self.shape.widths, seed=0, device=device
        )
        if not self.is_unpaired:
            return trained
        return replace(trained, objective=Klot(**self.unpaired_options.klot))

    def train_step(
        self, modules: TrainingModules[Adapter, Objective], images: int, device: torch.device
    ) -> TrainStep:
        """Return the step that trains `modules` on batches of so many images."""
        modules.adapter.train()
        queue = None
        # full from the start: a training is planned as it is after some batches
        if size := self.options.queue:
            rows = self.shape.rows(images)
            masks = [torch.ones(count, size, dtype=torch.bool) for count in rows.values()]
            embeddings = [_unit(size, modules.adapter.out_width) for _ in masks]
            queue = _FullQueue(QueuedNegatives(*embeddings, *masks).to(device))
        return TrainStep(
            modules,
            self.options,
            sides=self.shape.sides,
            dtype=resolve_precision(self.options.precision, self.device),
            device=device,
            queue=queue,
            unpaired=None if self.unpaired is None else Klot(**self.unpaired_options.klot),
        )

    def batch(self, images: int, device: torch.device, objective: Objective) -> Batch:
        """Return a batch of random features as an objective reads it; chunks when loaded."""
        first, second = self.shape.rows(images).items()
        texts = torch.arange(0 if self.is_unpaired else second[1])
        positives = Positives(texts // self.shape.texts, texts, (first[1], second[1]))
        units = [_unit(rows, self.teacher_widths[side]) for side, rows in (first, second)]
        unpaired = self.unpaired
        return Batch(
            rows=BatchRows(np.arange(first[1]), np.arange(second[1])),
            first=self._loads(*first),
            second=self._loads(*second),
            positives=positives.as_mask(objective.most_logits).to(device),
            teacher=TeacherFeatures(*units).to(device) if objective.needs_teacher else None,
            unpaired=None
            if unpaired is None
            else unpaired.batch(
                unpaired.options.batch_size, device, Klot(**self.unpaired_options.klot)
            ),
        )

    def _loads(self, side: Side, rows: int) -> list[LazyTokens]:
        make: Callable[[int], Tokens] = partial(self.shape.random_rows, side)
        if chunk := self.options.chunk_size:
            return [partial(make, min(chunk, rows - first)) for first in range(0, rows, chunk)]
        whole = make(rows)
        return [lambda: whole]


def _unit(rows: int, width: int) -> Float[Tensor, "rows width"]:
    return functional.normalize(torch.randn(rows, width), dim=1)


def planned_step(spec: PlanSpec) -> PlannedStep:
    """Return the step of the training that a plan names.

    Raises:
        SpecError: The preset cannot be trained in steps, or an option is wrong.
        UnknownNameError: There is no such preset, fusion, part or encoder.
    """
    table, options = resolve_preset(spec.preset, spec.fusion, spec.overrides)
    if "fit" in table:
        preset = preset_of(spec.preset, spec.fusion)
        raise SpecError(f"preset {preset!r} is solved in closed form: it has no steps to plan")
    image = _card(spec.image_encoder, Modality.IMAGE, spec.home)
    text = _card(spec.text_encoder, Modality.TEXT, spec.home)
    device = resolve_device(spec.device)
    image_tokens = spec.image_tokens or image.layout.tokens_per_item
    assert image_tokens is not None, "images have as many tokens each"
    # only items of one token are mixed, in float32
    mixes = options.mixup.alpha > 0
    shape = InputShape(
        tokens={
            Modality.IMAGE: 1 if mixes else image_tokens,
            Modality.TEXT: 1 if mixes else spec.text_tokens,
        },
        widths={Modality.IMAGE: image.width, Modality.TEXT: text.width},
        texts=spec.captions if options.captions == "all" else 1,
        feature_bytes=2 if spec.dtype == "float16" and not mixes else 4,  # all others are widened
        ready=3 if device.type == "cpu" else 1,
    )
    return PlannedStep(table=table, options=options, shape=shape, device=device)


def _card(name: str, modality: Modality, home: Path | None) -> EncoderCard:
    card = find_card(name, home=usual_home() if home is None else home)
    if card.modality is not modality:
        raise SpecError(f"encoder {name!r} reads {card.modality.value}s, not {modality.value}s")
    return card
