"""The `[train]` table of a preset: each option, what fits it, and what it is by default."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from ...adapters.preset import (
    JOINT,
    for_sides,
    kind_of,
    preset_of,
    read_preset,
    with_fusion,
    with_places,
)
from ...featcache.config import Table, apply_overrides, build, check_set_keys, to_table
from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ...featcache.types import IMAGE_TEXT, Sides
from ..inputs.same_text import NEGATIVE, SAME_TEXT
from ..inputs.store_selection import StorePair
from ..inputs.unpaired_stores import UnpairedStores
from .distil_options import DISTIL, DistilOptions
from .mixup import MixupOptions
from .unpaired_options import UNPAIRED, UnpairedOptions

PRESET_KEYS = frozenset(
    {
        *("title", "source", "check", "task", "towers", "objective", "train", "fit", "start"),
        *("finish", UNPAIRED, DISTIL),
    }
)
_SCHEDULES = ("cosine", "cosine-epochs", "linear", "constant", "plateau")
_PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of the `[train]` table of a preset.

    Attributes:
        batch_size: With captions = 'each', captions in place of images.
        epochs: With captions = 'each', over the captions.
        drop_last: What is left over after whole batches, and after whole steps of accumulated ones.
        optimiser: The decay of `adam` is added to the gradient.
        schedule: After the rise of the rate: `cosine` or `linear` down to 0, `cosine-epochs` down
            to `last_rate` by epochs, `constant`, or `plateau`, which lowers it where the validation
            loss has not fallen for some epochs.
        plateau_threshold: Share of the lowest loss that a loss must be below it to be a lower one.
        captions: What an epoch counts: images, with `all` texts of each or `one` drawn at random;
            or captions, with `each` as a row of its own, for which its image comes once more.
        same_image: With captions = 'each', whether captions of one image that meet in a batch are
            `positive` for it, or, as published systems have it, `negative` but for its own row's.
        precision: `float32`, `bfloat16`, `float16` (with a scaled loss), or `auto` for bfloat16
            where the device is fast at it.
        decay_all: As published systems do.
        chunk_size: The gradient stays that of the whole batch (GradCache).
        accumulate: It makes steps larger, but each loss still has the negatives of its own batch
            only: for more of those, raise `batch_size` and set `chunk_size`.
        ema: The averaged weights are validated and kept.
        select_by: `recall` is what the task of the preset is best in: of retrieval the sum of R@1,
            5 and 10 both ways.
        deterministic: On a GPU the other operations are faster.
        validation: `auto` is the split `val` where its stores are there, else `0.1`.
        queue: As many texts are kept, too.
        same_text: Texts that say the same under several ids are `negative` for one another's
            images, as published systems have them, or `positive`, or all but the first are
            `drop`ped.
    """

    batch_size: Annotated[
        int,
        Setting(
            "Images per step; their texts come with them.",
            least=2,
            fits="at least 2 (one image has no negatives)",
        ),
    ] = 256
    epochs: Annotated[int, Setting("Passes over the images.", least=1)] = 15
    steps: Annotated[
        int,
        Setting("Steps in all, in the place of epochs, the last cut short; 0: epochs.", least=0),
    ] = 0
    drop_last: Annotated[bool, Setting("Leave out what is no whole batch or step.")] = False
    optimiser: Annotated[str, Setting("Optimiser.", choices=("adamw", "adam", "lion"))] = "adamw"
    learning_rate: Annotated[float, Setting("Highest learning rate.", above=0)] = 1e-3
    weight_decay: Annotated[float, Setting("Weight decay of weight matrices.", least=0)] = 0.05
    schedule: Annotated[str, Setting("Of the rate after its rise.", choices=_SCHEDULES)] = "cosine"
    warmup: Annotated[
        float,
        Setting(
            "Share of the steps over which the rate rises.", least=0, below=1, called="a share"
        ),
    ] = 0.1
    warmup_steps: Annotated[
        int, Setting("Steps of the first epoch over which cosine-epochs rises.", least=0)
    ] = 0
    first_rate: Annotated[float, Setting("Rate that cosine-epochs rises from.", least=0)] = 0.0
    last_rate: Annotated[float, Setting("Rate that cosine-epochs falls to.", least=0)] = 0.0
    plateau_patience: Annotated[
        int, Setting("Epochs in a row without a lower loss before plateau lowers.", least=0)
    ] = 5
    plateau_factor: Annotated[
        float, Setting("Factor by which plateau lowers the rate.", above=0, below=1)
    ] = 0.8
    plateau_threshold: Annotated[
        float,
        Setting("Share by which a lower loss must be lower.", least=0, below=1, called="a share"),
    ] = 0.0
    captions: Annotated[
        str, Setting("Of an image in an epoch.", choices=("all", "one", "each"))
    ] = "all"
    same_image: Annotated[
        str,
        Setting("Other captions of an image, if each is a row.", choices=("positive", "negative")),
    ] = "positive"
    precision: Annotated[str, Setting("Of matrix products.", choices=_PRECISIONS)] = "auto"
    decay_all: Annotated[bool, Setting("Decay biases, norms and the scale, too.")] = False
    gradient_clip: Annotated[
        float, Setting("Largest norm of all gradients together; 0: no limit.", least=0)
    ] = 1.0
    chunk_size: Annotated[
        int, Setting("Rows whose graph is in memory at once; 0: all.", least=0)
    ] = 0
    accumulate: Annotated[int, Setting("Batches whose gradients one step adds up.", least=1)] = 1
    ema: Annotated[
        float,
        Setting(
            "Decay of a moving average of the weights; 0: none.", least=0, below=1, called="a decay"
        ),
    ] = 0.0
    select_by: Annotated[
        str, Setting("What the kept epoch is best in.", choices=("recall", "loss"))
    ] = "recall"
    early_stopping: Annotated[
        int, Setting("Epochs in a row without a better one that end it; 0: none.", least=0)
    ] = 0
    early_stopping_from: Annotated[
        int, Setting("First epoch that counts as one of those.", least=1)
    ] = 1
    deterministic: Annotated[bool, Setting("Allow operations of one result only.")] = False
    validation: Annotated[
        str | float,
        Setting(
            "auto, a split, a share of the training images such as 0.1, or none.",
            above=0,
            below=1,
            fits="a share in (0, 1), a split, auto or none",
        ),
    ] = "auto"
    residency: Annotated[
        str, Setting("Where the features are: auto (by size), device, host or disk.")
    ] = "auto"
    queue: Annotated[
        int, Setting("Images of earlier batches that are further negatives.", least=0)
    ] = 0
    mixup: MixupOptions = field(default_factory=MixupOptions)
    same_text: Annotated[str, Setting("Texts that say the same.", choices=SAME_TEXT)] = NEGATIVE

    def __post_init__(self) -> None:
        check_settings(self, where="[train] ")
        if self.queue and self.mixup.alpha:
            raise SpecError("[train] queue and mixup do not go together: a mixture has two owners")
        if self.validation == "none" and (
            self.schedule == "plateau" or self.early_stopping or self.select_by != "recall"
        ):
            raise SpecError(
                "[train] schedule = 'plateau', early_stopping and select_by need a validation, "
                "found validation = 'none'"
            )


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """Resolved settings of one training: nothing in it is a default any more.

    Attributes:
        table: Preset with fusion and overrides applied: `towers`, `objective`, `train`; `task` of
            another task than retrieval; `unpaired` with all that it says by default.
        options: Its `[train]` table.
        stores: Stores to train on.
        validation: Stores to validate on, or None.
        holdout: Share of the training images to validate on, or 0.
        unpaired: Stores of items without a partner to learn from, too, or None.
        auto_layers: Which layers were chosen, and by what, where that was asked for.
        holdout_seed: Seed that draws them, or None for that of the training.
    """

    table: Table
    options: TrainOptions
    stores: StorePair
    validation: StorePair | None
    holdout: float
    unpaired: UnpairedStores | None = None
    auto_layers: Table | None = None
    holdout_seed: int | None = None


def resolve_preset(
    preset: str | None,
    fusion: str | None,
    overrides: Sequence[str],
    *,
    sides: Sides = IMAGE_TEXT,
) -> tuple[Table, TrainOptions]:
    """Return a preset with a fusion put in and values changed, and its `[train]` table.

    It is the preset as it is between these sides. An override of `objective.part` leaves the
    preset's options of another objective out, and so does one of `unpaired.teacher.part`.

    Raises:
        SpecError: An override or option is wrong, or the preset is of a joint adapter.
        UnknownNameError: There is no such preset or fusion.
    """
    table = for_sides(_read_dual(preset_of(preset, fusion)), sides)
    if fusion is not None:
        table = with_fusion(table, fusion)
    table = _without_other_parts(table, overrides)
    _check_steps(table["towers"], overrides)
    table = apply_overrides(table, overrides)
    unknown = sorted(set(table) - PRESET_KEYS)
    if unknown:
        raise SpecError(f"a preset has no {unknown[0]!r}; known: {sorted(PRESET_KEYS)}")
    for name in ("towers", "objective", *({"fit", "start", "finish", "task"} & set(table))):
        if not isinstance(table.get(name), Mapping):
            raise SpecError(f"[{name}] must be a table, found {table.get(name)!r}")
    if {"fit", "start"} <= set(table):
        raise SpecError(
            "[fit] is a training in closed form, without a first step that [start] precedes"
        )
    for name, options in ((UNPAIRED, UnpairedOptions), (DISTIL, DistilOptions)):
        if name in table:
            table = {**table, name: to_table(build(options, table[name], where=f"[{name}]"))}
    return with_places(table, sides), build(TrainOptions, table.get("train", {}), where="[train]")


def _read_dual(name: str) -> Table:
    """Return a preset whose adapter embeds each side alone."""
    preset = read_preset(name)
    if kind_of(preset, where=f"preset {name!r}") == JOINT:
        raise SpecError(
            f"preset {name!r} is of a joint adapter, which reads items of both sides together: "
            f"lightalign train-joint --preset {name}"
        )
    return preset


def _without_other_parts(table: Table, overrides: Sequence[str]) -> Table:
    """Return a preset without the options of parts in whose place others are asked for."""
    keys = {override.partition("=")[0].strip() for override in overrides}
    if "objective.part" in keys:
        table = {**table, "objective": {}}
    if f"{UNPAIRED}.teacher.part" in keys:
        table = {**table, UNPAIRED: {**table.get(UNPAIRED, {}), "teacher": {}}}
    return table


def _check_steps(towers: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse options of a step that the towers have not, unless one of these gives its part."""
    keys = [override.partition("=")[0].strip() for override in overrides]
    options = [f"towers.{side}.{step}.OPTION" for side, steps in towers.items() for step in steps]
    options += [f"{key.removesuffix('.part')}.OPTION" for key in keys if key.endswith(".part")]
    of_steps = [each for each in overrides if re.match(r"\s*towers(\.[^.=]+){3}", each)]
    check_set_keys(of_steps, options)
