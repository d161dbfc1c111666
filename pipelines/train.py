"""Train a light adapter on the features of two stores."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapters.preset import for_sides, preset_of, read_preset, with_fusion
from ..featcache.errors import SpecError
from ..featcache.known_datasets import version_of
from ..featcache.registry import unknown_name
from ..featcache.spec import Table, apply_overrides, build, check_seed, to_table, without_none
from ..featcache.types import Modality
from . import runs
from .environment import library_versions
from .launch import Launch
from .logs import require_tensorboard
from .mixup import MixupOptions
from .progress import SILENT, Progress
from .record import command_of, describe_encoders, describe_pair
from .same_text import NEGATIVE, SAME_TEXT
from .stores import (
    SideQuery,
    StorePair,
    StoreQuery,
    WantedData,
    choose_sides,
    evaluation_query,
    newest_pair,
    recorded_pair,
    require_pair,
)

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
_HOLDOUT = 0.1  # share of the training images that validate where there is no split for it
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
    """Hold the `[train]` table of a preset.

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
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
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


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Say what to train.

    Attributes:
        home: Folder of everything lightalign keeps.
        preset: Name of a preset, or None for that of `preset_of`.
        fusion: Fusion to put into the preset, or None for the preset's own.
        data: `NAME` of a dataset, or None, for the newest stores; `NAME=PATH` for those of the
            dataset as it is there now.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        image_encoder: Name of the image encoder's card, or None for the newest stores.
        text_encoder: Name of the text encoder's card, or None for the newest stores.
        second_text_encoder: Name of the second text encoder's card, to align two text encoders by
            the texts of each image; or None, to align images and texts.
        image_features: What was kept of the images' tokens, or None for the newest stores.
        text_features: What was kept of the texts' tokens, or None for the newest stores.
        second_text_features: What was kept of them by the second text encoder, in the same way.
        seed: Seed of initialisation, order and dropout.
        overrides: `a.b=c` on the preset's tables.
        device: `auto`, `cpu` or `cuda`.
        name: Name of the run, or None for an automatic one.
        tensorboard: Whether to log for TensorBoard, too.
    """

    home: Path
    preset: str | None = None
    fusion: str | None = None
    data: str | None = None
    source: Mapping[str, Any] | None = None
    image_encoder: str | None = None
    text_encoder: str | None = None
    second_text_encoder: str | None = None
    image_features: str | None = None
    text_features: str | None = None
    second_text_features: str | None = None
    seed: int = 0
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    name: str | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """Say what one training did.

    Attributes:
        folder: The run folder.
        report: Content of its `report.json`.
    """

    folder: Path
    report: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """Hold a resolved training: nothing in it is a default any more.

    Attributes:
        table: Preset with fusion and overrides applied: `towers`, `objective`, `train`.
        options: Its `[train]` table.
        stores: Stores to train on.
        validation: Stores to validate on, or None.
        holdout: Share of the training images to validate on, or 0.
    """

    table: Table
    options: TrainOptions
    stores: StorePair
    validation: StorePair | None
    holdout: float


def run(spec: TrainSpec, progress: Progress = SILENT) -> TrainReport:
    """Train an adapter and write its run folder.

    Raises:
        LightalignError: The preset, the stores or the loss are not usable.
    """
    if Launch.of_environment().is_first:
        runs.check_name(spec.home, spec.name)
    plan = resolve(spec, progress)
    label = spec.fusion or preset_of(spec.preset, spec.fusion).replace("/", "-")
    resolved = _resolved(spec, plan)
    from .fitting import fit  # imports torch; a mistake is reported without it

    return fit(
        spec,
        plan,
        lambda: runs.new_run(spec.home, spec.name, label, spec=resolved),
        resolved,
        progress,
    )


def resume(home: Path, run: str, *, device: str, progress: Progress = SILENT) -> TrainReport:
    """Go on with a training that was stopped, after its last whole epoch.

    On a CPU its weights end with the same bytes as if it had never been stopped.

    Args:
        home: Folder of everything lightalign keeps.
        run: Name or folder of the run.
        device: `auto`, `cpu` or `cuda`.
        progress: Receives notes and the progress.

    Raises:
        RunNotFoundError: There is no such run, or it has finished.
        RunInUseError: Another process trains it.
        StoreNotFoundError: A store that it is trained on is no longer there.
        SpecError: It cannot go on, or not in this number of processes.
    """
    folder = runs.find_unfinished(home, run)
    launch = Launch.of_environment()
    with runs.owning(folder) if launch.is_first else nullcontext(folder):
        runs.find_unfinished(home, str(folder))  # it may have finished before it was locked
        table = runs.read_spec(folder)
        count = table.setdefault("processes", 1)  # earlier versions had one and did not say so
        if count != launch.count:
            raise SpecError(
                f"{folder} was begun by {count} processes, these are {launch.count}: go on with "
                f"torchrun and {count} processes, or in one process if that is 1"
            )
        spec, plan = _as_begun(table, folder, home=home, device=device, progress=progress)
        from .fitting import fit

        return fit(spec, plan, lambda: nullcontext(folder), table, progress, is_begun=True)


def _as_begun(
    table: Table, folder: Path, *, home: Path, device: str, progress: Progress
) -> tuple[TrainSpec, TrainPlan]:
    """Return what a run was asked for and what that meant then, as its `run.toml` says.

    Raises:
        SpecError: The table is not that of a training.
        StoreNotFoundError: A store that it is trained on is not there.
    """
    where = str(folder / runs.SPEC)
    missing = {"command", "towers", "objective", "train", "stores"} - set(table)
    if missing or "protocol" in table:
        reason = "it is a fine-tuning" if not missing else f"{where} lacks {sorted(missing)}"
        raise SpecError(
            f"run {folder.name} cannot go on, {reason}: remove it by `{runs.removal(folder)}`"
        )
    command = {**table["command"], "home": str(home), "device": device}
    spec = build(TrainSpec, command, where=f"{where} [command]")
    options = build(TrainOptions, table["train"], where=f"{where} [train]")
    encoders = table.get("encoders", {})
    recorded = table["stores"]
    stores = recorded_pair(home, recorded["train"], run=folder.name, encoders=encoders)
    validation, holdout = None, 0.0
    if "validation" in recorded:
        validation = recorded_pair(home, recorded["validation"], run=folder.name, encoders=encoders)
    elif options.validation != "none":
        holdout = _HOLDOUT if isinstance(options.validation, str) else options.validation
    parts = {key: value for key, value in table.items() if key in PRESET_KEYS}
    progress.note(f"training on {stores.dataset}/{stores.split}, as it was begun")
    plan = TrainPlan(
        table=parts, options=options, stores=stores, validation=validation, holdout=holdout
    )
    return spec, plan


def _resolved(spec: TrainSpec, plan: TrainPlan) -> Table:
    """Return the run's spec, in which nothing is a default any more, as `run.toml` gives it back.

    So the report of a training that was stopped is the same as that of one that was not.
    """
    table = {
        **{key: value for key, value in plan.table.items() if key != "train"},
        "preset": preset_of(spec.preset, spec.fusion),
        "seed": spec.seed,
        "processes": Launch.of_environment().count,
        "command": command_of(spec),
        "train": to_table(plan.options),
        "stores": _describe_stores(plan),
        "splits": _all_splits(plan.stores, spec.home),
        "encoders": describe_encoders(plan.stores),
        "versions": library_versions(),
    }
    return without_none(table)


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


def resolve(spec: TrainSpec, progress: Progress = SILENT) -> TrainPlan:
    """Find out what `spec` means here and now, without training anything.

    Raises:
        SpecError: A preset, override or option is wrong.
        UnknownNameError: There is no such preset, fusion or part.
        StoreNotFoundError: No two stores match.
        MissingExtraError: A package that an option needs is not installed.
    """
    if spec.tensorboard:
        require_tensorboard()
    by_side = choose_sides(
        image=SideQuery.of(spec.image_encoder, kind=spec.image_features),
        text=SideQuery.of(spec.text_encoder, kind=spec.text_features),
        second_text=SideQuery.of(spec.second_text_encoder, kind=spec.second_text_features),
        home=spec.home,
    )
    text_text = Modality.IMAGE not in by_side
    table, options = resolve_preset(spec.preset, spec.fusion, spec.overrides, text_text=text_text)
    wanted = WantedData.of(spec.data, home=spec.home, options=spec.source)
    stores = require_pair(spec.home, StoreQuery.of(wanted, "train", by_side), progress)
    encoders = [
        f"{side.label}s by {entry.description.encoder} ({entry.description.what})"
        for side, entry in stores.entries.items()
    ]
    progress.note(f"training on {stores.dataset}/{stores.split}: {', '.join(encoders)}")
    validation, holdout = _choose_validation(
        spec.home, stores, wanted, options.validation, progress
    )
    return TrainPlan(
        table=table, options=options, stores=stores, validation=validation, holdout=holdout
    )


def _choose_validation(
    home: Path, stores: StorePair, wanted: WantedData, asked: str | float, progress: Progress
) -> tuple[StorePair | None, float]:
    if wanted.opened is None:  # the newest of a name may be other data by now
        wanted = WantedData.of_trained(None, describe_pair(stores), home=home, options=None)
    if asked == "none":
        progress.note("validation: none, the last epoch is kept")
        return None, 0.0
    if isinstance(asked, float):
        return None, asked
    if asked != "auto":
        return require_pair(home, evaluation_query(stores, asked, wanted), progress), 0.0
    pair = None
    if wanted.has_split("val"):
        pair = newest_pair(home, evaluation_query(stores, "val", wanted), progress)
    if pair is None:
        progress.note("validation: no stores of a split 'val', so 10 % of the training images")
        return None, _HOLDOUT
    return pair, 0.0


def _all_splits(stores: StorePair, home: Path) -> Table:
    """Return the fingerprint of every split of the data, where the home remembers them."""
    version = version_of(home, stores.dataset, stores.split, stores.source)
    return {} if version is None else dict(version.splits)


def _describe_stores(plan: TrainPlan) -> Table:
    described = {"train": describe_pair(plan.stores)}
    if plan.validation is not None:
        described["validation"] = describe_pair(plan.validation)
    return described
