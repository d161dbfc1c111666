"""Train a light adapter on the features of two stores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..adapters.preset import read_preset, with_fusion
from ..featcache import files
from ..featcache.backends import resolve_device
from ..featcache.errors import SpecError
from ..featcache.registry import unknown_name
from ..featcache.spec import Table, apply_overrides, build, to_table, write_toml
from . import runs
from .environment import library_versions
from .progress import SILENT, Progress
from .stores import StorePair, StoreQuery, WantedData, newest_pair, require_pair

DEFAULT_PRESET = "lightalign/base"
PRESET_KEYS = frozenset({"title", "source", "towers", "objective", "train"})


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Hold the `[train]` table of a preset.

    Attributes:
        batch_size: Images per step; their texts come with them.
        epochs: Passes over the images.
        learning_rate: Highest learning rate of AdamW.
        weight_decay: Decoupled weight decay of weight matrices.
        warmup: Share of the steps over which the learning rate rises, in [0, 1).
        captions: `all` texts of each image in each step, or `one` drawn at random.
        precision: `float32`, `bfloat16`, or `auto` for bfloat16 where the device is fast at it.
        gradient_clip: Largest norm of all gradients together.
        validation: `auto`, the name of a split, a share of the training images such as `0.1`, or
            `none`; `auto` is the split `val` where its stores are there, else `0.1`.
        residency: Where the features are meanwhile: `device`, `host`, `disk`, or `auto` by size.
    """

    batch_size: int = 256
    epochs: int = 15
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    captions: str = "all"
    precision: str = "auto"
    gradient_clip: float = 1.0
    validation: str | float = "auto"
    residency: str = "auto"

    def __post_init__(self) -> None:
        if self.captions not in {"all", "one"}:
            raise unknown_name("captions", self.captions, ["all", "one"])
        if self.precision not in {"auto", "float32", "bfloat16"}:
            raise unknown_name("precision", self.precision, ["auto", "float32", "bfloat16"])
        if self.batch_size < 2 or self.epochs < 1:
            raise SpecError(
                "[train] needs batch_size >= 2 (one image has no negatives) and epochs >= 1, "
                f"found {self.batch_size} and {self.epochs}"
            )
        if self.learning_rate <= 0 or self.gradient_clip <= 0 or self.weight_decay < 0:
            raise SpecError(
                "[train] needs learning_rate > 0, gradient_clip > 0 and weight_decay >= 0, found "
                f"{self.learning_rate}, {self.gradient_clip} and {self.weight_decay}"
            )
        if not 0 <= self.warmup < 1:
            raise SpecError(f"[train] warmup is a share in [0, 1), found {self.warmup}")
        if isinstance(self.validation, float) and not 0 < self.validation < 1:
            raise SpecError(f"[train] validation is a share in (0, 1), found {self.validation}")


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Say what to train.

    Attributes:
        home: Folder of everything lightalign keeps.
        preset: Name of a preset.
        fusion: Fusion to put into the preset, or None for the preset's own.
        data: `NAME` of a dataset, or None, for the newest stores; `NAME=PATH` for those of the
            dataset as it is there now.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        image_encoder: Name of the image encoder's card, or None for the newest stores.
        text_encoder: Name of the text encoder's card, or None for the newest stores.
        image_features: What was kept of the images' tokens, or None for the newest stores.
        text_features: What was kept of the texts' tokens, or None for the newest stores.
        seed: Seed of initialisation, order and dropout.
        overrides: `a.b=c` on the preset's tables.
        device: `auto`, `cpu` or `cuda`.
        name: Name of the run, or None for an automatic one.
    """

    home: Path
    preset: str = DEFAULT_PRESET
    fusion: str | None = None
    data: str | None = None
    source: Mapping[str, Any] | None = None
    image_encoder: str | None = None
    text_encoder: str | None = None
    image_features: str | None = None
    text_features: str | None = None
    seed: int = 0
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    name: str | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SpecError(f"a seed is at least 0, found {self.seed}")


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
    plan = resolve(spec, progress)
    from .loop import Trainer  # imports torch; a mistake in the spec is reported without it

    device = resolve_device(spec.device)
    trainer = Trainer(plan, home=spec.home, seed=spec.seed, device=device)
    label = spec.fusion or spec.preset.replace("/", "-")
    folder = runs.new_run(spec.home, spec.name, label)
    resolved = {
        **{key: value for key, value in plan.table.items() if key != "train"},
        "preset": spec.preset,
        "seed": spec.seed,
        "train": to_table(plan.options),
        "stores": _describe_stores(plan),
        "versions": library_versions(),
    }
    write_toml(folder / runs.SPEC, resolved)
    report = trainer.fit(folder, progress)
    report = {"kind": "train", **report, "spec": resolved}
    files.write_json(folder / runs.REPORT, report)
    return TrainReport(folder=folder, report=report)


def resolve(spec: TrainSpec, progress: Progress = SILENT) -> TrainPlan:
    """Find out what `spec` means here and now, without training anything.

    Raises:
        SpecError: A preset, override or option is wrong.
        UnknownNameError: There is no such preset, fusion or part.
        StoreNotFoundError: No two stores match.
    """
    table = read_preset(spec.preset)
    if spec.fusion is not None:
        table = with_fusion(table, spec.fusion)
    table = apply_overrides(table, spec.overrides)
    unknown = sorted(set(table) - PRESET_KEYS)
    if unknown:
        raise SpecError(f"a preset has no {unknown[0]!r}; known: {sorted(PRESET_KEYS)}")
    for name in ("towers", "objective"):
        if not isinstance(table.get(name), Mapping):
            raise SpecError(f"[{name}] must be a table, found {table.get(name)!r}")
    options = build(TrainOptions, table.get("train", {}), where="[train]")
    wanted = WantedData.of(spec.data, home=spec.home, options=spec.source)
    query = StoreQuery(
        split="train",
        dataset=wanted.name,
        source=wanted.fingerprint("train"),
        image_encoder=spec.image_encoder,
        text_encoder=spec.text_encoder,
        image_kind=spec.image_features,
        text_kind=spec.text_features,
    )
    stores = require_pair(spec.home, query, progress)
    progress.note(
        f"training on {stores.dataset}/{stores.split}: "
        f"images by {stores.image.description.encoder}, texts by {stores.text.description.encoder}"
    )
    validation, holdout = _choose_validation(
        spec.home, stores, wanted, options.validation, progress
    )
    return TrainPlan(
        table=table, options=options, stores=stores, validation=validation, holdout=holdout
    )


def evaluation_query(stores: StorePair, split: str, wanted: WantedData) -> StoreQuery:
    """Return the query for another split with the same dataset and the same encoders."""
    return StoreQuery(
        split=split,
        dataset=stores.dataset,
        source=wanted.fingerprint(split),
        image_encoder=stores.image.description.encoder,
        text_encoder=stores.text.description.encoder,
        image_key=stores.image.encoder_key,
        text_key=stores.text.encoder_key,
    )


def _choose_validation(
    home: Path, stores: StorePair, wanted: WantedData, asked: str | float, progress: Progress
) -> tuple[StorePair | None, float]:
    if asked == "none":
        progress.note("validation: none, the last epoch is kept")
        return None, 0.0
    if isinstance(asked, float):
        return None, asked
    if asked != "auto":
        return require_pair(home, evaluation_query(stores, asked, wanted), progress), 0.0
    pair = None
    if wanted.opened is None or "val" in wanted.opened.splits():
        pair = newest_pair(home, evaluation_query(stores, "val", wanted), progress)
    if pair is None:
        progress.note("validation: no stores of a split 'val', so 10 % of the training images")
        return None, 0.1
    return pair, 0.0


def _describe_stores(plan: TrainPlan) -> Table:
    described = {"train": _describe_pair(plan.stores)}
    if plan.validation is not None:
        described["validation"] = _describe_pair(plan.validation)
    return described


def _describe_pair(pair: StorePair) -> Table:
    return {
        "dataset": pair.dataset,
        "split": pair.split,
        "source": pair.source,
        **{
            modality: {
                "encoder": entry.description.encoder,
                "kind": entry.description.kind,
                "layer": entry.description.layer,
                "dtype": entry.description.dtype,
                "encoder_key": entry.encoder_key,
                "key": entry.key,
                "width": entry.description.width,
            }
            for modality, entry in (("image", pair.image), ("text", pair.text))
        },
    }
