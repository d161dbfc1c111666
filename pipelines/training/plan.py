"""Resolve the settings of a training to a plan: its preset, its stores, its validation."""

from pathlib import Path

from ...adapters.preset import for_streams, preset_of
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
    sides_asked,
    stream_queries,
)
from ..runs.provenance import describe_pair
from .log import require_tensorboard
from .options import TrainPlan, resolve_preset
from .spec import TrainSpec

HOLDOUT = 0.1  # share of the training images that validate where there is no split for it


def resolve(spec: TrainSpec, progress: Progress = SILENT) -> TrainPlan:
    """Resolve `spec` to a plan, without training anything.

    Raises:
        SpecError: A preset, override or option is wrong.
        UnknownNameError: There is no such preset, fusion or part.
        StoreNotFoundError: No two stores match.
        MissingExtraError: A package that an option needs is not installed.
    """
    if spec.tensorboard:
        require_tensorboard()
    image, text, second_text = (_streams(spec, side) for side in ("image", "text", "second_text"))
    others = {side: _streams(spec, side) for side in spec.further_sides}
    by_side = choose_sides(
        image=image, text=text, second_text=second_text, others=others, home=spec.home
    )
    sides = sides_asked(by_side)
    table, options = resolve_preset(spec.preset, spec.fusion, spec.overrides, sides=sides)
    data = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
    query = StoreQuery.of(data, "train", by_side)
    chosen = None
    if spec.auto_layers:
        from .auto_layers import choose_layers  # imports torch, for seconds, to read the stores

        stores, chosen = choose_layers(spec.home, query, progress)
    else:
        stores = require_pair(spec.home, query, progress)
    table = for_streams(table, stores.num_streams, name=preset_of(spec.preset, spec.fusion))
    encoders = [
        f"{side.label}s by {entry.description.encoder} ({entry.description.what})"
        for side, entries in stores.streams.items()
        for entry in entries
    ]
    progress.note(f"training on {stores.dataset}/{stores.split}: {', '.join(encoders)}")
    validation, holdout = _choose_validation(spec.home, stores, data, options.validation, progress)
    return TrainPlan(
        table=table,
        options=options,
        stores=stores,
        validation=validation,
        holdout=holdout,
        auto_layers=chosen,
    )


def _streams(spec: TrainSpec, side: str) -> list[SideQuery]:
    """Return the query for each stream of a side."""
    return stream_queries(
        side,
        spec.named(side, "encoder"),
        kinds=spec.named(side, "features"),
        layers=spec.named(side, "layers"),
    )


def _choose_validation(
    home: Path, stores: StorePair, data: DatasetQuery, asked: str | float, progress: Progress
) -> tuple[StorePair | None, float]:
    # the newest stores of a name may be of other data by now
    if data.opened is None:
        data = DatasetQuery.of_trained(None, describe_pair(stores), home=home, options=None)
    if asked == "none":
        progress.note("validation: none, the last epoch is kept")
        return None, 0.0
    if isinstance(asked, float):
        return None, asked
    if asked != "auto":
        return require_pair(home, evaluation_query(stores, asked, data), progress), 0.0
    pair = None
    if data.has_split("val"):
        pair = newest_pair(home, evaluation_query(stores, "val", data), progress)
    if pair is None:
        progress.note("validation: no stores of a split 'val', so 10 % of the training images")
        return None, HOLDOUT
    return pair, 0.0
