"""Resolve the settings of a training to a plan: its preset, its stores, its validation."""

from pathlib import Path

from ...adapters.preset import for_streams, preset_of
from ...featcache.config import Table, to_table
from ...featcache.errors import SpecError
from ...featcache.home import command_line
from ...featcache.types import TEXT_TEXT, Modality, Side
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
from ..inputs.unpaired_stores import UnpairedStores, choose_unpaired
from ..runs.provenance import describe_pair
from .distil_options import DISTIL, DistilOptions
from .log import require_tensorboard
from .options import TrainPlan, resolve_preset
from .spec import TrainSpec
from .tasks import PairedTask, task_of
from .unpaired_options import UNPAIRED, UnpairedOptions

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
    image, text, second_text = (_streams(spec, side) for side in ("image", "text", "second_text"))
    others = {side: _streams(spec, side) for side in spec.further_sides}
    by_side = choose_sides(
        image=image, text=text, second_text=second_text, others=others, home=spec.home
    )
    sides = sides_asked(by_side)
    table, options = resolve_preset(spec.preset, spec.fusion, spec.overrides, sides=sides)
    task_of(table).check_sides(sides)
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
    validation, holdout = choose_validation(spec.home, stores, data, options.validation, progress)
    names: dict[Side, str | None] = {
        Modality.IMAGE: spec.unpaired_images,
        Modality.TEXT: spec.unpaired_texts,
    }
    unpaired = choose_unpaired(spec.home, names, stores)
    if unpaired is not None:
        table = _with_unpaired(table, unpaired, validation, progress)
    elif UNPAIRED in table:
        preset = preset_of(spec.preset, spec.fusion)
        raise SpecError(
            f"preset {preset!r} learns from unpaired items, too: name their stores by "
            "--unpaired-images and --unpaired-texts, of those of "
            f"`{command_line('cache', 'ls', home=spec.home)}`"
        )
    if spec.ensemble == DISTIL:
        table = {**table, DISTIL: table.get(DISTIL, to_table(DistilOptions()))}
    elif DISTIL in table:
        raise SpecError(
            "[distil] is of a student of several seeds: leave it out, or ask for one by "
            "--seeds 5 --ensemble distil"
        )
    return TrainPlan(
        table=table,
        options=options,
        stores=stores,
        validation=validation,
        holdout=holdout,
        unpaired=unpaired,
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


def _with_unpaired(
    table: Table, unpaired: UnpairedStores, validation: StorePair | None, progress: Progress
) -> Table:
    """Return a preset with its `[unpaired]`, or what that is by default."""
    if "fit" in table:
        raise SpecError(
            "[fit] is a training in closed form: it has no steps that would learn from unpaired "
            "items; leave out --unpaired-images and --unpaired-texts"
        )
    if not isinstance(task_of(table), PairedTask):
        raise SpecError(
            "--unpaired-images and --unpaired-texts go beside pairs, of which this [task] has none"
        )
    for side, entry in unpaired.entries.items():
        stored = entry.description
        if validation is not None and stored.source == validation.source:
            raise SpecError(
                f"unpaired {side.label}s of {stored.dataset}/{stored.split} would be learnt from, "
                "and this split validates: name another, or another validation by "
                "--set train.validation=0.1"
            )
        progress.note(
            f"learning from {stored.num_items:,} unpaired {side.label}s of "
            f"{stored.dataset}/{stored.split}, too"
        )
    return {**table, UNPAIRED: table.get(UNPAIRED, to_table(UnpairedOptions()))}


def choose_validation(
    home: Path, stores: StorePair, data: DatasetQuery, asked: str | float, progress: Progress
) -> tuple[StorePair | None, float]:
    """Return the stores to validate on, or None, and the share of images that validates instead.

    Raises:
        StoreNotFoundError: The split that was asked for has not been extracted.
    """
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
        # texts are held out with those of their image
        owner = Modality.IMAGE if stores.sides == TEXT_TEXT else stores.sides[0].modality
        progress.note(f"validation: no stores of a split 'val', so 10 % of the training {owner}s")
        return None, HOLDOUT
    return pair, 0.0
