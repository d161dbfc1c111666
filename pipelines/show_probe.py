"""Turn reports on classifiers into tables and lines for people; prints nothing itself."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from .metrics.number import is_number, shown, shown_chance
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
        (features, setting, found)
        for features, settings in report["metrics"].items()
        for setting, found in settings.items()
    ]
    columns = [name for name in _COLUMNS if any(name in found for *_, found in rows)]
    if not any("top_5" in found for *_, found in rows):
        columns = _with_last_top(columns, rows[0][2])
    for name in ("features", "setting"):
        table.add_column(name)
    for name in columns:
        table.add_column(_heading(name), justify="right")
    table.add_column("chosen", justify="right")
    table.add_column("images", justify="right")
    for features, setting, found in rows:
        cells = [_cell(found.get(name)) for name in columns]
        counts = [str(one["num"]) for one in found.values() if is_number(one)]
        table.add_row(
            features.replace("_", " "),
            setting.replace("_", " "),
            *cells,
            _chosen(found),
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
