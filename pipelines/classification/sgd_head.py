"""A head of classes trained on frozen embeddings by plain steps, as LightCRL's tables are."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional

from ...adapters.class_head import ClassHead
from ...featcache.errors import DivergedError
from ..common.progress import SILENT, Progress
from ..common.reproducibility import seeded
from ..training.step import OptimiserStep
from .classifiers import Examples, scaling
from .sgd_options import SgdOptions


def sgd_heads(
    train: Examples,
    options: SgdOptions,
    *,
    seed: int,
    device: torch.device,
    progress: Progress = SILENT,
) -> Iterator[tuple[int, float, ClassHead]]:
    """Train a head and yield it after every `every` epochs and after the last.

    It is the same module each time, which further epochs change. All images are on the device.

    Yields:
        The epoch, its mean loss (nats) and the head.

    Raises:
        DivergedError: A loss is not finite.
    """
    features = torch.from_numpy(train.features).to(device)
    labels = torch.from_numpy(train.labels).to(device)
    with seeded(seed, device=device, deterministic=False):
        head = ClassHead(features.shape[1], train.num_classes, hidden=options.hidden)
    if options.scaled:
        mean, scale = scaling(train.features)
        head.set_scaling(torch.from_numpy(mean), scale)
    head.to(device)
    # a generator on the CPU: the order is the same on every device
    random = torch.Generator().manual_seed(seed)
    rate, momentum = options.learning_rate, options.momentum
    parameters = list(head.parameters())
    step = OptimiserStep(parameters, torch.optim.SGD(parameters, lr=rate, momentum=momentum))
    epochs = range(1, options.epochs + 1)
    for epoch in progress.track(epochs, "train a head", options.epochs, unit="epochs"):
        order = torch.randperm(len(train), generator=random).to(device)
        total = torch.zeros((), device=device)
        for start in range(0, len(train), options.batch_size):
            rows = order[start : start + options.batch_size]
            loss = functional.cross_entropy(head(features[rows]), labels[rows])
            step.add_gradient(loss)
            step.take()
            # summed where it is: to read each loss would make a GPU wait for every step
            total += loss.detach() * len(rows)
        mean_loss = float(total) / len(train)
        if not math.isfinite(mean_loss):
            raise DivergedError(
                f"the loss is {mean_loss} in epoch {epoch}: lower the learning rate, now {rate}"
            )
        if epoch % options.every == 0 or epoch == options.epochs:
            yield epoch, mean_loss, head


def score_rows(
    head: ClassHead, features: Float32[np.ndarray, "n width"], device: torch.device
) -> Float32[np.ndarray, "n classes"]:
    """Return the logits of rows of features.

    Raises:
        DivergedError: One is not finite.
    """
    with torch.inference_mode():
        blocks = [
            head(torch.from_numpy(block).to(device)).cpu().numpy()
            for block in np.array_split(features, math.ceil(len(features) / 8192))
        ]
    scores = np.concatenate(blocks)
    if not np.isfinite(scores).all():
        raise DivergedError("a score of a class is not finite: lower the learning rate")
    return scores
