"""Turn reports of `similarity` and `rank-encoders` into tables; prints nothing itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ..metrics.number import shown, shown_chance
from .tables import ResultTable

_THRESHOLDS = ("fixed", "fitted")
_PER_CLASS = ("precision", "recall", "f1")


def similarity_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return the tables of a `similarity` report: all scorers, and each class at each threshold."""
    metrics = report["metrics"]
    place = f"{report['dataset']}/{report['split']}"
    counts = {
        number["num"]
        for numbers in metrics.values()
        for number in numbers.values()
        if "value" in number
    }
    title = f"similarity on {place}, {max(counts):,} pairs [95 % interval]"
    if any("spearman" in numbers for numbers in metrics.values()):
        columns = {"spearman": "Spearman x100 (0)", "pearson": "Pearson x100 (0)"}
        rows = [
            [name, *(_cell(numbers, key) for key in columns)] for name, numbers in metrics.items()
        ]
        return [_table(title, ["cosine", *columns.values()], rows)]
    return [
        _table(f"{title}, percent (chance)", *_binary_rows(metrics)),
        _table("by class: 0 not alike, 1 alike; percent", *_class_rows(metrics)),
    ]


def ranking_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return the table of a `rank-encoders` report, the most promising pair first."""
    metrics = report["metrics"]
    first = next(iter(metrics.values()))
    title = (
        f"encoders on {report['dataset']}/{report['split']}, {first['cka']['num']:,} items, "
        f"{first['ridge']['num']:,} of them held out [95 % interval] (chance)"
    )
    columns = {
        "ridge": f"ridge R@{report['options']['recall_at']} %",
        "image_to_text": "image to text",
        "text_to_image": "text to image",
        "mutual_knn": "mutual neighbours %",
        "cka": "CKA x100",
    }
    rows = [
        [*pair.split(" | "), *(_cell(numbers, key) for key in columns)]
        for pair, numbers in metrics.items()
    ]
    return [_table(title, ["images", "texts", *columns.values()], rows)]


def _binary_rows(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    first = next(iter(metrics.values()))
    named = [name for name in _THRESHOLDS if name in first]
    columns = ["cosine", "AUROC", "AP"]
    for name in named:
        columns += [f"{name} threshold", "accuracy", "F1 of alike"]
    rows = []
    for label, numbers in metrics.items():
        row = [label, _cell(numbers, "auroc"), _cell(numbers, "ap")]
        for name in named:
            at = numbers[name]
            row += [f"{at['threshold']:.3f}", _cell(at, "accuracy"), _cell(at, "f1_1")]
        rows.append(row)
    return columns, rows


def _class_rows(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = ["cosine", "threshold", "class", *_PER_CLASS]
    rows = [
        [label, f"{name} {numbers[name]['threshold']:.3f}", str(class_label)]
        + [_cell(numbers[name], f"{key}_{class_label}") for key in _PER_CLASS]
        for label, numbers in metrics.items()
        for name in _THRESHOLDS
        if name in numbers
        for class_label in (0, 1)
    ]
    return columns, rows


def _cell(found: Mapping[str, Any], key: str) -> str:
    """Return a number with its interval, and its chance level where that is not plain zero."""
    number = found.get(key)
    if number is None:
        return "-"
    chance = number.get("chance")
    return shown(number) + (f" ({shown_chance(chance)})" if chance else "")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = ResultTable(title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
