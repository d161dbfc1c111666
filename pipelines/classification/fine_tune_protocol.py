"""The contract of a fine-tuning protocol, and what its run folder records."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from ...adapters.adapter import Adapter
from ...adapters.checkpoint import load_adapter, save_adapter
from ...adapters.class_head import ClassHead, save_head
from ...adapters.without_bank import table_without_bank, without_bank
from ...featcache import atomic_files
from ...featcache.config import Table, to_table
from ...featcache.types import Modality
from ..common.progress import Progress
from ..common.versions import library_versions
from ..inputs.labelled_images import LabelledImages
from ..metrics.accuracy import accuracy_numbers
from ..metrics.ranks import label_ranks
from ..runs import run_folder
from ..runs.embed_stored import embed_rows
from ..runs.provenance import command_of
from ..runs.trained_run import TrainedRun
from .fine_tune_spec import FineTuneSpec
from .sgd_head import score_rows


class Protocol(ABC):
    """Train what a protocol trains.

    Attributes:
        definition: What the protocol does.
        names: What each name in its accuracies means.
        warnings: What to know before its numbers are believed.
        curves: Plots, as `evaluation` describes them.
    """

    definition: ClassVar[str]
    names: ClassVar[Mapping[str, str]]

    def __init__(self, spec: FineTuneSpec, start: TrainedRun, train: LabelledImages) -> None:
        self.spec = spec
        self.train = train
        self.device = start.device
        adapter, self.objective, table = load_adapter(start.folder)
        # a bank is of the weights as they were
        self.adapter, self.table = without_bank(adapter), table_without_bank(table)
        self.adapter.to(self.device)
        self.warnings: list[str] = []
        self.curves: list[dict[str, Any]] = []

    @abstractmethod
    def fit(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Train, save adapter and head in `folder`, and return what happened.

        Raises:
            DivergedError: A loss or a weight is not finite.
        """

    @abstractmethod
    def metrics(self, folder: Path, test: LabelledImages) -> dict[str, Any]:
        """Return the accuracies of what was saved in `folder`."""

    def save(self, folder: Path, head: ClassHead) -> None:
        """Save the adapter as it is now, and a head."""
        save_adapter(folder, self.adapter, self.objective, table=self.table)
        save_head(folder / run_folder.HEAD, head, self.train.names)

    def embed(
        self,
        adapter: Adapter,
        images: LabelledImages,
        rows: Int64[np.ndarray, " n"],
        *,
        unit: bool = True,
    ) -> Float32[np.ndarray, "n embed"]:
        """Return the embeddings of some images, in evaluation mode, of length 1 or as they are."""
        return embed_rows(
            adapter, images.reader, rows, side=Modality.IMAGE, device=self.device, unit=unit
        )

    def numbers(
        self, head: ClassHead, embeddings: Float32[np.ndarray, "n embed"], test: LabelledImages
    ) -> dict[str, Any]:
        """Return the accuracies of a head on the embeddings of all images of `test`."""
        ranks = label_ranks(score_rows(head, embeddings, self.device), test.labels)
        return dict(accuracy_numbers(ranks, test.labels, num_classes=len(test.names)))


def resolved(spec: FineTuneSpec, start: TrainedRun, train: LabelledImages) -> Table:
    """Return the new run's spec: its data, its protocol, and the run that it started from.

    The text side is that of the start; its features are those it was trained on then.
    """
    began = start.trained["spec"]
    description = train.entry.description
    sides = {side.value: start.stores["train"][side.value] for side in start.sides}
    # leakage is looked for in the images that this run has seen, not in those of its start
    image = {**sides["image"], "key": train.entry.key}
    options = spec.options if spec.protocol == "full" else spec.sgd
    stores = {
        "dataset": description.dataset,
        "split": description.split,
        "source": description.source,
    }
    return {
        **{key: began[key] for key in ("towers", "objective", "encoders") if key in began},
        "seed": spec.seed,
        "processes": 1,
        "protocol": spec.protocol,
        "command": command_of(spec),
        "train": to_table(options),
        "classes": list(train.names),
        "stores": {"train": {**stores, **sides, "image": image}},
        "began_with": {
            "run": start.folder.name,
            "adapter_sha256": atomic_files.sha256_file(start.folder / run_folder.WEIGHTS),
            "selected_by": start.trained.get("selected_by", ""),
            **{key: began[key] for key in ("stores", "began_with") if key in began},
        },
        "versions": library_versions(),
    }
