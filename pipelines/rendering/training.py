"""Turn reports into tables and lines for people; prints nothing itself."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.table import Table

from ...featcache.encoders.card import list_encoders
from ...featcache.errors import LightalignError
from ...featcache.store.catalog import read_catalog
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.manifest import COPY, MANIFEST, named_key, read_manifest
from ...featcache.types import Modality
from ..cache.stores import Explanation, RepairReport
from ..exporting.export_spec import ExportedRun
from ..extraction.reports import Estimate, ExtractReport
from ..planning.dry_run import TrainEstimate
from ..planning.peak import PeakMemory
from ..planning.spec import MemoryPlan
from ..training.spec import TrainReport
from .tables import rows_table

_KEY_DIGITS = 12  # as in the name of its folder


def encoder_rows(home: Path) -> list[dict[str, Any]]:
    """Return one row for each encoder card, those of a home among them."""
    return [
        {
            "name": card.name,
            "modality": card.modality.value,
            "backend": card.backend,
            "width": card.width,
            "licence": card.licence,
            "title": card.title,
        }
        for card in list_encoders(home)
    ]


def store_rows(home: Path) -> list[dict[str, Any]]:
    """Return one row for each feature store below `home`, newest first.

    One that cannot be read is there with the reason as its `problem`.
    """
    catalog = read_catalog(home)
    problems = {unread.folder: str(unread) for unread in catalog.unread}
    dated = []
    for folder in [*(entry.folder for entry in catalog.entries), *problems]:
        name = str(folder.relative_to(home / "features"))
        row = _unreadable(problems[folder]) if folder in problems else _row_or_problem(folder)
        dated.append((-_changed(folder), name, {"store": name, **row}))
    return [row for _, _, row in sorted(dated, key=lambda entry: entry[:2])]


def _row_or_problem(folder: Path) -> dict[str, Any]:
    try:
        return _store_row(folder)
    except (LightalignError, OSError) as error:  # removed meanwhile, or with a damaged receipt
        return _unreadable(str(error))


def _unreadable(problem: str) -> dict[str, Any]:
    return {"state": "unreadable", "problem": " ".join(problem.splitlines())}


def _changed(folder: Path) -> float:
    """Return when a store was last changed, in seconds since the epoch; 0 if it is gone."""
    times = [0.0]
    for name in (MANIFEST, COPY):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)


def _store_row(folder: Path) -> dict[str, Any]:
    store = FeatureStore(folder, read_manifest(folder))
    description = store.description
    finished = store.num_shards - len(store.missing_shards())
    return {
        "key": description.key,
        "modality": description.modality,
        "encoder": description.encoder,
        "kind": description.kind,
        "layer": description.layer,
        "type": description.dtype,
        "container": description.container,
        "rows": store.num_rows,
        "items": description.num_items,
        "bytes": store.num_bytes,
        "shards": store.num_shards,
        "finished_shards": finished,
        "state": "complete" if store.complete else "incomplete",
    }


def store_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of `store_rows`; key and name of a store are what `cache` takes as STORE."""
    shown = []
    for row in rows:
        state = row["state"]
        if state == "incomplete":
            state = f"{row['finished_shards']} of {row['shards']}"
        problem = f" ({row['problem']})" if "problem" in row else ""
        shown.append(
            {
                "key": (row.get("key") or named_key(Path(row["store"])) or "-")[:_KEY_DIGITS],
                "kind": row.get("kind", ""),
                "layer": row.get("layer", ""),
                "type": row.get("type", ""),
                "rows": row.get("rows", ""),
                "MB": round(row["bytes"] / 1e6, 1) if "bytes" in row else "",
                "shards": state,
                "store": f"{row['store']}{problem}",
            }
        )
    return rows_table(shown, below=("store",))


def repair_lines(reports: Sequence[RepairReport], failed: Mapping[str, str]) -> list[str]:
    """Return what was repaired, what was not, and a summary."""
    left = [line for report in reports for line in report.left]
    damaged = [line for report in reports for line in report.damaged]
    recomputed = sum(len(report.recomputed) for report in reports)
    return [
        *(f"repaired {line}" for line in damaged if line not in left),
        *(
            f"shards {list(report.differing)} of {report.store} have other bytes than before: "
            "another version of a library, another device or batch size rounds otherwise"
            for report in reports
            if report.differing
        ),
        *(f"left {line}" for line in left),
        *(f"not repaired: {folder}: {reason}" for folder, reason in failed.items()),
        f"{len(reports) + len(failed)} stores read, {recomputed} shards recomputed",
    ]


def explanation_parts(explained: Explanation) -> list[Table | str]:
    """Return what was compared and a table of the values that differ."""
    if explained.second is None:
        return [f"first:  {explained.first}", "there is no other store"]
    state = "" if explained.complete else " (incomplete)"
    count = f"{len(explained.differences)} values differ, {explained.num_equal} are equal"
    lines = [f"first:  {explained.first}", f"second: {explained.second}{state}", count]
    rows = [vars(difference) for difference in explained.differences]
    return [*lines, rows_table(rows)] if rows else [*lines]


def extract_lines(report: ExtractReport) -> list[str]:
    """Return what one call of `extract` did, a line and a folder for each store."""
    lines = []
    for store in report.stores:
        what = [store.encoder, store.split]
        what += [store.kind] if store.kind != "tokens" else []
        what += [f"layer {store.layer}"] if store.layer != -1 else []
        line = f"{' '.join(what)}: {store.rows} rows, {store.bytes / 1e6:.1f} MB"
        if store.encoded:
            line += f", {store.encoded} items encoded in {store.seconds:.1f} s"
        elif store.derived_from is not None:
            line += f", derived from {store.derived_from}, nothing encoded"
            line += f", in {store.seconds:.1f} s"
        else:
            line += ", 0 items to do (cached)"
        if store.skipped:
            line += f", {len(store.skipped)} skipped: {store.skipped[0].reason}"
            line += " ..." if len(store.skipped) > 1 else ""
        lines.append(f"{line}\n  {store.folder}")
    return lines if report.stood_for is None else [*lines, report.stood_for]


def estimate_parts(estimate: Estimate) -> list[Table | str]:
    """Return what an extraction would cost: a table of its stores, and what they need together."""
    rows = [
        {
            "encoder": store.encoder,
            "split": store.split,
            "features": store.kind,
            "layer": store.layer,
            "rows": store.rows,
            "to do": store.missing,
            "megabytes": round(store.bytes / 1e6, 1),
        }
        for store in estimate.stores
    ]
    derived = [
        f"{store.encoder} {store.split} {store.kind} would be derived from {store.derived_from}, "
        "nothing encoded"
        for store in estimate.stores
        if store.derived_from is not None
    ]
    line = (
        f"to write {estimate.missing_bytes / 1e9:.2f} GB of {estimate.free_bytes / 1e9:.0f} GB "
        f"free, peak memory {estimate.peak_memory_bytes / 1e9:.1f} GB, "
        f"about {estimate.minutes:.1f} minutes; nothing was kept"
    )
    return [rows_table(rows), *derived, line]


def plan_parts(planned: MemoryPlan) -> list[Table | str]:
    """Return what a training will take: a table of the parts, their sum, and what fits."""
    spec, total = planned.spec, planned.predicted.total
    head = (
        f"{_preset_line(spec['preset'], spec['fusion'])}: {planned.parameters:,} parameters, "
        f"batch {spec['batch_size']}, chunk {spec['chunk_size'] or 'of all'}, "
        f"images of {spec['image']}, "
        f"{spec['texts_of_an_image']} texts each of {spec['text']}"
    )
    predicted = f"predicted peak {total / 1e9:.2f} GB of {planned.memory} memory"
    lines: list[Table | str] = [head, _peak_table(planned.predicted), predicted]
    if planned.measured is not None:
        lines.append(
            f"measured peak  {planned.measured / 1e9:.2f} GB; predicted over it "
            f"{total / planned.measured:.2f}"
        )
    if planned.fits is not None:
        chunk = planned.largest_chunk
        fits = "fits" if planned.fits else "does not fit"
        largest = "no chunk does" if chunk is None else f"the largest chunk that does is {chunk}"
        lines.append(f"{fits} {spec['budget']}; {largest}")
    return lines


def _preset_line(preset: str, fusion: str | None) -> str:
    return f"preset {preset}" + ("" if fusion is None else f", fusion {fusion}")


def _peak_table(peak: PeakMemory) -> Table:
    parts = vars(peak).items()
    return rows_table([{"part": name, "megabytes": round(count / 1e6, 1)} for name, count in parts])


def train_estimate_parts(estimate: TrainEstimate) -> list[Table | str]:
    """Return what a training would cost: its size, the memory of a step by part, and its time."""
    cost = estimate
    counted = "images" if Modality.IMAGE.value in cost.rows else "texts"
    shapes = ", ".join(f"{side.replace('_', ' ')}s of {row}" for side, row in cost.rows.items())
    head = (
        f"{_preset_line(cost.preset, cost.fusion)}: {cost.parameters:,} parameters on "
        f"{cost.images} {counted}, batch {cost.batch_size}, "
        f"chunk {cost.chunk_size or 'of all'}, {shapes} ({cost.texts_of_an_image} each)"
    )
    held = ", ".join(
        f"{side.replace('_', ' ')}s {place['num_bytes'] / 1e6:.1f} MB on {place['name']}"
        for side, place in cost.residency.items()
    )
    predicted = (
        f"predicted peak of a step {cost.predicted.total / 1e9:.2f} GB of {cost.memory} memory; "
        f"features: {held}"
    )
    validating = f" and {cost.validation_seconds:.1f} s of validation"
    pooling = f", {cost.pooling_seconds:.1f} s to pool their tokens once"
    time = (
        f"about {cost.minutes:.1f} minutes: {cost.epochs} epochs of {cost.epoch_seconds:.1f} s"
        f"{validating if cost.validation_seconds else ''}"
        f"{pooling if cost.pooling_seconds else ''}"
    )
    probe = (
        f"timed {cost.probe_steps} of {cost.steps} steps in {cost.probe_seconds:.1f} s, warm-up "
        "and validation included; nothing was kept"
    )
    return [head, _peak_table(cost.predicted), predicted, time, probe]


def train_lines(trained: TrainReport) -> list[str]:
    """Return what a training did and where it lies."""
    report = trained.report
    best = report["best"]
    if report["selected_by"] == "closed form":
        line = (
            f"solved for {report['num_parameters']:,} parameters from {best['pairs']:,} pairs in "
            f"{report['seconds']:.1f} s"
        )
        return [line, f"run: {trained.folder}"]
    stores = report["spec"]["stores"]["train"]
    counted = "images" if Modality.IMAGE.value in stores else "texts"
    trained_line = (
        f"trained {report['num_parameters']:,} parameters on {report['num_images']} {counted} in "
        f"{report['seconds']:.1f} s; kept epoch {best['epoch']} by {report['selected_by']}"
    )
    return [trained_line, f"run: {trained.folder}"]


def exported_lines(exported: ExportedRun) -> list[str]:
    """Return what was exported, how far its cosines are from the run's, and what was left out."""
    lines = []
    for modality, tower in exported.towers.items():
        for entry in (tower, tower.get("adapter", {}), tower.get("whole", {})):
            if "largest_cosine_difference" in entry:
                name = entry.get("file", f"{modality} tower")
                differ = entry["largest_cosine_difference"]
                lines.append(f"{name}: cosines differ from the run's by at most {differ:.1e}")
            if "left_out" in entry:
                lines.append(f"no {modality}.onnx: {entry['left_out']}")
        if tower.get("padding_takes_part"):
            lines.append(
                f"{modality}: padding takes part in this preset; give rows of one length together"
            )
    lines += [] if exported.remedy is None else [exported.remedy]
    return [*lines, f"{exported.bytes / 1e6:.1f} MB: {exported.path}"]
