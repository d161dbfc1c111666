"""Turn reports of retrieval into tables for people; prints nothing itself."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ..metrics.number import shown, shown_chance
from .search import quality_line
from .tables import ResultTable

_OWN = "own_in_first_5"
_ROWS = {
    "mean_average_precision": "mAP",
    "mean_reciprocal_rank": "MRR",
    "median_rank": "median rank",
    "mean_rank": "mean rank",
}


def retrieval_parts(report: Mapping[str, Any]) -> list[Table | str]:
    """Return a table of all numbers by the cosine, and one by another scoring if there is one."""
    metrics = report["metrics"]
    place = f"{report['dataset']}/{report['split']}"
    parts: list[Table | str] = [_table(metrics, f"retrieval on {place}")]
    for name, numbers in metrics.items():
        if "index" in numbers:
            made = numbers["index"]
            what = f"{name.replace('_', ' ')} by {made['kind']} ({made['factory']})"
            parts.append(f"{what}: {quality_line(made)}")
    parts += _folds(metrics)
    scoring = report["options"]["scoring"]
    if scoring != "cosine":
        transductive = ", transductive" if scoring == "dual-softmax" else ""
        title = f"the same by {scoring}{transductive}"
        other = metrics[scoring.replace("-", "_")]
        parts += [_table(other, title), *_folds(other)]
    return parts


def _folds(metrics: Mapping[str, Any]) -> list[Table]:
    """Return a table of the means over folds, if there are any."""
    if "folds" not in metrics:
        return []
    folds = metrics["folds"]
    title = f"mean over {folds['num_folds']} folds of images"
    table = ResultTable(title=f"{title}: value [95 % interval] (chance)")
    table.add_column("")
    directions = {
        name: direction for name, direction in folds.items() if isinstance(direction, Mapping)
    }
    directions = {
        name: direction for name, direction in directions.items() if "recall" in direction
    }
    for name, direction in directions.items():
        sizes = sorted(set(direction["galleries"]))
        gallery = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        counts = f"{direction['num_queries']:,} queries, galleries of {gallery}"
        table.add_column(f"{name.replace('_', ' ')}\n{counts}", justify="right")
    for k in dict.fromkeys(k for direction in directions.values() for k in direction["recall"]):
        table.add_row(
            f"R@{k}, %", *(_cell(direction["recall"].get(k)) for direction in directions.values())
        )
    total = folds["recall_sum"]
    table.add_row(f"RSUM, {total['num']:,} queries", _cell(total))
    return [table]


def _table(metrics: Mapping[str, Any], title: str) -> Table:
    """Return one line a number: each direction with its interval and chance level."""
    table = ResultTable(title=f"{title}: value [95 % interval] (chance)")
    table.add_column("")
    directions = {name: direction for name, direction in metrics.items() if "recall" in direction}
    for name, direction in directions.items():
        counts = f"{direction['num_queries']:,} queries, gallery of {direction['num_gallery']:,}"
        table.add_column(f"{name.replace('_', ' ')}\n{counts}", justify="right")
    all_numbers = list(directions.values())
    ks = list(dict.fromkeys(k for numbers in all_numbers for k in numbers["recall"]))
    for k in ks:
        table.add_row(f"R@{k}, %", *(_cell(numbers["recall"].get(k)) for numbers in all_numbers))
    last = max(numbers["curve"]["k"][-1] for numbers in all_numbers)
    if str(last) not in ks:
        table.add_row(
            f"R@{last:,}, %", *(_cell(_last_point(numbers, last)) for numbers in all_numbers)
        )
    for least in dict.fromkeys(j for numbers in all_numbers for j in numbers.get(_OWN, {})):
        cells = (_cell(numbers.get(_OWN, {}).get(least)) for numbers in all_numbers)
        table.add_row(f"{least}+ own in the first 5, %", *cells)
    for key, label in _ROWS.items():
        if key not in all_numbers[0]:  # an approximate index does not tell
            continue
        unit = ", %" if all_numbers[0][key]["unit"] == "%" else ""
        table.add_row(f"{label}{unit}", *(_cell(numbers[key]) for numbers in all_numbers))
    total = metrics["recall_sum"]
    table.add_row(f"RSUM, {total['num']:,} queries", _cell(total))
    return table


def _last_point(found: Mapping[str, Any], k: int) -> Mapping[str, Any] | None:
    """Return the last number of a curve, if it is that of `k`."""
    curve = found["curve"]
    if curve["k"][-1] != k:
        return None
    interval = [curve["low"][-1], curve["high"][-1]]
    return {"value": curve["recall"][-1], "interval": interval, "chance": curve["chance"][-1]}


def _cell(number: Mapping[str, Any] | None) -> Text:
    return Text("-" if number is None else f"{shown(number)} ({shown_chance(number['chance'])})")
