"""Trainings that a table of visual question answering is of, and how each is carried out once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ...featcache.config import fingerprint
from ...featcache.regular_files import is_there
from ..common.progress import Progress
from ..runs import run_folder
from ..training import train
from ..training.joint_spec import TrainJointSpec
from .vqa_spec import VqaSpec

QUESTION_ONLY, IMAGE_ONLY = "question only", "image only"
_BLIND = {QUESTION_ONLY: "image", IMAGE_ONLY: "text"}  # the side that a control does not look at
HELD_OUT = "train.validation=0.1"


@dataclass(frozen=True)
class TrainedRow:
    """Row of the table that is trained.

    Attributes:
        label: What the row is called.
        preset: Preset of the joint adapter.
        image_encoder: Encoder of the images, or None for the newest store.
        text_encoder: Encoder of the questions, or None for the newest store.
        is_control: Whether it is a control of the row of its preset.
    """

    label: str
    preset: str
    image_encoder: str | None
    text_encoder: str | None
    is_control: bool = False


def rows_of(spec: VqaSpec) -> list[TrainedRow]:
    """Return the rows of a table that are trained, controls first."""
    rows = []
    for image, text in spec.encoders:
        for number, preset in enumerate(spec.preset):
            if spec.controls and not spec.grid and number == 0:
                rows += [
                    TrainedRow(label, preset, image, text, is_control=True) for label in _BLIND
                ]
            label = f"{text} + {image}" if spec.grid else preset
            rows.append(TrainedRow(label, preset, image, text))
    return rows


def trainings(
    spec: VqaSpec, row: TrainedRow, *, data: str, holds_out: bool
) -> Iterator[TrainJointSpec]:
    """Yield the training of each seed of a row.

    Args:
        spec: Settings of the table.
        row: One of its rows.
        data: The dataset, as it was opened.
        holds_out: Whether a tenth of the training images chooses the epoch to keep.
    """
    overrides = spec.overrides
    # what was asked for comes last, and so counts
    if holds_out:
        overrides = (HELD_OUT, *overrides)
    if row.label in _BLIND:
        overrides = (*overrides, f"task.blind={_BLIND[row.label]}")
    for seed in range(spec.seed, spec.seed + spec.seeds):
        yield TrainJointSpec(
            home=spec.home,
            preset=row.preset,
            data=data,
            source=spec.source,
            image_encoder=row.image_encoder,
            text_encoder=row.text_encoder,
            image_features=spec.image_features,
            text_features=spec.text_features,
            objective="answers",
            seed=seed,
            overrides=overrides,
            device=spec.device,
        )


def carry_out(spec: TrainJointSpec, label: str, progress: Progress) -> Path:
    """Return the folder of the run of a training, which is made, gone on with, or there already.

    A run is called after a hash of all that decides its numbers, so that it is trained once.

    Raises:
        LightalignError: See `train.run_joint`.
    """
    resolved = train.resolved_joint(spec)
    decisive = {key: value for key, value in resolved.items() if key not in ("versions", "command")}
    name = f"vqa-{spec.preset.replace('/', '-')}-{spec.seed}-{fingerprint(decisive)[:12]}"
    folder = run_folder.runs_folder(spec.home) / name
    if is_there(folder / run_folder.REPORT):
        progress.note(f"{label}, seed {spec.seed}: run {name} is there")
        return folder
    progress.note(f"{label}, seed {spec.seed}: training run {name}")
    if is_there(folder / run_folder.SPEC):
        return train.resume(
            spec.home, name, device=spec.device, progress=progress, joint=True
        ).folder
    return train.run_joint(replace(spec, name=name), progress).folder
