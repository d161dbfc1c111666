"""The commands that give datasets names and say what they hold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...featcache.home import expanded
from ._common import DEFAULT_HOME, CommandOutput, Home, Overrides, source_options
from ._from_spec import command
from ._set_keys import source_keys

if TYPE_CHECKING:
    from ...featcache.known_datasets import DatasetVersion
    from ..inputs.datasets import AnswerCounts, Preview, RegionCounts

data_app = typer.Typer(no_args_is_help=True, help="Give datasets names, and see what they hold.")
Name = Annotated[str, typer.Argument(help="Name of the dataset, as `data list` prints it.")]
Kind = Annotated[
    str | None, typer.Option(help="Family, see `lightalign list datasets`; found if not given.")
]
Place = Annotated[Path, typer.Argument(help="Folder or file of the dataset.")]
_MOST_ROWS = 10  # that are skipped; `--json` has all
_MOST_SHOWN = 100  # letters of a cell of the preview


@data_app.command("add")
@command(set_keys=source_keys)
def data_add(
    output: CommandOutput,
    *,
    name: Annotated[str, typer.Argument(help="Name of the dataset from now on.")],
    place: Annotated[
        Path | None, typer.Argument(help="Its folder or file; none of one that is drawn.")
    ] = None,
    kind: Kind = None,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Give a dataset a name, under which every command finds it with its place and options."""
    from ...featcache.known_datasets import newest, stood_for, written_name
    from ..inputs.datasets import add, preview

    options = source_options(overrides, verb="data add") if overrides else None
    path = None if place is None else expanded(place)
    previous = newest(home, written_name(name))
    version, source = add(home, name, path, kind=kind, options=options)
    before = stood_for(previous, version)
    shown = preview(version, source)
    output.result(
        {**_table(shown.version), "stood_for": before},
        *_lines(shown.version),
        _counted(shown),
        *_answered(shown.answers),
        *_boxed(shown.regions),
        *_remarks(shown),
        *([] if before is None else [before]),
    )


@data_app.command("list")
@command()
def data_list(output: CommandOutput, *, home: Home = DEFAULT_HOME) -> None:
    """List the datasets that have a name, with their families and places."""
    from ...featcache.known_datasets import FOLDER, read_all
    from ..rendering.tables import rows_table

    versions, unread = read_all(home)
    tables = [_table(version) for version in versions.values()]
    rows = [
        {
            "name": table["name"],
            "kind": table["kind"],
            "splits": ", ".join(table["splits"]),
            "place": table["place"] or "drawn",
        }
        for table in tables
    ]
    rows += [
        {"name": name, "kind": "unreadable", "splits": "", "place": problem}
        for name, problem in unread.items()
    ]
    empty = f"no datasets in {home / FOLDER}"
    value = {"datasets": tables, "unreadable": unread}
    output.answer(value, rows_table(rows, below=("place",)) if rows else empty)


@data_app.command("show")
@command()
def data_show(output: CommandOutput, *, name: Name, home: Home = DEFAULT_HOME) -> None:
    """Show what a name stands for, and stood for before; its answers and boxes, if it has any."""
    from ...featcache.errors import DatasetFormatError, DatasetNotFoundError, SpecError
    from ...featcache.known_datasets import read_versions
    from ...featcache.links import ANSWERS
    from ...featcache.sources.opening import open_version
    from ..inputs.datasets import answer_counts, counted_labels, region_counts, require

    current = require(home, name)
    earlier = read_versions(home, current.name)[:-1]
    lines = _lines(current)
    answers: list[AnswerCounts] = []
    regions: list[RegionCounts] = []
    labels = counted_labels(current)
    if labels:
        try:
            source = open_version(current, home=home)
            answers, regions = answer_counts(source), region_counts(source)
            lines += [*_answered(answers), *_boxed(regions)]
        except (DatasetFormatError, DatasetNotFoundError, SpecError) as error:
            what = "answers" if ANSWERS in labels else "boxes"
            lines.append(f"{what} are not counted: {error}")
    views = _views(home, current.name)
    lines += [
        f"{view['split']}: {view['view']['name']} of {view['encoder']}, {view['rows']:,} rows"
        for view in views
    ]
    for version in earlier:
        lines += ["before:", *(f"  {line}" for line in _lines(version))]
    value = {**_table(current), "earlier": [_table(version) for version in earlier]}
    value |= _label_tables(answers, regions)
    if views:
        value["views"] = views
    output.answer(value, *lines)


@data_app.command("preview")
@command(set_keys=source_keys)
def data_preview(
    output: CommandOutput,
    *,
    name: Annotated[str, typer.Argument(help="Dataset as NAME or NAME=PATH.")],
    split: Annotated[str | None, typer.Option(help="Split of the rows; the first if none.")] = None,
    kind: Kind = None,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Show the first rows as they will be read, the items of every split, and what is left out."""
    from ...featcache.sources.opening import open_defined
    from ..inputs.datasets import preview
    from ..rendering.tables import rows_table

    options = source_options(overrides, verb="data preview") if overrides else None
    shown = preview(*open_defined(name, home=home, options=options, kind=kind), split=split)
    value = {
        **_table(shown.version),
        "counts": [count.table() for count in shown.counts],
        "split": shown.split,
        "rows": shown.rows,
        "notes": list(shown.notes),
        "unreadable": list(shown.unreadable),
        "skipped_rows": [vars(row) for row in shown.skipped_rows],
    }
    value |= _label_tables(shown.answers, shown.regions)
    rows = [{key: _cut(cell) for key, cell in row.items()} for row in shown.rows]
    output.answer(
        value,
        *_lines(shown.version),
        _counted(shown),
        *_answered(shown.answers),
        *_boxed(shown.regions),
        *_remarks(shown),
        f"the first {len(rows)} of {shown.split}:",
        rows_table(rows, below=("file",)) if rows else "nothing",
    )


@data_app.command("move")
@command()
def data_move(
    output: CommandOutput, *, name: Name, place: Place, home: Home = DEFAULT_HOME
) -> None:
    """Set the place of a dataset that has moved; what lies there must be the same data."""
    from ..inputs.datasets import move

    version = move(home, name, expanded(place))
    output.result(_table(version), *_lines(version))


@data_app.command("rm")
@command()
def data_rm(output: CommandOutput, *, name: Name, home: Home = DEFAULT_HOME) -> None:
    """Forget a name; the dataset's own files, and features that were extracted, stay."""
    from ..inputs.datasets import forget

    removed = forget(home, name)
    output.result({"forgotten": name}, f"forgotten: {removed}")


def _views(home: Path, name: str) -> list[dict[str, Any]]:
    """Return the views that are extracted of a dataset, newest first."""
    from ...featcache.store.catalog import read_catalog

    return [
        {
            "split": entry.description.split,
            "encoder": entry.description.encoder,
            "view": entry.description.view,
            "rows": entry.description.num_items,
            "key": entry.key,
        }
        for entry in read_catalog(home, f"{name}/*").views
        if entry.complete
    ]


def _table(version: "DatasetVersion") -> dict[str, Any]:
    return {
        "name": version.name,
        "kind": version.kind,
        "place": None if version.place is None else str(version.place),
        "options": dict(version.options),
        "splits": dict(version.splits),
    }


def _lines(version: "DatasetVersion") -> list[str]:
    place = "drawn" if version.place is None else str(version.place)
    lines = [f"{version.name}: {version.kind}, {place}"]
    lines += [f"  {name} = {value}" for name, value in version.options.items()]
    return lines


def _counted(preview: "Preview") -> Any:
    from ..rendering.tables import rows_table

    return rows_table([_without_zeros(count.table(), preview) for count in preview.counts])


def _answered(counts: "Sequence[AnswerCounts]") -> list[str]:
    """Return a line on the answers of each split."""
    lines = []
    for count in counts:
        line = f"{count.split}: {count.questions:,} questions"
        if count.most_frequent is None:
            lines.append(f"{line} without answers")
            continue
        frequent = f"{_cut(count.most_frequent)!r} ({100 * count.share:.1f} %)"
        listed = "" if count.listed is None else f"; the dataset lists {count.listed:,}"
        lines.append(
            f"{line}, {count.different:,} different answers, {frequent} most often{listed}"
        )
    return lines


def _boxed(counts: "Sequence[RegionCounts]") -> list[str]:
    """Return a line on the boxes of each split."""
    lines = []
    for count in counts:
        line = f"{count.split}: {count.boxes:,} boxes in {count.images:,} images"
        if count.most_frequent is not None:
            frequent = f"{_cut(count.most_frequent)!r} ({100 * count.share:.1f} %)"
            line += f" of {count.classes:,} classes, {frequent} most often"
        if count.mentions:
            line += f"; {count.mentions:,} mentions in {count.texts:,} texts"
        lines.append(line)
    return lines


def _label_tables(
    answers: "Sequence[AnswerCounts]", regions: "Sequence[RegionCounts]"
) -> dict[str, Any]:
    """Return the counts of labels by name, those of datasets without them left out."""
    tables = {"answers": answers, "regions": regions}
    return {name: [vars(count) for count in counts] for name, counts in tables.items() if counts}


def _without_zeros(row: Mapping[str, Any], preview: "Preview") -> dict[str, Any]:
    """Return the counts of a split but for those that are zero in all splits."""
    counts = [count.table() for count in preview.counts]
    return {
        name: value
        for name, value in row.items()
        if name in {"split", "unreadable"} or any(count.get(name) for count in counts)
    }


def _remarks(preview: "Preview") -> Sequence[str]:
    rows = [f"{row.place}: {row.reason}" for row in preview.skipped_rows[:_MOST_ROWS]]
    more = len(preview.skipped_rows) - len(rows)
    rows += [f"{more:,} more rows"] if more else []
    return [*preview.notes, *(f"will be skipped: {line}" for line in (*preview.unreadable, *rows))]


def _cut(cell: Any) -> str:
    text = str(cell)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} ..."
