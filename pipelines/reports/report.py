"""Write one page about some runs: what they measured side by side, plots, and the worst answers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ... import __version__
from ...featcache import atomic_files
from ...featcache.config import fingerprint
from ...featcache.registry import unknown_name
from ...featcache.sources.opening import parse_data
from ..common.destinations import check_file
from ..common.plots import draw_confusion, line_plot
from ..common.printable import for_page
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import each_recorded
from ..metrics.number import shown
from ..runs import run_folder as runs
from .comparison import Compared, RunPart, compare, read_runs, training_curves
from .failure_pictures import FailurePictures
from .report_spec import ReportReport, ReportSpec

_TEMPLATES = Path(__file__).parents[2] / "data" / "report"
_PAGE = "page.html.jinja"
_LETTERS = 80  # of the names of runs in that of a page; file systems have an end
_HEADLINES = 40  # numbers of one evaluation that are shown without being asked for


def run(spec: ReportSpec, progress: Progress = SILENT) -> ReportReport:
    """Write the page.

    Raises:
        RunNotFoundError: There is no such finished run, or no such file.
        SpecError: A run is named twice, a file is no evaluation, or what lies at a named place is
            not what was evaluated.
        UnknownNameError: No evaluation is of a dataset that is named.
        StoreCorruptError: What the training of a run reported, or a named file, cannot be read.
    """
    parts = read_runs(spec.home, spec.runs)
    path = spec.out or _default_path(spec.home, parts)
    # beside what it is about; the name is ours, whatever is there
    if spec.out is None:
        check_file(path, option="the page", force=True)
    notes = [line for part in parts for line in part.unread]
    compared = compare(parts)
    _check_names(spec.data, compared)
    pictures = FailurePictures(spec.home, spec.data)
    sections = [
        _section(evaluation, pictures, spec.failures)
        for evaluation in progress.track(compared, "evaluations", len(compared), unit="evaluations")
    ]
    # after all sections: a named place may serve a single one of them
    pictures.require_used()
    notes += pictures.notes
    for note in notes:
        progress.note(note)
    page = _environment().get_template(_PAGE)
    text = page.render(
        title=" and ".join(part.name for part in parts),
        version=__version__,
        runs=[_facts(part) for part in parts],
        sections=sections,
        training=[_plot(curve) for curve in training_curves(parts)],
        notes=notes,
    )
    content = for_page(text).encode()
    with atomic_files.making(path.parent), runs.owning_place(path):
        atomic_files.clear_abandoned_beside(path)
        atomic_files.write_bytes(path, content)
    return ReportReport(
        path=path,
        bytes=len(content),
        runs=tuple(part.name for part in parts),
        evaluations=sum(len(evaluation.reports) for evaluation in compared),
        notes=tuple(notes),
    )


def _check_names(data: Sequence[str], compared: Sequence[Compared]) -> None:
    evaluated = {evaluation.dataset for evaluation in compared}
    for named in data:
        if parse_data(named)[0] not in evaluated:
            raise unknown_name("evaluated dataset", parse_data(named)[0], evaluated)


def _default_path(home: Path, parts: Sequence[RunPart]) -> Path:
    if len(parts) == 1:
        return parts[0].page
    names = "-".join(part.name for part in parts)
    if len(names) > _LETTERS:
        names = f"{names[:_LETTERS]}-{fingerprint(names)[:8]}"
    return home / "evaluations" / f"report-{names}.html"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        # a name that is misspelt in the page must not become an empty cell
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _cell
    environment.filters["plain"] = _plain
    return environment


def _cell(number: Mapping[str, Any] | None) -> str:
    """Return a number with its interval, or a fact in full."""
    if number is None:
        return ""
    value = number["value"]
    return shown(number, _digits(value) if isinstance(value, int | float) else 1)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.{_digits(value)}f}"


def _digits(value: float) -> int:
    """Return the number of digits after the point, for three significant ones at least."""
    size = abs(value)
    return 1 if size >= 10 or not math.isfinite(size) or size == 0 else 2 if size >= 1 else 3


def _facts(part: RunPart) -> dict[str, Any]:
    """Return the row of a run in the first table."""
    spec = part.report.get("spec", {})
    command = spec.get("command", {})
    train = spec.get("stores", {}).get("train", {})
    sides = {name: side for name, side in train.items() if isinstance(side, Mapping)}
    facts = {
        "preset": command.get("preset") or "",
        "trained on": f"{train.get('dataset', '')}/{train.get('split', '')}",
        "encoders": ", ".join(
            f"{stream['encoder']} ({stream['kind']})"
            for side in sides.values()
            for stream in each_recorded(side)
        ),
        "parameters": f"{part.report.get('num_parameters', 0):,}",
        "epochs": part.report.get("epochs", ""),
        "seed": command.get("seed", ""),
        "minutes": f"{part.report.get('seconds', 0) / 60:.1f}",
    }
    # where nothing was trained there is nothing to tell of it
    if not part.report:
        facts = dict.fromkeys(facts, "")
    return {"name": part.name, "facts": facts, "spec": spec}


def _section(compared: Compared, pictures: FailurePictures, most: int) -> dict[str, Any]:
    # numbers of single classes, which may be a thousand, are folded away
    rows = compared.rows
    place = f"{compared.dataset} {compared.split}"
    title = filter(None, (compared.kind.replace("-", " "), place, compared.variant))
    return {
        "title": ", ".join(title),
        "source": compared.source[:12],
        "split_hash": compared.split_hash[:12],
        "runs": list(compared.reports),
        "rows": rows[:_HEADLINES],
        "more": rows[_HEADLINES:],
        "definitions": compared.definitions,
        "warnings": {
            name: list(report.get("warnings", ())) for name, report in compared.reports.items()
        },
        "plots": [_plot(curve) for curve in compared.curves],
        "failures": [
            {"run": name, "cards": pictures.cards(report, most)}
            for name, report in compared.reports.items()
            if report.get("failures")
        ],
        "provenance": {
            name: {
                key: report.get(key)
                for key in ("options", "stores", "adapter_sha256", "source", "versions", "seconds")
            }
            for name, report in compared.reports.items()
        },
    }


def _plot(curve: Mapping[str, Any]) -> dict[str, Any]:
    if "matrix" in curve:
        svg = draw_confusion({key: part for key, part in curve.items() if key != "title"})
    else:
        svg = line_plot(curve["lines"], x_label=curve["x_label"], y_label=curve["y_label"])
    return {"title": curve["title"], "svg": Markup(svg)}
