"""Turn reports on classifiers into tables and lines for people; prints nothing itself."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ..classification.zero_shot_spec import ZeroShotReport
from ..metrics.number import is_number, report_line, shown, shown_chance
from .tables import ResultTable

_COLUMNS = ("top_1", "top_5", "mean_per_class", "deviation_of_top_1")


def accuracy_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return a table of accuracies with intervals, chance and counts, then the warnings.

    One line for each kind of features in each setting, such as the epochs of a published table.
    """
    table = ResultTable(
        title=(
            f"{report['kind']} on {report['dataset']}/{report['split']}, percent with 95 % "
            "intervals (chance in brackets)"
        )
    )
    rows = [
        (features, setting, numbers)
        for features, settings in report["metrics"].items()
        for setting, numbers in settings.items()
    ]
    columns = [name for name in _COLUMNS if any(name in numbers for *_, numbers in rows)]
    if not any("top_5" in numbers for *_, numbers in rows):
        columns = _with_last_top(columns, rows[0][2])
    for name in ("features", "setting"):
        table.add_column(name)
    for name in columns:
        table.add_column(_heading(name), justify="right")
    table.add_column("chosen", justify="right")
    table.add_column("images", justify="right")
    for features, setting, numbers in rows:
        cells = [_cell(numbers.get(name)) for name in columns]
        counts = [str(number["num"]) for number in numbers.values() if is_number(number)]
        table.add_row(
            features.replace("_", " "),
            setting.replace("_", " "),
            *cells,
            _chosen(numbers),
            counts[0],
        )
    return [table, *(f"warning: {warning}" for warning in report["warnings"])]


def fine_tuned_line(trained: Mapping[str, Any]) -> str:
    """Return what a fine-tuning has trained."""
    return (
        f"trained {trained['num_parameters']:,} parameters on {trained['num_images']} images in "
        f"{trained['seconds']:.1f} s, the adapter's weights moved by "
        f"{100 * trained['adapter_moved']:.1f} %; kept epoch {trained['best']['epoch']} by "
        f"{trained['selected_by']}"
    )


def _with_last_top(columns: list[str], found: Mapping[str, Any]) -> list[str]:
    """Return the columns with the largest k there is, where there are too few classes for 5."""
    last = max(name for name in found if name.startswith("top_"))
    return columns if last in columns else [columns[0], last, *columns[1:]]


def _heading(name: str) -> str:
    return name.replace("top_", "top-").replace("_", " ")


def _cell(number: Mapping[str, Any] | None) -> str:
    if number is None:
        return "-"
    chance = f" ({shown_chance(number['chance'])})" if "chance" in number else ""
    return f"{shown(number)}{chance}"


def _chosen(found: Mapping[str, Any]) -> str:
    """Return what was chosen by held-out training images: `C 0.01`; of many draws the range."""
    for name, value in found.items():
        if name.startswith("chosen_"):
            values = sorted(set(value)) if isinstance(value, list) else [value]
            ends = dict.fromkeys((values[0], values[-1]))
            return f"{name.removeprefix('chosen_')} {' to '.join(f'{end:g}' for end in ends)}"
    return "-"


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
    for name, numbers in metrics.items():
        cells = [_zero_shot_cell(numbers[column]) for column in columns]
        table.add_row(Text(name), *cells, str(numbers["top_1"]["num"]))
    return table


def _zero_shot_cell(number: Mapping[str, Any]) -> Text:
    return Text(f"{shown(number)} ({shown_chance(number['chance'])})")


def _classes(report: Mapping[str, Any]) -> list[Table | str]:
    name, prompt_metrics = next(iter(report["metrics"].items()))
    classes = prompt_metrics["classes"]
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
        cells = [_zero_shot_cell(numbers[column]) for column in columns]
        table.add_row(Text(one), *cells, str(numbers[columns[0]]["num"]), Text(most[one]))
    note = f"{left_out} classes between these are in the report"
    return [table, note] if left_out > 0 else [table]


def _taken_for(confusion: Mapping[str, Any]) -> dict[str, str]:
    """Return for each class the wrong one that it is most often taken for, with the count."""
    names = confusion["names"]
    mistakes = {}
    for index, counts in enumerate(confusion["matrix"]):
        wrong = [0 if place == index else count for place, count in enumerate(counts)]
        most = max(wrong)
        mistakes[names[index]] = f"{names[wrong.index(most)]} ({most})" if most else "-"
    return mistakes
