"""Repair a store by extracting its damaged shards again, exactly as it was extracted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...featcache.config import apply_overrides, build
from ...featcache.errors import LightalignError, SpecError, StoreCorruptError
from ...featcache.sources.opening import is_drawn
from ...featcache.store import remedies
from ...featcache.store.catalog import find_store
from ...featcache.store.damage import find_damage
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.key import StoreDescription
from ...featcache.store.manifest import read_whole_manifest
from ..common.progress import SILENT, Progress
from ..extraction import extract
from ..extraction.loaded_encoder import splits_with_items
from ..extraction.outputs import describe_outputs
from ..extraction.recorded import spec_of
from ..extraction.spec import ExtractSpec
from .explain import Explanation, explain
from .restore import RepairReport, restore


def repair(
    home: Path,
    store: str,
    *,
    data: str | None = None,
    weights: Path | None = None,
    source: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> RepairReport:
    """Restore the damaged files of a store; only damaged shards are extracted again.

    Before anything is removed, the dataset and the encoder are opened and must give the store's
    own key: another photo collection or other weights cannot repair it. The dataset is opened with
    the options that the store was extracted with, but for those in `source`. A store that was
    derived from tokens is derived again while these are there, and encoded otherwise.

    Raises:
        StoreNotFoundError: There is no such store.
        StoreCorruptError: The manifest and its copy are both damaged.
        SpecError: Dataset and weights are not those of the store, or it is in another home.
        DatasetChangedError: An item can no longer be read.
    """
    folder = find_store(home, store)
    manifest = read_whole_manifest(folder)
    spec = spec_of(manifest, home, data=data, weights=weights, source=source, device=device)
    # an extraction writes where the description says, which may be beside a copied store
    place = StoreDescription(**manifest["description"]).folder(home)
    if not (place.exists() and place.samefile(folder)):
        raise SpecError(
            f"{folder} is not where {home} has this store: repair it with --home, or move it to "
            f"{place}"
        )
    if not manifest["complete"] and _allows_more(spec, FeatureStore(folder, manifest)):
        spec = replace(spec, on_error="skip")
    damage = find_damage(folder)
    # a damaged manifest or copy needs neither the dataset nor the encoder
    prepared = None
    if damage.shards or damage.pairs:
        prepared = extract.prepare(spec, progress)
        _check_key(spec, prepared, manifest)

    def recompute(opened: FeatureStore, shards: list[int]) -> None:
        progress.note(f"extracting shards {shards} of {opened.folder.name} again")
        extract.run(spec, progress, makes_newest=False, prepared=prepared)
        opened.refresh()

    return restore(folder, recompute)


def _allows_more(spec: ExtractSpec, store: FeatureStore) -> bool:
    """Return whether an unfinished store has more bad items than usual, as was allowed then."""
    return len(store.skipped()) > spec.allowed_bad(store.description.num_items)


def origins_first(stores: Sequence[Path]) -> list[Path]:
    """Return the stores with those that were derived from others last.

    One command then repairs tokens first, and pools them again.
    """
    return sorted(stores, key=_was_derived)


def _was_derived(store: Path) -> bool:
    try:
        return "derived_from" in read_whole_manifest(store)["settings"]
    except (LightalignError, OSError):
        return False  # whoever repairs it says why it cannot be read


def each_apart(
    act: Callable[[str], RepairReport], stores: Sequence[str]
) -> tuple[list[RepairReport], dict[str, LightalignError | OSError]]:
    """Repair several stores; one that cannot be repaired stops none of the others.

    Args:
        act: Repairs one.
        stores: Their names.

    Returns:
        What was repaired, and why which store was not.
    """
    reports, failed = [], {}
    for store in stores:
        try:
            reports.append(act(store))
        except (LightalignError, OSError) as error:  # noqa: PERF203
            failed[store] = error
    return reports, failed


def reason_of(error: LightalignError | OSError) -> str:
    """Return why a store was not repaired, in one line."""
    if isinstance(error, LightalignError):
        return str(error)
    return f"{error.filename or 'it'} cannot be read or written: {error.strerror}"


def explain_request(
    table: Mapping[str, Any], overrides: Sequence[str], progress: Progress = SILENT
) -> list[Explanation]:
    """Explain every store that an extraction would ask for: its differences to the nearest one.

    Args:
        table: Fields of an `ExtractSpec`, as TOML has them.
        overrides: `a.b=c` on that table.
        progress: Receives notes.

    Raises:
        LightalignError: The dataset, the weights or an option are not usable.
    """
    spec = build(ExtractSpec, apply_overrides(table, overrides), where="extract")
    opened, loaded = extract.prepare(spec, progress)
    return [
        explain(spec.home, output.description)
        for split in splits_with_items(opened, loaded, progress)
        for output in describe_outputs(spec, opened, loaded, split)
    ]


def _check_key(spec: ExtractSpec, prepared: extract.Prepared, manifest: Mapping[str, Any]) -> None:
    opened, loaded = prepared
    assert spec.split is not None
    (output,) = describe_outputs(spec, opened, loaded, spec.split)
    if output.description.key == manifest["key"]:
        recorded = StoreDescription(**manifest["description"])
        _check_shape(output.description, recorded, settings=manifest["settings"], home=spec.home)
        return
    dataset = manifest["description"]["dataset"]
    place = f"with --data {dataset}=PATH"
    if is_drawn(dataset):
        place = "with --set source.NAME=VALUE, as it was drawn,"
    differences = explain(spec.home, output.description).differences
    fields = [difference.field for difference in differences]
    raise SpecError(
        f"this dataset and these weights are not those of the store, {fields} differ: name them "
        f"{place} and --weights PATH"
    )


def _check_shape(
    expected: StoreDescription,
    recorded: StoreDescription,
    *,
    settings: Mapping[str, Any],
    home: Path,
) -> None:
    """Refuse a manifest whose numbers, which no key covers, are not those of its encoder and data.

    Arrays of that shape would be allocated for what is computed.
    """
    for name in ("width", "tokens_per_item", "num_items"):
        claimed, real = getattr(recorded, name), getattr(expected, name)
        if claimed != real:
            removal = remedies.removal_of_store(recorded.folder(home), home)
            raise StoreCorruptError(
                f"the manifest says {name} = {claimed}, and these data and this encoder have "
                f"{real}: remove the store by `{removal}` "
                f"and extract it again by `{remedies.extraction(recorded, settings, home=home)}`"
            )
