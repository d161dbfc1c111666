"""Predict the memory of a training step from the same step with fewer rows.

The parts of a step are run on random features, and bytes of tensors are counted while they live.
Embedding takes memory that grows with the rows, once these outweigh the gradient of the largest
weight; a contrastive loss takes some that grows with the images times the texts, or with their sum
where it makes its logits in blocks. Few rows are measured, many are extrapolated.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapters.objective import PairBatch, QueuedNegatives, TeacherFeatures
from ...featcache.encoders.memory import LiveTensors
from ...featcache.tokens import PooledTokens, Tokens
from ...featcache.types import Side
from ..inputs.cached_steps import POOLING_BYTES
from ..inputs.pooled_shape import PooledShape
from ..training.modules import TrainingModules
from .peak import PeakMemory
from .shapes import InputShape

_MOST_ROWS = 512  # that embedding is measured with
_LINEAR = 0.02  # by how much a slope may differ from the one before
_IMAGES = (128, 256, 512)  # that the loss is measured with


class MemoryModel:
    """Model of the bytes that each part of a training step takes.

    Args:
        trainable: What is trained, on the CPU.
        shape: What one row is.
        dtype: Type of matrix products.
        accumulates: Whether gradients of batches before are there already.
        queue: Images, and as many texts, of earlier batches that are remembered.
    """

    def __init__(
        self,
        trainable: TrainingModules,
        *,
        shape: InputShape,
        dtype: torch.dtype,
        accumulates: bool = False,
        queue: int = 0,
    ) -> None:
        self.shape = shape
        self._queue = queue
        self._trainable = trainable
        self._adapter = trainable.adapter.train()
        self._dtype = dtype
        self._accumulates = accumulates
        modules = nn.ModuleList([trainable.adapter, trainable.objective])
        tensors = [*modules.parameters(), *modules.buffers()]
        copies = 1 if trainable.average is None else 2
        self._weights = sum(map(_bytes, tensors)) * copies
        self._largest = max((_bytes(p) for p in modules.parameters()), default=0)
        self._gradients = sum(_bytes(p) for p in modules.parameters() if p.requires_grad)
        self._rows: dict[Side, list[int]] = {side: [] for side in shape.tokens}
        self._bytes: dict[Side, list[tuple[int, int]]] = {side: [] for side in shape.tokens}
        self._losses: dict[int, int] = {}
        with torch.random.fork_rng(devices=[]):
            for side in shape.tokens:
                self._try_rows(side)
            self._optimiser, self._stepping = self._step()

    def peak(self, batch_size: int, chunk_size: int) -> PeakMemory:
        """Return what is in memory at the peak of a step.

        Args:
            batch_size: Images of a batch.
            chunk_size: Rows whose graph is in memory at once, or 0 for all.
        """
        moments = self._moments_of_chunks if chunk_size else self._moments_of_a_whole
        rows = {side: self.shape.rows(side, batch_size) for side in self._rows}
        return max(moments(rows, chunk_size), key=lambda peak: peak.total)

    def _moments_of_a_whole(self, rows: Mapping[Side, int], _: int) -> Sequence[PeakMemory]:
        """Return what is in memory when the loss is known, while going back, and at the step.

        Gradients come one by one while what embedding has kept goes, so that the peak is where one
        of both is whole.
        """
        features = sum(count * self.shape.row_bytes(m) for m, count in rows.items())
        embedded = [self._embedding(side, count) for side, count in rows.items()]
        staying = sum(stays for stays, _ in embedded)
        more = max(peak - stays for stays, peak in embedded)
        embeddings = self._embedding_bytes(rows)
        loss = self._loss(rows[self.shape.sides[0]]) + embeddings
        return (
            self._peak(features, activations=staying, loss=loss),
            self._peak(features, activations=staying + more),
            self._peak(features, gradients=self._gradients, activations=self._stepping),
        )

    def _moments_of_chunks(self, rows: Mapping[Side, int], chunk: int) -> Sequence[PeakMemory]:
        """Return what is in memory when the loss is known, in the last chunk, and at the step."""
        chunks = {side: min(chunk, count) for side, count in rows.items()}
        features = max(count * self.shape.row_bytes(m) for m, count in chunks.items())
        embedding = max(self._embedding(side, count)[1] for side, count in chunks.items())
        states = sum(-(-count // chunk) for count in rows.values()) * _bytes(torch.get_rng_state())
        embeddings = self._embedding_bytes(rows)
        loss = self._loss(rows[self.shape.sides[0]]) + embeddings + states
        return (
            self._peak(features, loss=loss),
            self._peak(
                features,
                gradients=self._gradients,
                activations=embedding,
                loss=3 * embeddings + states,  # of each chunk, joined, and the gradient of each
            ),
            self._peak(features, gradients=self._gradients, activations=self._stepping),
        )

    def _peak(
        self, features: int, *, gradients: int = 0, activations: int = 0, loss: int = 0
    ) -> PeakMemory:
        return PeakMemory(
            weights=self._weights,
            gradients=self._gradients if self._accumulates else gradients,
            optimiser=self._optimiser,
            features=self.shape.ready * features,
            activations=activations,
            loss=loss + 2 * self._queue * self._adapter.out_width * 4,
            pooled=pooled_bytes(self.shape.pooled.values()),
        )

    def _embedding_bytes(self, rows: Mapping[Side, int]) -> int:
        return sum(rows.values()) * self._adapter.out_width * 4

    def largest_chunk(self, batch_size: int, budget: int) -> int | None:
        """Return the largest power of two rows whose peak is within `budget` bytes, if any is."""
        most = max(self.shape.rows(side, batch_size) for side in self._rows)
        sizes = [2**power for power in range(most.bit_length())]
        fitting = [size for size in sizes if self.peak(batch_size, size).total <= budget]
        return max(fitting, default=None)

    def _try_rows(self, side: Side) -> None:
        """Measure 1, 2, 4, ... rows until the bytes grow in step with them."""
        rows, measured = self._rows[side], self._bytes[side]
        slopes: list[float] = []
        while not rows or rows[-1] < _MOST_ROWS:
            rows.append(2 ** len(rows))
            measured.append(self._embed(side, rows[-1]))
            if len(rows) > 1:
                slopes.append((measured[-1][1] - measured[-2][1]) / (rows[-1] - rows[-2]))
            outweighs = measured[-1][1] > 4 * self._largest
            steady = len(slopes) > 2 and abs(slopes[-1] / max(slopes[-2], 1) - 1) < _LINEAR
            if outweighs and steady:
                return

    def _embedding(self, side: Side, rows: int) -> tuple[int, int]:
        """Return the bytes that stay for the gradient of so many rows, and the most until then."""
        sizes, measured = self._rows[side], np.array(self._bytes[side], dtype=np.float64)
        if rows <= sizes[-1]:
            stays, peak = (np.interp(rows, sizes, column) for column in measured.T)
        else:
            slope = (measured[-1] - measured[-2]) / (sizes[-1] - sizes[-2])
            stays, peak = measured[-1] + slope * (rows - sizes[-1])
        return int(stays), int(peak)

    def _loss(self, images: int) -> int:
        """Return the most bytes that live while the loss and the embeddings' gradient are found."""
        if images <= _IMAGES[-1]:
            if images not in self._losses:
                with torch.random.fork_rng(devices=[]):
                    self._losses[images] = self._lose(images)
            return self._losses[images]
        powers = np.vander(np.array(_IMAGES, dtype=np.float64))
        losses = [self._loss(size) - self._marks(size) for size in _IMAGES]
        squared, single, constant = np.linalg.solve(powers, np.array(losses, dtype=np.float64))
        squares = float(images**2)
        if (most := self._trainable.objective.most_logits) is not None:
            squares = min(squares, most / self.shape.texts)
        return int(squared * squares + single * images + constant) + self._marks(images)

    def _marks(self, images: int) -> int:
        """Return the bytes that say which of so many images and their texts belong together."""
        return images * self.shape.rows(self.shape.sides[1], images)

    def _embed(self, side: Side, rows: int) -> tuple[int, int]:
        """Return the bytes that stay for the gradient, and the most that live until it is there."""
        inputs = self._made_up(side, rows)
        low = self._dtype != torch.float32
        for parameter in self._adapter.parameters():  # a part of their own: not to be counted here
            parameter.grad = torch.zeros_like(parameter)
        with LiveTensors() as live:
            with torch.autocast("cpu", dtype=self._dtype, enabled=low):
                embedded = self._adapter.embed(inputs, side)
            staying = live.num_bytes
            torch.autograd.backward(embedded, torch.ones_like(embedded))
        peak: int = live.peak_bytes
        self._remove_gradients()
        return staying, peak

    def _made_up(self, side: Side, rows: int) -> Tokens:
        """Return so many rows of random features as they come into a step."""
        if side in self.shape.pooled:
            pooled = self.shape.pooled[side]
            values = torch.randn(rows, 1, pooled.width)
            return PooledTokens(values, torch.ones(rows, 1, dtype=torch.bool), pooled.num_steps)
        tokens = self.shape.tokens[side]
        values = torch.randn(rows, tokens, self.shape.widths[side])
        stored = torch.float16 if self.shape.feature_bytes == 2 else torch.float32
        return Tokens(values.to(stored), torch.ones(rows, tokens, dtype=torch.bool))

    def _lose(self, images: int) -> int:
        texts = self.shape.rows(self.shape.sides[1], images)
        width = self._adapter.out_width
        positives = (
            torch.arange(texts)[None, :] // self.shape.texts == torch.arange(images)[:, None]
        )
        remembered = made_up_queue(self._queue, width=width, images=images, texts=texts)
        objective = self._trainable.objective
        teacher = made_up_teacher(self.shape, images) if objective.needs_teacher else None
        with LiveTensors() as live:
            image, text = (_unit(rows, width).requires_grad_() for rows in (images, texts))
            loss = objective(PairBatch(image, text, positives, remembered, teacher))
            torch.autograd.backward(loss.total)
        peak: int = live.peak_bytes
        self._remove_gradients()
        masks = 0 if remembered is None else (images + texts) * self._queue
        taught = 0 if teacher is None else _bytes(teacher.image) + _bytes(teacher.text)
        return peak + self._marks(images) + masks + taught

    def _step(self) -> tuple[int, int]:
        """Return the bytes of the optimiser's moments, and what a step needs for a moment."""
        optimiser = self._trainable.optimiser
        with LiveTensors() as live:
            for parameter in self._trainable.parameters:
                parameter.grad = torch.zeros_like(parameter)
            gradients = live.num_bytes
            optimiser.step()
            moments = live.num_bytes - gradients
            peak: int = live.peak_bytes
            optimiser.zero_grad(set_to_none=True)
        return moments, max(0, peak - gradients - moments)

    def _remove_gradients(self) -> None:
        for parameter in self._trainable.parameters:
            parameter.grad = None


def pooled_bytes(shapes: Collection[PooledShape]) -> int:
    """Return the bytes of rows that are pooled once, and of what pooling some of them takes."""
    return sum(shape.num_bytes for shape in shapes) + (POOLING_BYTES if shapes else 0)


def made_up_queue(size: int, *, width: int, images: int, texts: int) -> QueuedNegatives | None:
    """Return a full queue of which everything is a negative of every row; none of size 0."""
    if not size:
        return None
    return QueuedNegatives(
        image=_unit(size, width),
        text=_unit(size, width),
        image_to_text=torch.ones(images, size, dtype=torch.bool),
        text_to_image=torch.ones(texts, size, dtype=torch.bool),
    )


def made_up_teacher(shape: InputShape, images: int) -> TeacherFeatures:
    """Return features of so many images and of their texts."""
    units = {side: _unit(shape.rows(side, images), shape.widths[side]) for side in shape.tokens}
    return TeacherFeatures(*(units[side] for side in shape.sides))


def _unit(rows: int, width: int) -> Float[Tensor, "rows width"]:
    return nn.functional.normalize(torch.randn(rows, width), dim=1)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
