"""Collect the content of a page about runs: evaluations side by side, plots and failures."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...featcache import atomic_files
from ...featcache.errors import LightalignError, RunNotFoundError, SpecError, StoreCorruptError
from ...featcache.home import expanded
from ..metrics.number import SCHEMA, cells_of
from ..runs import run_folder
from ..runs.log_reading import read_log
from ..runs.schemas import check_evaluation
from ..training.tasks import Curve
from .run_list import validation_numbers, way_out

_TRAINING_LOSS = Curve("Training loss", "loss", "loss")


@dataclass(frozen=True)
class RunPart:
    """One run as a page shows it, or one evaluation in which no run took part.

    Attributes:
        name: Name of its folder, or of the file without its ending.
        page: Where a page about it alone lies.
        report: What training reported; of an evaluation nothing.
        epochs: Lines of its log.
        evaluations: Reports of its evaluations.
        unread: Files that are not shown, each with the reason.
    """

    name: str
    page: Path
    report: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    unread: Sequence[str] = ()


@dataclass
class Compared:
    """Reports of several runs of one kind of evaluation of one split.

    Attributes:
        kind: Name of the evaluation.
        dataset: Name of the dataset.
        split: Name of the split.
        source: Fingerprint of the dataset, or nothing where it has several.
        split_hash: Hash of its ids.
        variant: What sets it apart from others of its kind, such as a scoring.
        reports: Report by name of the run.
    """

    kind: str
    dataset: str
    split: str
    source: str
    split_hash: str
    variant: str
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def definitions(self) -> dict[str, str]:
        """Return the meaning of each name."""
        all_definitions = [report.get("definitions", {}) for report in self.reports.values()]
        return {name: text for one_run in all_definitions for name, text in one_run.items()}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return one line a number: its names, and the number of each run.

        A run that has not measured a number has None there. What else a table holds, such as a
        threshold, is a line of cells with a value alone.
        """
        by_run = {run: dict(cells_of(report["metrics"])) for run, report in self.reports.items()}
        paths = {path for numbers in by_run.values() for path in numbers}
        lines = []
        # the longest paths, which are those of single classes, come last
        for path in sorted(paths, key=lambda path: (len(path), _counted(path))):
            cells = [numbers.get(path) for numbers in by_run.values()]
            measured = [cell for cell in cells if cell is not None]
            lines.append(
                {
                    "name": " ".join(path).replace("_", " "),
                    "unit": measured[0].get("unit", ""),
                    "chance": measured[0].get("chance"),
                    "num": sorted({cell["num"] for cell in measured if "num" in cell}),
                    "cells": cells,
                }
            )
        return lines

    @property
    def curves(self) -> list[dict[str, Any]]:
        """Return the plots of all runs, those of one title together."""
        by_title: dict[str, dict[str, Any]] = {}
        for run, report in self.reports.items():
            alone = len(self.reports) == 1
            for curve in report.get("curves", ()):
                # a matrix is of one run and has nothing to stand beside
                if "lines" not in curve:
                    title = curve["title"] if alone else f"{run}: {curve['title']}"
                    by_title[title] = {**curve, "title": title}
                    continue
                plot = {**curve, "lines": {}}
                lines = by_title.setdefault(curve["title"], plot)["lines"]
                # False before True: the chance level is drawn last, over the others
                for label in sorted(curve["lines"], key=_is_chance):
                    line = curve["lines"][label]
                    # of the same queries the chance level is that of all runs, drawn once
                    is_shared = _is_chance(label) and lines.get(label, line) == line
                    lines[label if alone or is_shared else f"{run}: {label}"] = line
        return list(by_title.values())


def read_runs(home: Path, names: Sequence[str]) -> list[RunPart]:
    """Read runs with all their evaluations, and single evaluations.

    Args:
        home: Folder of everything lightalign keeps.
        names: Names or folders of runs, and JSON files of evaluations, also as seen from `home`;
            none is the newest run.

    Raises:
        RunNotFoundError: There is no such finished run, or no such file.
        SpecError: One is named twice, two are called the same, or a file is no evaluation.
        StoreCorruptError: What the training of a run reported, or a named file, cannot be read.
    """
    # names, not places, are compared: they head the columns of the page
    places = [_place(home, name) for name in names] or [run_folder.find_run(home, None, kind=None)]
    called = Counter(_name(place) for place in places)
    twice = sorted(name for name, count in called.items() if count > 1)
    if twice:
        raise SpecError(f"each run once, and each of a name of its own: found {twice} again")
    return [_read_run(place) if place.is_dir() else _read_evaluation(place) for place in places]


def compare(parts: Sequence[RunPart]) -> list[Compared]:
    """Return the evaluations of all runs, those of one kind and split together; retrieval first.

    Splits are the same where dataset and ids are: a dataset that has changed is another one, and
    ids that are counters are the same in many.
    """
    by_key: dict[tuple[str, ...], Compared] = {}
    for part in parts:
        for report in part.evaluations:
            names = ("kind", "dataset", "split", "source", "split_hash", "variant")
            key = tuple(report.get(name, "") for name in names)
            by_key.setdefault(key, Compared(*key)).reports[part.name] = report
    return [by_key[key] for key in sorted(by_key, key=lambda key: (key[0] != "retrieval", key))]


def training_curves(parts: Sequence[RunPart]) -> list[dict[str, Any]]:
    """Return plots over the epochs: the loss, and of validation what the task of a run shows."""
    lines: dict[Curve, dict[str, Any]] = {_TRAINING_LOSS: {}}
    for part in parts:
        if not part.epochs:
            continue
        validations = [
            {**line.get("validation", {}), "epoch": line["epoch"]} for line in part.epochs
        ]
        curve = validation_numbers(part.report["spec"]).curve
        for plot, records in ((_TRAINING_LOSS, part.epochs), (curve, validations)):
            if plot is None:
                continue
            points = [(record["epoch"], record.get(plot.name)) for record in records]
            measured = [(epoch, value) for epoch, value in points if _is_number(value)]
            if measured:
                x, y = zip(*measured, strict=True)
                line = {"x": list(x), "y": [float(value) for value in y]}
                lines.setdefault(plot, {})[part.name] = line
    return [
        {"title": plot.title, "x_label": "epoch", "y_label": plot.label, "lines": of_runs}
        for plot, of_runs in lines.items()
        if of_runs
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _counted(path: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Return a sort key by which R@5 comes before R@10, and 4 shots before 16."""
    pieces = re.findall(r"\d+|\D+", " ".join(path))
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _is_chance(label: str) -> bool:
    return label.startswith("chance")


def _place(home: Path, name: str) -> Path:
    """Return the folder of a run, or the file of an evaluation.

    Raises:
        RunNotFoundError: There is neither.
    """
    place = expanded(Path(name))
    folders = (place, run_folder.runs_folder(home) / name)
    if place.suffix != ".json" or any(folder.is_dir() for folder in folders):
        return run_folder.find_run(home, name, kind=None)
    for path in (place, home / place, home / "evaluations" / place):
        if path.is_file():
            return path
    evaluations = sorted(path.name for path in (home / "evaluations").glob("*.json"))
    raise RunNotFoundError(
        f"no file {name!r}, neither here nor in {home}; in its evaluations: {evaluations or 'none'}"
    )


def _name(place: Path) -> str:
    return place.name if place.is_dir() else place.stem


def _read_evaluation(path: Path) -> RunPart:
    report = atomic_files.read_report(path)
    if not isinstance(report, Mapping):
        raise SpecError(f"{path} is no evaluation of lightalign")
    _check(report, path)
    return RunPart(_name(path), path.with_suffix(".html"), {}, [], [report])


def _read_run(folder: Path) -> RunPart:
    evaluations, unread = [], []
    for path in atomic_files.matching(folder, "*.json"):
        if path.name == run_folder.REPORT:
            continue
        # one file that cannot be read must not hide the others
        try:
            report = atomic_files.read_report(path)
            _check(report, path)
            evaluations.append(report)
        except (StoreCorruptError, SpecError, OSError) as error:
            unread.append(
                f"{folder.name}/{path.name} is left out: {_reason(error)}{way_out(path, error)}"
            )
    report = run_folder.read_report(folder)
    try:
        epochs = read_log(folder, report)
    except (StoreCorruptError, OSError) as error:
        epochs = []
        unread.append(f"{folder.name}/{run_folder.LOG} is left out: {_reason(error)}")
    return RunPart(folder.name, folder / "report.html", report, epochs, evaluations, unread)


def _reason(error: Exception) -> str:
    """Return why a file is left out; the system's own words name its path a second time."""
    is_ours = isinstance(error, LightalignError)
    return str(error) if is_ours else str(getattr(error, "strerror", None) or error)


def _check(report: Any, path: Path) -> None:
    """Refuse a report that a page cannot show.

    Raises:
        SpecError: It is of another version.
        StoreCorruptError: It is no evaluation.
    """
    if isinstance(report, Mapping) and report.get("schema", SCHEMA) != SCHEMA:
        raise SpecError(f"{path} is of another version of lightalign: evaluate again")
    check_evaluation(report, where=path)
