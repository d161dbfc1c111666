"""Turn reports on stores and trainings into tables and lines for people."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ...featcache.encoders.card import list_encoders
from ...featcache.store.manifest import named_key
from ...featcache.types import Modality, sides_of
from ..cache.explain import Explanation
from ..cache.restore import RepairReport
from ..exporting.export_spec import ExportedRun
from ..extraction.reports import Estimate, ExtractReport, ViewEstimate, ViewReport
from ..inputs.store_selection import recorded_sides
from ..planning.spec import MemoryPlan, PeakMemory, TrainEstimate
from ..training.spec import TrainReport
from ..training.tasks import Best, task_of
from .tables import rows_table

_KEY_DIGITS = 12  # as in the name of its folder


def encoder_rows(home: Path) -> list[dict[str, Any]]:
    """Return one row for each encoder card, those of a home among them."""
    names = ("name", "modality", "backend", "width", "licence", "title")
    cards = map(vars, list_encoders(home))
    return [
        {**{name: card[name] for name in names}, "modality": card["modality"].value}
        for card in cards
    ]


def store_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of `store_rows`; key and name of a store are what `cache` takes as STORE."""
    shown = []
    for row in rows:
        # where the manifest cannot be read the folder's name still has the beginning of the key
        is_begun = row["state"] == "incomplete"
        problem = f" ({row['problem']})" if "problem" in row else ""
        shown.append(
            {
                "key": (row.get("key") or named_key(Path(row["store"])) or "-")[:_KEY_DIGITS],
                **{name: row.get(name, "") for name in ("kind", "layer", "type", "rows")},
                "MB": round(row["bytes"] / 1e6, 1) if "bytes" in row else "",
                "shards": f"{row['finished_shards']} of {row['shards']}"
                if is_begun
                else row["state"],
                **({"view": row["view"]["name"]} if "view" in row else {}),
                "store": f"{row['store']}{problem}",
            }
        )
    return rows_table(shown, below=("store",))


def repair_lines(reports: Sequence[RepairReport], failed: Mapping[str, str]) -> list[str]:
    """Return the files that were repaired and those that were not, and a summary."""
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
    """Return the two stores of a comparison and a table of the values that differ."""
    if explained.second is None:
        return [f"first:  {explained.first}", "there is no other store"]
    state = "" if explained.complete else " (incomplete)"
    count = f"{len(explained.differences)} values differ, {explained.num_equal} are equal"
    lines = [f"first:  {explained.first}", f"second: {explained.second}{state}", count]
    rows = [vars(difference) for difference in explained.differences]
    return [*lines, rows_table(rows)] if rows else [*lines]


def extract_lines(report: ExtractReport) -> list[str]:
    """Return a line and the folder of each store of an extraction."""
    lines = []
    for store in report.stores:
        name = f"{store.encoder} {store.split}"
        name += f" {store.kind}" if store.kind != "tokens" else ""
        name += f" layer {store.layer}" if store.layer != -1 else ""
        name += f" {store.view['name']}" if isinstance(store, ViewReport) else ""
        noun = "rows" if isinstance(store, ViewReport) else "items"
        if store.encoded:
            done = f"{store.encoded} {noun} encoded in {store.seconds:.1f} s"
        elif store.derived_from is not None:
            done = f"derived from {store.derived_from}, nothing encoded, in {store.seconds:.1f} s"
        else:
            done = f"0 {noun} to do (cached)"
        if store.skipped:
            done += f", {len(store.skipped)} skipped: {store.skipped[0].reason}"
            done += " ..." if len(store.skipped) > 1 else ""
        lines.append(f"{name}: {store.rows} rows, {store.bytes / 1e6:.1f} MB, {done}")
        lines.append(f"  {store.folder}")
    return lines if report.stood_for is None else [*lines, report.stood_for]


def estimate_parts(estimate: Estimate) -> list[Table | str]:
    """Return the predicted cost of an extraction: a table of its stores, and the sums."""
    rows = [
        {
            "encoder": store.encoder,
            "split": store.split,
            "features": store.kind,
            "layer": store.layer,
            "rows": store.rows,
            "to do": store.missing,
            "megabytes": round(store.bytes / 1e6, 1),
            **({"view": store.view["name"]} if isinstance(store, ViewEstimate) else {}),
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
    """Return the predicted memory of a training by part, its sum, and whether it fits."""
    spec, total = planned.spec, planned.predicted.total
    lines: list[Table | str] = [
        (
            f"{_preset_line(spec['preset'], spec['fusion'])}: {planned.parameters:,} parameters, "
            f"batch {spec['batch_size']}, chunk {spec['chunk_size'] or 'of all'}, "
            f"images of {spec['image']}, {spec['texts_of_an_image']} texts each of {spec['text']}"
        ),
        _peak_table(planned.predicted),
        f"predicted peak {total / 1e9:.2f} GB of {planned.memory} memory",
    ]
    if planned.measured is not None:
        ratio = total / planned.measured
        lines.append(
            f"measured peak  {planned.measured / 1e9:.2f} GB; predicted over it {ratio:.2f}"
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


def train_estimate_parts(cost: TrainEstimate) -> list[Table | str]:
    """Return the predicted cost of a training: its size, the memory of a step, and its time."""
    shapes = ", ".join(f"{_plural(side)} of {row}" for side, row in cost.rows.items())
    held = ", ".join(
        f"{_plural(side)} {place['num_bytes'] / 1e6:.1f} MB on {place['name']}"
        for side, place in cost.residency.items()
    )
    validation, pooling = cost.validation_seconds, cost.pooling_seconds
    batch, shapes = f"batch {cost.batch_size}", f"{shapes} ({cost.texts_of_an_image} each)"
    if cost.reads_pairs:
        batch, shapes = f"{batch} pairs", shapes.rpartition(" (")[0]
    return [
        (
            f"{_preset_line(cost.preset, cost.fusion)}: {cost.parameters:,} parameters on "
            f"{cost.images} {_counted(cost.rows)}, {batch}, "
            f"chunk {cost.chunk_size or 'of all'}, {shapes}"
        ),
        _peak_table(cost.predicted),
        (
            f"predicted peak of a step {cost.predicted.total / 1e9:.2f} GB of {cost.memory} "
            f"memory; features: {held}"
        ),
        f"about {cost.minutes:.1f} minutes: {cost.epochs} epochs of {cost.epoch_seconds:.1f} s"
        + (f" and {validation:.1f} s of validation" if validation else "")
        + (f", {pooling:.1f} s to pool their tokens once" if pooling else ""),
        (
            f"timed {cost.probe_steps} of {cost.steps} steps in {cost.probe_seconds:.1f} s, "
            "warm-up and validation included; nothing was kept"
        ),
    ]


def _plural(side: str) -> str:
    return f"{side.replace('_', ' ')}s"


def _counted(sides: Collection[str]) -> str:
    """Return the noun of the items of a training: images, or those of the first side."""
    return "images" if Modality.IMAGE.value in sides else f"{sides_of(sides)[0].modality}s"


def train_lines(trained: TrainReport) -> list[str]:
    """Return a summary of a training, and the folder of its run."""
    report, best = trained.report, trained.report["best"]
    parameters = f"{report['num_parameters']:,} parameters"
    if "members" in report:
        return [*_member_lines(report), f"run: {trained.folder}"]
    if report["selected_by"] == "closed form":
        line = f"solved for {parameters} from {best['pairs']:,} pairs in {report['seconds']:.1f} s"
    else:
        counted = _counted(recorded_sides(report["spec"]["stores"]["train"]))
        line = (
            f"trained {parameters} on {report['num_images']} {counted} in "
            f"{report['seconds']:.1f} s; kept epoch {best['epoch']} by {report['selected_by']}"
        )
    return [line, f"run: {trained.folder}"]


def _member_lines(report: Mapping[str, Any]) -> list[str]:
    """Return a line of each member of a run of several seeds, and what its adapter is."""
    best = task_of(report["spec"]).best
    lines = []
    for member in report["members"]:
        record = member["best"]
        lines.append(f"seed {member['seed']}: kept epoch {record['epoch']}{_shown(best, record)}")
    if spread := report["spread"].get(best.name):
        lines.append(
            f"{best.words} of one seed {best.shown(spread['mean'])} on average, with a standard "
            f"deviation of {best.shown(spread['deviation'])}"
        )
    what = f"the best of {len(report['members'])} seeds"
    if "student" in report:
        what = f"a student of {len(report['members'])} seeds"
        taught_by = _shown(best, report["student"]["taught_by"])
        lines.append(f"average of them{taught_by or ': not validated'}")
    elif "ensemble" in report:
        what = f"the {report['ensemble']} of {len(report['members'])} seeds"
    parameters = f"{report['num_parameters']:,} parameters"
    lines.append(f"adapter: {what}, {parameters}{_shown(best, report['best'])}")
    counted = _counted(recorded_sides(report["spec"]["stores"]["train"]))
    lines.append(
        f"trained on {report['num_images']} {counted} in {report['seconds']:.1f} s; "
        f"epochs were chosen by {report['selected_by']}"
    )
    return lines


def _shown(best: Best, record: Mapping[str, Any]) -> str:
    value = record.get("validation", {}).get(best.name)
    return "" if value is None else f", validation {best.words} {best.shown(value)}"


def exported_lines(exported: ExportedRun) -> list[str]:
    """Return the files of an export with their difference from the run, and what was left out."""
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
    remedy = [] if exported.remedy is None else [exported.remedy]
    return [*lines, *remedy, f"{exported.bytes / 1e6:.1f} MB: {exported.path}"]
