"""The `[train]` table of a preset: each option, what fits it, and what it is by default."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...adapters.preset import for_sides, preset_of, read_preset, with_fusion
from ...featcache.config import Table, apply_overrides, build
from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from ..inputs.same_text import NEGATIVE, SAME_TEXT
from .mixup import MixupOptions

PRESET_KEYS = frozenset(
    {"title", "source", "check", "towers", "objective", "train", "fit", "start"}
)
# option: (what fits, in words)
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "batch_size": (lambda value: value >= 2, "at least 2 (one image has no negatives)"),
    "epochs": (lambda value: value >= 1, "at least 1"),
    "learning_rate": (lambda value: value > 0, "above 0"),
    "gradient_clip": (lambda value: value >= 0, "at least 0"),
    "weight_decay": (lambda value: value >= 0, "at least 0"),
    "warmup": (lambda value: 0 <= value < 1, "a share in [0, 1)"),
    "validation": (lambda value: 0 < value < 1, "a share in (0, 1), a split, auto or none"),
    "plateau_patience": (lambda value: value >= 0, "at least 0"),
    "plateau_factor": (lambda value: 0 < value < 1, "in (0, 1)"),
    "chunk_size": (lambda value: value >= 0, "at least 0"),
    "accumulate": (lambda value: value >= 1, "at least 1"),
    "ema": (lambda value: 0 <= value < 1, "a decay in [0, 1)"),
    "early_stopping": (lambda value: value >= 0, "at least 0"),
    "early_stopping_from": (lambda value: value >= 1, "at least 1"),
    "plateau_threshold": (lambda value: 0 <= value < 1, "a share in [0, 1)"),
    "steps": (lambda value: value >= 0, "at least 0"),
    "warmup_steps": (lambda value: value >= 0, "at least 0"),
    "first_rate": (lambda value: value >= 0, "at least 0"),
    "last_rate": (lambda value: value >= 0, "at least 0"),
    "queue": (lambda value: value >= 0, "at least 0"),
}
_CHOICES = {
    "captions": ("all", "one", "each"),
    "same_image": ("positive", "negative"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "optimiser": ("adamw", "adam", "lion"),
    "schedule": ("cosine", "cosine-epochs", "constant", "plateau"),
    "select_by": ("recall", "loss"),
    "same_text": SAME_TEXT,
}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of the `[train]` table of a preset.

    Attributes:
        batch_size: Images per step; their texts come with them. With captions = 'each', captions.
        epochs: Passes over the images; with captions = 'each', over the captions.
        steps: Steps in all, in the place of epochs, the last of which may be cut short; or 0.
        drop_last: Whether what is left over after whole batches, and after whole steps of
            accumulated ones, is left out of an epoch.
        optimiser: `adamw`, `adam` (whose decay is added to the gradient) or `lion`.
        learning_rate: Highest learning rate.
        weight_decay: Weight decay of weight matrices.
        schedule: Of the learning rate after its rise: `cosine` down to 0, `cosine-epochs` down to
            `last_rate` by epochs, `constant`, or `plateau`, which lowers it where the validation
            loss has not fallen for some epochs.
        warmup: Share of the steps over which the learning rate rises, in [0, 1).
        warmup_steps: Steps over which it rises with `cosine-epochs`, within the first epoch.
        first_rate: Where it rises from with `cosine-epochs`.
        last_rate: What it falls to with `cosine-epochs`.
        plateau_patience: Epochs in a row that may bring no lower loss before it is lowered.
        plateau_factor: What it is multiplied by then, in (0, 1).
        plateau_threshold: Share of the lowest loss that a loss must be below it to be a lower one.
        captions: What an epoch counts: images, with `all` texts of each or `one` drawn at random;
            or captions, with `each` as a row of its own, for which its image comes once more.
        same_image: With captions = 'each', whether captions of one image that meet in a batch are
            `positive` for it, or, as published systems have it, `negative` but for its own row's.
        precision: `float32`, `bfloat16`, `float16` (with a scaled loss), or `auto` for bfloat16
            where the device is fast at it.
        decay_all: Whether biases, norms and the scale are decayed, too, as published systems do.
        gradient_clip: Largest norm of all gradients together, or 0 for no limit.
        chunk_size: Rows whose graph is in memory at once, the gradient staying that of the whole
            batch (GradCache), or 0 for all rows.
        accumulate: Batches whose gradients one step adds up. It makes steps larger, but each loss
            still has the negatives of its own batch only: for more of those, raise `batch_size`
            and set `chunk_size`.
        ema: Decay of a moving average of the weights, which is validated and kept, or 0 for none.
        select_by: What the kept epoch has the best of on the validation images: `recall` (the sum
            of R@1, 5 and 10 both ways) or `loss`.
        early_stopping: Epochs in a row without a better one after which training ends, or 0.
        early_stopping_from: First epoch, from 1, that counts as one of those.
        deterministic: Whether to allow operations of one result only; on a GPU the others are
            faster.
        validation: `auto`, the name of a split, a share of the training images such as `0.1`, or
            `none`; `auto` is the split `val` where its stores are there, else `0.1`.
        residency: Where the features are meanwhile: `device`, `host`, `disk`, or `auto` by size.
        queue: Images, and as many texts, of earlier batches that are further negatives, or 0.
        mixup: Whether and how items of a batch are mixed before they are embedded.
        same_text: Whether texts that say the same under several ids are `negative` for one
            another's images, as published systems have them, or `positive`, or all but the first
            are `drop`ped.
    """

    batch_size: int = 256
    epochs: int = 15
    steps: int = 0
    drop_last: bool = False
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup: float = 0.1
    warmup_steps: int = 0
    first_rate: float = 0.0
    last_rate: float = 0.0
    plateau_patience: int = 5
    plateau_factor: float = 0.8
    plateau_threshold: float = 0.0
    captions: str = "all"
    same_image: str = "positive"
    precision: str = "auto"
    decay_all: bool = False
    gradient_clip: float = 1.0
    chunk_size: int = 0
    accumulate: int = 1
    ema: float = 0.0
    select_by: str = "recall"
    early_stopping: int = 0
    early_stopping_from: int = 1
    deterministic: bool = False
    validation: str | float = "auto"
    residency: str = "auto"
    queue: int = 0
    mixup: MixupOptions = field(default_factory=MixupOptions)
    same_text: str = NEGATIVE

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), choices)
        self._check_numbers()
        if self.queue and self.mixup.alpha:
            raise SpecError("[train] queue and mixup do not go together: a mixture has two owners")
        if self.validation == "none" and (
            self.schedule == "plateau" or self.early_stopping or self.select_by != "recall"
        ):
            raise SpecError(
                "[train] schedule = 'plateau', early_stopping and select_by need a validation, "
                "found validation = 'none'"
            )

    def _check_numbers(self) -> None:
        for name, (fits, range_) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, str) and not fits(value):
                raise SpecError(f"[train] {name} must be {range_}, found {value}")


def resolve_preset(
    preset: str | None, fusion: str | None, overrides: Sequence[str], *, text_text: bool = False
) -> tuple[Table, TrainOptions]:
    """Return a preset with a fusion put in and values changed, and its `[train]` table.

    With `text_text` it is the preset as it is between two text encoders. An override of
    `objective.part` leaves the preset's options of another objective out.

    Raises:
        SpecError: An override or option is wrong.
        UnknownNameError: There is no such preset or fusion.
    """
    table = for_sides(read_preset(preset_of(preset, fusion)), text_text=text_text)
    if fusion is not None:
        table = with_fusion(table, fusion)
    if any(override.replace(" ", "").startswith("objective.part=") for override in overrides):
        table = {**table, "objective": {}}  # options are those of a part
    table = apply_overrides(table, overrides)
    unknown = sorted(set(table) - PRESET_KEYS)
    if unknown:
        raise SpecError(f"a preset has no {unknown[0]!r}; known: {sorted(PRESET_KEYS)}")
    for name in ("towers", "objective", *({"fit", "start"} & set(table))):
        if not isinstance(table.get(name), Mapping):
            raise SpecError(f"[{name}] must be a table, found {table.get(name)!r}")
    if {"fit", "start"} <= set(table):
        raise SpecError(
            "[fit] is a training in closed form, without a first step that [start] precedes"
        )
    return table, build(TrainOptions, table.get("train", {}), where="[train]")
