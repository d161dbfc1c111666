"""Turn the report of a zero-shot classification into tables; prints nothing itself."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from .classification.zero_shot import ZeroShotReport
from .metrics.number import report_line, shown, shown_chance
from .tables import ResultTable

_ALL_CLASSES = 20  # so many are all shown, else as many of the worst and the best together


def zero_shot_parts(done: ZeroShotReport) -> list[Table | str]:
    """Return the accuracy of all prompts, that of the classes by the first, and where it lies."""
    report = done.report
    return [
        _overall(report),
        *_classes(report),
        *(f"warning: {warning}" for warning in report["warnings"]),
        report_line(done.path, done.report),
        *([f"confusion: {done.plot}"] if done.plot is not None else []),
    ]


def _overall(report: Mapping[str, Any]) -> Table:
    metrics = report["metrics"]
    title = f"zero-shot on {report['dataset']}/{report['split']}, percent [95 % interval] (chance)"
    table = ResultTable(title)
    first = next(iter(metrics.values()))
    columns = [name for name in first if name != "classes"]
    table.add_column("prompts")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("images", justify="right")
    for name, found in metrics.items():
        cells = [_cell(found[column]) for column in columns]
        table.add_row(Text(name), *cells, str(found["top_1"]["num"]))
    return table


def _cell(number: Mapping[str, Any]) -> Text:
    return Text(f"{shown(number)} ({shown_chance(number['chance'])})")


def _classes(report: Mapping[str, Any]) -> list[Table | str]:
    name, found = next(iter(report["metrics"].items()))
    classes = found["classes"]
    order = sorted(classes, key=lambda one: classes[one]["top_1"]["value"])
    left_out = len(order) - _ALL_CLASSES
    if left_out > 0:
        half = _ALL_CLASSES // 2
        order = [*order[:half], *order[-half:]]
    title = f"by class, worst first, prompts {name}"
    table = ResultTable(title)
    tops = list(next(iter(classes.values())))
    columns = list(dict.fromkeys((tops[0], tops[-1])))  # one where there is but one
    table.add_column("class")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("images", justify="right")
    table.add_column("most often taken for")
    most = _taken_for(report["curves"][-1])
    for one in order:
        numbers = classes[one]
        cells = [_cell(numbers[column]) for column in columns]
        table.add_row(Text(one), *cells, str(numbers[columns[0]]["num"]), Text(most[one]))
    note = f"{left_out} classes between these are in the report"
    return [table, note] if left_out > 0 else [table]


def _taken_for(confusion: Mapping[str, Any]) -> dict[str, str]:
    """Return for each class the wrong one that it is most often taken for, with the count."""
    names = confusion["names"]
    found = {}
    for index, counts in enumerate(confusion["matrix"]):
        wrong = [0 if place == index else count for place, count in enumerate(counts)]
        most = max(wrong)
        found[names[index]] = f"{names[wrong.index(most)]} ({most})" if most else "-"
    return found
