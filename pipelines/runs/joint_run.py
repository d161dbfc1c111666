"""Finished run whose adapter reads pairs of items together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from ...adapters.joint_adapter import JointAdapter
from ...adapters.joint_checkpoint import load_joint_adapter
from ...adapters.joint_objective import JointObjectives
from ...adapters.preset import JOINT
from ...featcache.config import Table
from ...featcache.errors import DivergedError, SpecError, StoreCorruptError
from ...featcache.hardware import resolve_device
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..metrics.answer_vocabulary import AnswerVocabulary
from . import run_folder
from .run_encoders import RunEncoders
from .trained_run import TrainedRun


@dataclass(frozen=True)
class LoadedJoint:
    """Joint adapter of a run, at rest.

    Attributes:
        adapter: The adapter, in evaluation mode.
        objectives: What its heads were trained by.
        table: Content of its `adapter.toml`.
        vocabulary: Answers that it tells apart, or None for one without the head `answers`.
    """

    adapter: JointAdapter
    objectives: JointObjectives
    table: Table
    vocabulary: AnswerVocabulary | None

    @classmethod
    def open(cls, folder: Path, device: torch.device) -> "LoadedJoint":
        """Load the adapter of a run folder.

        Raises:
            RunNotFoundError: The folder holds no trained adapter.
            StoreCorruptError: A file of it is damaged, or its list of answers is not as long as its
                head.
        """
        adapter, objectives, table = load_joint_adapter(folder)
        vocabulary = None
        if "answers" in adapter.heads:
            listed = table.get("answers", {})
            answers = listed.get("listed", ())
            if len(answers) != adapter.listed["answers"]:
                raise StoreCorruptError(
                    f"{folder / run_folder.TABLE} lists {len(answers):,} answers, and the head has "
                    f"{adapter.listed['answers']:,} outputs: {run_folder.ways_out(folder)}"
                )
            vocabulary = AnswerVocabulary(tuple(answers), listed.get("normalise", True))
        return cls(adapter.to(device), objectives.to(device), table, vocabulary)

    def require_both_sides(self, folder: Path) -> None:
        """Pass if it looks at both sides.

        Raises:
            SpecError: It is a control that does not.
        """
        if blind := self.adapter.blind:
            raise SpecError(
                f"run {folder.name} is a control that does not look at the {blind}, and "
                "cannot say what belongs together: name another run"
            )

    @property
    def answers(self) -> AnswerVocabulary:
        """Return the answers that it tells apart; `require_head` refuses a run without them."""
        assert self.vocabulary is not None, "a run that answers has the head of that name"
        return self.vocabulary


class JointRun(TrainedRun):
    """Finished run of a joint adapter that is evaluated; stores and data are as of any run.

    `run` is its name or folder, or None for the newest joint one.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It is a run whose adapter embeds each side alone.
        StoreCorruptError: Its report does not say what it was trained on.
    """

    kind = JOINT

    @cached_property
    def joint(self) -> LoadedJoint:
        """Return the adapter, on the device."""
        return LoadedJoint.open(self.folder, self.device)


class PairReader:
    """Read contents of both sides together by a joint run: its frozen encoders, then its adapter.

    Each item is encoded and read without padding, so that no result depends on what else is in a
    call.

    Args:
        folder: The run folder; nothing else is needed but the encoders' weights.
        device: `auto`, `cpu` or `cuda`.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.

    Raises:
        LightalignError: The run or its encoders cannot be opened; see `Embedder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        weights: Mapping[str, Path] | None = None,
    ) -> None:
        self.folder = folder
        self.device = resolve_device(device)
        self.joint = LoadedJoint.open(folder, self.device)
        self.encoders = RunEncoders(folder, device=self.device, weights=weights)

    @torch.inference_mode()
    def encode(self, contents: Sequence[Any], names: Sequence[str], side: Side) -> list[Tokens]:
        """Return the tokens of each item of a side, one row each.

        Args:
            contents: Texts; files, contents of files, or pictures.
            names: What messages call each.
            side: Which side they are of.

        Raises:
            LightalignError: See `Embedder.embed_images`.
        """
        rows = []
        for (tokens,) in self.encoders.features(side, contents, names, batch_size=1):
            length = int(tokens.mask.sum())
            values = tokens.values[tokens.mask][None]
            rows.append(Tokens(values, torch.ones(1, length, dtype=torch.bool)))
        return rows

    @torch.inference_mode()
    def logits(self, tokens: Mapping[Side, Tokens], head: str) -> Float32[np.ndarray, "n outputs"]:
        """Return the logits of a head for rows of both sides.

        Raises:
            SpecError: The run has no such head; see `require_head`.
            DivergedError: A logit is not finite.
        """
        on_device = {side: of_side.to(self.device) for side, of_side in tokens.items()}
        joint = self.joint.adapter(on_device)
        scores: np.ndarray = self.joint.adapter.logits(joint, [head])[head].float().cpu().numpy()
        if not np.isfinite(scores).all():
            raise DivergedError(
                f"a logit of run {self.folder.name} is not finite, as an adapter gives whose "
                f"training diverged: {run_folder.ways_out(self.folder)} with a lower "
                "train.learning_rate"
            )
        return scores
