"""Contract of a planned training step, and the rows that it reads."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...adapters.adapter import Widths, each_width
from ...featcache.config import Table
from ...featcache.tokens import PooledTokens, StreamTokens, Tokens
from ...featcache.types import Side, Sides, sides_of
from ..inputs.pooled_shape import PooledShape
from ..training.joint.step import JointStep
from ..training.modules import TrainingModules
from ..training.options import TrainOptions
from ..training.step import TrainStep


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


@dataclass(frozen=True, kw_only=True)
class Planned(ABC):
    """Training step on random features in the place of a store's.

    Attributes:
        table: Preset of what is trained.
        options: How it is trained.
        shape: What one row is.
        device: Where.
    """

    table: Table
    options: TrainOptions
    shape: InputShape
    device: torch.device

    @property
    @abstractmethod
    def batches_ready(self) -> int:
        """Return how many whole batches are in memory at once."""

    @abstractmethod
    def modules(self, device: torch.device) -> TrainingModules[Any, Any]:
        """Return what is trained, on a device that may be another one."""

    @abstractmethod
    def train_step(
        self, modules: TrainingModules[Any, Any], images: int, device: torch.device
    ) -> TrainStep | JointStep:
        """Return the step that trains `modules` on batches of so many images."""

    @abstractmethod
    def batch(self, images: int, device: torch.device, objective: Any) -> Any:
        """Return a batch of so many images, of random features."""
