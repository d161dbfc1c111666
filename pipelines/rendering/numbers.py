"""One table for the numbers of every evaluation: value, 95 % interval, chance level and count."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from ..metrics.number import cells_of, shown, shown_chance
from .tables import ResultTable

_NAMES = {
    "ap": "AP",
    "auroc": "AUROC",
    "cka": "CKA x100",
    "mean_average_precision": "mAP",
    "mean_reciprocal_rank": "MRR",
    "mutual_knn": "mutual neighbours",
    "pearson": "Pearson x100",
    "recall_sum": "RSUM",
    "recall_sum_difference": "RSUM less that of the cosine",
    "spearman": "Spearman x100",
    **{f"wups_{threshold}": f"WUPS@{threshold}" for threshold in ("0.9", "0", "0.925")},
    **{
        f"{measure}_{label}": f"{measure.replace('f1', 'F1')} of {pairs}"
        for label, pairs in ((1, "alike"), (0, "not alike"))
        for measure in ("precision", "recall", "f1")
    },
}


def number_table(
    title: str,
    subjects: Mapping[str, Mapping[str, Any]],
    *,
    corner: str = "",
    subjects_down: bool = False,
) -> Table:
    """Return a table of all numbers of some subjects, and of what was set or chosen for them.

    A column is headed by the count `n` that its first number rests on; a number that rests on
    another says so.

    Args:
        title: What the numbers are of.
        subjects: Part of a report's `metrics` that is of each subject, such as a direction.
        corner: What stands above the names of the rows.
        subjects_down: Whether each subject is a row, and not a column.
    """
    tables = {
        subject: {_name(path, cell): cell for path, cell in cells_of(metrics)}
        for subject, metrics in subjects.items()
    }
    # the subject with most numbers has all in their order; others may lack some in between
    fullest_first = sorted(tables.values(), key=len, reverse=True)
    names = list(dict.fromkeys(name for cells in fullest_first for name in cells))
    # few subjects stand side by side, where they are compared; many, or ranked ones, are rows
    rows, columns = (list(tables), names) if subjects_down else (names, list(tables))
    table = ResultTable(f"{title}: value [95 % interval] (chance)")
    table.add_column(corner)
    shown_columns = []
    for column in columns:
        cells = [
            tables[row].get(column) if subjects_down else tables[column].get(row) for row in rows
        ]
        num = next((cell["num"] for cell in cells if cell and "num" in cell), None)
        table.add_column(
            column if num is None else f"{column}\nn = {num:,}",
            justify="left" if num is None else "right",
        )
        shown_columns.append([_shown(cell, num) for cell in cells])
    for row, *shown_cells in zip(rows, *shown_columns, strict=True):
        table.add_row(row, *shown_cells)
    return table


def _name(path: tuple[str, ...], cell: Mapping[str, Any]) -> str:
    """Return the usual name of a number, with its unit: `R@5, %`, `mean rank`."""
    unit = f", {cell['unit']}" if cell.get("unit") else ""
    *groups, leaf = path
    # two groups are named by a rank or a count, which alone says nothing
    if groups == ["recall"]:
        return f"R@{leaf}{unit}"
    if groups == ["own_in_first_5"]:
        return f"{leaf}+ own in the first 5{unit}"
    words = " ".join([*groups, _NAMES.get(leaf, leaf)])
    return f"{words.replace('top_', 'top-').replace('_', ' ')}{unit}"


def _shown(cell: Mapping[str, Any] | None, usual_num: int | None) -> str:
    if cell is None:
        return "-"
    chance = f" ({shown_chance(cell['chance'])})" if "chance" in cell else ""
    count = f", n = {cell['num']:,}" if cell.get("num", usual_num) != usual_num else ""
    return f"{shown(cell)}{chance}{count}"
