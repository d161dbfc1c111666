"""Resolve the settings of a training to a plan: its preset, its stores, its validation."""

from pathlib import Path

from ...featcache.types import Modality
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import (
    DatasetQuery,
    SideQuery,
    StorePair,
    StoreQuery,
    choose_sides,
    evaluation_query,
    newest_pair,
    require_pair,
)
from ..runs.provenance import describe_pair
from .log import require_tensorboard
from .options import TrainPlan, resolve_preset
from .spec import TrainSpec
from .tasks import task_of

HOLDOUT = 0.1  # share of the training images that validate where there is no split for it


def resolve(spec: TrainSpec, progress: Progress = SILENT) -> TrainPlan:
    """Resolve `spec` to a plan, without training anything.

    Raises:
        SpecError: A preset, override or option is wrong.
        UnknownNameError: There is no such preset, fusion, part or task.
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
    first, second = by_side
    task_of(table).check_sides((first, second))
    wanted = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
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
    home: Path, stores: StorePair, wanted: DatasetQuery, asked: str | float, progress: Progress
) -> tuple[StorePair | None, float]:
    # the newest stores of a name may be of other data by now
    if wanted.opened is None:
        wanted = DatasetQuery.of_trained(None, describe_pair(stores), home=home, options=None)
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
        return None, HOLDOUT
    return pair, 0.0
