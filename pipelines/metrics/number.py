"""Report of every evaluation: numbers with what they rest on, and where they come from.

A report is one JSON object, `<run>/<kind>-<dataset>-<split>[-<variant>].json`; the name of one of
another dataset or of other items ends in `--` and the first letters of their hash:

    schema            version of this layout
    kind              name of the evaluation, such as `retrieval`
    run, dataset, split, source, split_hash
                      what was evaluated; `split_hash` is that of the list of its ids
    variant           what sets it apart from others of its kind and split, such as a scoring
    options           all options of the evaluation
    stores, encoders, adapter_sha256, training, versions
                      cache keys, encoders, weights, resolved spec of the run, libraries
    metrics           tables of tables; each leaf is a number as `Number.table` writes it
    definitions       what each name in `metrics` means
    curves            plots: {title, x_label, y_label, lines: {label: {x: [...], y: [...]}}};
                      a line may have `low` and `high`, the ends of its intervals, too; a confusion
                      has names and matrix (a row of counts a class) instead of lines
    failures          the worst items, for people to look at: {query: id or ids, rank, texts, facts,
                      first: [...], right: [...]}, without what there is not; what came first and
                      what is right are {id or name, score}
    warnings          what to know before these numbers are believed
    leakage           what training and evaluation have in common; of `similarity` the pairs that
                      are both fitted on and measured
    seconds           time it took
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...featcache.config import fingerprint

SCHEMA = 1
_WHOLE = 99.95  # from here on three digits leave nothing behind the point


@dataclass(frozen=True, kw_only=True)
class Number:
    """One measured number with what it rests on.

    Attributes:
        value: The number.
        num: How many queries, images or pairs it is measured on.
        interval: 95 % interval, by drawing items again or of a share; None where neither means
            anything.
        chance: What guessing gives, or None where there is no such thing.
        unit: `%`, or empty for a bare number.
    """

    value: float
    num: int
    interval: tuple[float, float] | None = None
    chance: float | None = None
    unit: str = "%"

    def table(self) -> dict[str, Any]:
        """Return it as JSON values; what is None is left out."""
        fields = {
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "chance": self.chance,
            "num": self.num,
            "unit": self.unit,
        }
        return {key: value for key, value in fields.items() if value is not None}


def is_number(value: object) -> bool:
    """Return whether a part of `metrics` is a number as `Number.table` writes it."""
    return isinstance(value, Mapping) and "value" in value and "num" in value


def cells_of(
    metrics: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every number of `metrics`, and every fact as a value alone, with the names to it.

    A fact is what was set or chosen, such as a threshold; of what was chosen in each of many draws
    its range. Left out are curves and other lists, counts of items, which stand beside each number,
    and seconds, which say nothing of it.
    """
    for name, value in metrics.items():
        place = (*path, name)
        if is_number(value):
            yield place, value
        elif isinstance(value, Mapping):
            yield from cells_of(value, place)
        elif name == "seconds" or name.startswith("num_"):
            continue
        elif isinstance(value, str | int | float):
            yield place, {"value": value}
        elif name.startswith("chosen_") and value:
            low, high = min(value), max(value)
            yield place, {"value": low if low == high else f"{low:g} to {high:g}"}


def numbers_of(
    metrics: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every number of `metrics` with the names that lead to it."""
    return ((path, cell) for path, cell in cells_of(metrics) if is_number(cell))


def shown(number: Mapping[str, Any], digits: int = 1) -> str:
    """Return a number for people, with its interval: `41.2 [39.8, 42.7]`.

    What `cells_of` returns without a count stands in full: two thresholds must look like two.
    """
    value = number["value"]
    if "num" not in number:
        if isinstance(value, float):
            return f"{value:.4g}"
        return f"{value:,}" if isinstance(value, int) else str(value)
    text = f"{value:.{digits}f}"
    if "interval" not in number:
        return text
    low, high = number["interval"]
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def shown_chance(value: float) -> str:
    """Return a chance level for people: three digits, and never an exponent.

    Whole numbers from a hundred on: `100`, `12,500`; below that `62.5`, `0.02`, `0.000123`.
    """
    if abs(value) >= _WHOLE:
        return f"{value:,.0f}"
    # by way of Decimal, as 1e-05 would be `1e-05` for a float
    return format(Decimal(f"{value:.3g}"), "f")


def split_hash(ids: Sequence[str]) -> str:
    """Return the hash that pins a split: of its ids, in any order."""
    return fingerprint(sorted(ids))


def report_line(path: Path | None, report: Mapping[str, Any]) -> str:
    """Return where a report is, or why it is nowhere."""
    return f"report: {path}" if path is not None else f"report: none; {report['warnings'][-1]}"


def written(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables of numbers as JSON values."""
    tables: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Number):
            tables[name] = value.table()
        else:
            tables[name] = written(value) if isinstance(value, Mapping) else value
    return tables
