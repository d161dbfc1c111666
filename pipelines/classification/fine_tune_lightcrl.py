"""Train a head alone, as what LightCRL calls fine-tuning did."""

import copy
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from ...adapters.class_head import ClassHead
from ..common.progress import Progress
from ..inputs.labelled_images import LabelledImages
from ..runs.trained_run import TrainedRun
from ..training.course import single_step_warning
from ..training.log import RunLog
from .classifiers import Examples
from .fine_tune_protocol import Protocol
from .fine_tune_spec import FineTuneSpec
from .sgd_head import sgd_heads


class LightCrlProtocol(Protocol):
    """Train the head alone by plain steps, as what LightCRL calls fine-tuning did.

    Source: lightweightCRL, commit e3421ad, Tiny ImageNet: its features are made without gradients,
    so that neither fusion nor projections are trained, whatever the name says.

    Args:
        spec: What is fine-tuned.
        start: The run whose adapter is the start.
        train: Images to train on.
    """

    definition = (
        "as published under the name of fine-tuning, the adapter receives no gradient and stays as "
        "it is: two matrices without a non-linearity between them are trained by plain steps on "
        "its embeddings, which are not divided by their length without `unit`; a second linear "
        "probe. The last epoch is kept and none is chosen"
    )
    names: ClassVar[Mapping[str, str]] = {
        "head_alone": "the trained head on embeddings of the adapter, which is as it was",
        "epoch_n": "after n epochs of the training",
    }

    def __init__(self, spec: FineTuneSpec, start: TrainedRun, train: LabelledImages) -> None:
        super().__init__(spec, start, train)
        self.heads: dict[int, ClassHead] = {}
        self.warnings.append(
            "protocol lightcrl trains the head alone: the adapter is still that of "
            f"{start.folder.name}"
        )
        self.warnings += single_step_warning(
            num_images=len(train), batch_size=spec.sgd.batch_size, epochs=spec.sgd.epochs
        )

    def fit(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Train the head, save it beside the adapter as it was, and return what happened.

        Raises:
            DivergedError: A loss is not finite.
        """
        began = time.perf_counter()
        embeddings = self._embeddings(self.train)
        examples = Examples(embeddings, self.train.labels, len(self.train.names))
        line: dict[str, list[float]] = {"x": [], "y": []}
        log = RunLog(folder, tensorboard=False)
        with log:
            log.go_on(epochs=0, next_step=1)
            heads = sgd_heads(
                examples, self.spec.sgd, seed=self.spec.seed, device=self.device, progress=progress
            )
            for epoch, loss, head in heads:
                self.heads[epoch] = copy.deepcopy(head)
                record = {"epoch": epoch, "loss": loss}
                line["x"].append(epoch)
                line["y"].append(loss)
                log.append(record)
        last = max(self.heads)
        self.save(folder, self.heads[last])
        self.curves = [
            {
                "title": "training loss of the head",
                "x_label": "epoch",
                "y_label": "nats",
                "lines": {"training images": line},
            }
        ]
        return {
            "best": record,
            "epochs": last,
            "steps": last * math.ceil(len(examples) / self.spec.sgd.batch_size),
            "selected_by": "last epoch",
            "num_parameters": sum(p.numel() for p in self.heads[last].parameters()),
            "trained": {
                f"head.{name}": p.numel() for name, p in self.heads[last].named_parameters()
            },
            "adapter_moved": 0.0,
            "num_images": len(examples),
            "precision": "float32",
            "device": str(self.device),
            "residency": {"image": self.train.reader.residency.report()},
            "seconds": time.perf_counter() - began,
        }

    def _embeddings(self, images: LabelledImages) -> Float32[np.ndarray, "n embed"]:
        return self.embed(self.adapter, images, images.rows, unit=self.spec.sgd.unit)

    def metrics(self, folder: Path, test: LabelledImages) -> dict[str, Any]:
        """Return the accuracies of the head at each epoch of the table."""
        del folder
        embeddings = self._embeddings(test)
        return {
            "head_alone": {
                f"epoch_{epoch}": self.numbers(head, embeddings, test)
                for epoch, head in self.heads.items()
            }
        }
