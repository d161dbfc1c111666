"""Answer one query, a text or an image, from a saved index."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.config import check_counts
from ...featcache.encoders.loading import load_backend
from ...featcache.errors import (
    DatasetChangedError,
    DatasetFormatError,
    DatasetNotFoundError,
    IndexNotFoundError,
    LightalignError,
    SpecError,
    StoreCorruptError,
)
from ...featcache.home import expanded
from ...featcache.sources.base import Source
from ...featcache.sources.opening import parse_data
from ...featcache.types import IMAGE_TEXT, Item, Modality, Side
from ..common.destinations import check_file
from ..common.progress import SILENT, Progress
from ..inputs.original_dataset import open_there
from ..runs import run_folder
from ..runs.trained_run import TrainedRun
from .build_index import side_named
from .original_items import find_items

SHEETS = (".html", ".png")
_PICTURES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".jp2"}


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """Settings of one search.

    Attributes:
        home: Folder of everything lightalign keeps.
        run: Name or folder of a run, or None for the newest.
        query: A text, or the path of an image file.
        query_is: `text` or `image`, or None: an image if such a file is there.
        side: What to find, such as `image`; None for the run's first side.
        data: `NAME` of the dataset whose index is searched, or None for the newest index;
            `NAME=PATH` for that of the dataset which lies there.
        split: Split whose index is searched, or None for the newest.
        k: How many to find, at most.
        sheet: Where to write a contact sheet, by the end of its name HTML or PNG; or None.
        default_sheet: Write one as `search.html` into the run, if `sheet` is None.
        force: Replace a file at `sheet` that is no contact sheet.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    query: str
    run: str | None = None
    query_is: str | None = None
    side: str | None = None
    data: str | None = None
    split: str | None = None
    k: int = 20
    sheet: Path | None = None
    default_sheet: bool = False
    force: bool = False
    weights: Mapping[str, Path] | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_counts(self, {"k": 1}, where="--")
        if not self.query.strip():
            raise SpecError("the query is empty")
        if self.query_is not in {None, "text", "image"}:
            raise SpecError(f"a query is text or image, not {self.query_is!r}")
        if self.sheet is not None and self.sheet.suffix.lower() not in SHEETS:
            raise SpecError(f"a contact sheet is one of {SHEETS}, found {str(self.sheet)!r}")
        if self.sheet is not None:
            check_file(self.sheet, option="--sheet", force=self.force)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One answer of a search.

    Attributes:
        rank: Its place, from 1.
        score: Its cosine to the query, from -1 to 1; of an index that keeps codes in place of the
            vectors (`pq`, `ivf-sq8`, `PCA64,Flat`) about that, and not within these bounds.
        id: Its id in the dataset.
        path: Its file, or None where that is not known or not there.
        text: The text itself, of a text, where it is known.
    """

    rank: int
    score: float
    id: str
    path: str | None = None
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """Report of one search.

    Attributes:
        query: The query.
        query_is: `text` or `image`.
        index: Folder of the index.
        manifest: Its manifest.
        hits: The answers, best first.
        sheet: The contact sheet, or None.
        warnings: What to know of the answers.
        seconds: Time of each part: `import` of libraries, `open_index`, `open_encoder`, `embed`,
            `search`, `find_files`, and `sheet` where there is one.
    """

    query: str
    query_is: str
    index: Path
    manifest: Mapping[str, Any]
    hits: Sequence[Hit]
    sheet: Path | None
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]


class _Clock:
    """Measure the parts of a piece of work, one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def ends(self, part: str) -> None:
        """Count the time since the last part as that of `part`."""
        now = time.perf_counter()
        self.seconds[part] = now - self._began
        self._began = now


def run(spec: SearchSpec, progress: Progress = SILENT) -> SearchReport:
    """Embed a query through the run's encoder and adapter, and find what is nearest.

    Raises:
        RunNotFoundError: There is no such finished run.
        IndexNotFoundError: The run has no index of that.
        StaleIndexError: The index is of another adapter, or of other features.
        StoreCorruptError: A file of the run or of the index is damaged, or the run did not record
            its encoders.
        UnknownNameError: The run has no such side.
        SpecError: The query is an image and both sides are texts, or no such image is there, or it
            is a folder.
        LightalignError: The query cannot be embedded, see `Embedder`.
    """
    clock = _Clock()
    evaluated = TrainedRun(spec.home, spec.run, device=spec.device)
    searched = side_named(evaluated, spec.side)
    query = _query_of(spec, evaluated)
    sheet = _sheet_of(spec, evaluated)
    asking = _asking_side(evaluated, query, searched)
    load_backend(_backend(evaluated, asking))
    from ..inputs.text_notes import TextReader
    from ..ranking.faiss_index import search
    from ..runs.embedder import Embedder
    from .saved_index import again_command, open_index

    clock.ends("import")
    folder, opened = _index_of(spec, evaluated, searched)
    saved = open_index(folder, run=evaluated.folder, home=spec.home)
    clock.ends("open_index")
    weights = {name: expanded(path) for name, path in (spec.weights or {}).items()}
    embedder = Embedder(evaluated.folder, device=spec.device, weights=weights)
    embedder.reading(asking)
    clock.ends("open_encoder")
    vectors = (
        embedder.embed_images([query.path])
        if query.path is not None
        else embedder.embed_texts([spec.query], side=asking.value)
    )
    notes = (
        []
        if query.path is not None
        else TextReader(embedder.reading(asking).encoder).warnings(spec.query)
    )
    clock.ends("embed")
    scores, rows = search(saved.index, vectors, min(spec.k, saved.index.ntotal))
    clock.ends("search")
    nearest = rows[0][rows[0] >= 0].tolist()  # an approximate index may find fewer
    again = again_command(saved.manifest, run=evaluated.folder, home=spec.home)
    if nearest and max(nearest) >= len(saved.ids):
        raise StoreCorruptError(
            f"{folder} answers with rows that it does not have: write it anew by {again}"
        )
    items, warning = find_items(
        saved, nearest, home=spec.home, opened=opened, pictures=sheet is not None, again=again
    )
    answers = zip(map(saved.ids.at, nearest), scores[0].tolist(), strict=False)
    hits = [_hit(rank, *answer, items) for rank, answer in enumerate(answers, 1)]
    clock.ends("find_files")
    if sheet is not None:
        _write_sheet(sheet, query, hits, items)
        clock.ends("sheet")
    return SearchReport(
        query=spec.query,
        query_is="text" if query.path is None else "image",
        index=folder,
        manifest=saved.manifest,
        hits=hits,
        sheet=sheet,
        warnings=(*notes, *saved.warnings, *saved.manifest["warnings"], *filter(None, [warning])),
        seconds=clock.seconds,
    )


def _index_of(spec: SearchSpec, evaluated: TrainedRun, side: Side) -> tuple[Path, Source | None]:
    """Return the index to search in, and its dataset where its place was named.

    Raises:
        IndexNotFoundError: There is no such index, or what lies at the named place is of none.
        StoreCorruptError: See `find_indexes`.
    """
    from .saved_index import find_indexes, index_command

    run, home, data = evaluated.folder, spec.home, spec.data
    indexes = find_indexes(run, home=home, side=side, data=data, split=spec.split)
    place = None if data is None else parse_data(data)[1]
    if data is None or place is None:
        return next(iter(indexes)), None
    refusals: list[LightalignError] = []
    for folder, manifest in indexes.items():
        options, split, source = (manifest[key] for key in ("source_options", "split", "source"))
        try:
            return folder, open_there(
                data, options=options, home=home, split=split, fingerprint=source
            )
        except (DatasetNotFoundError, DatasetFormatError, DatasetChangedError, SpecError) as error:
            refusals.append(error)
    split = spec.split or next(iter(indexes.values()))["split"]
    command = index_command(run, side=side.value, data=data, split=split, home=home)
    other_way = f", or index what lies there by {command}" if place.exists() else ""
    raise IndexNotFoundError(
        f"run {run.name} has no index of --data {data}: {refusals[0]}; leave --data out to search "
        f"in what was indexed{other_way}"
    )


def open_in_browser(sheet: Path, progress: Progress) -> None:
    """Open a sheet where there is a display, and say so where there is none."""
    import webbrowser

    blind = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if blind or not webbrowser.open(sheet.absolute().as_uri()):
        progress.note(f"there is no display to open {sheet} on")


def _query_of(spec: SearchSpec, evaluated: TrainedRun) -> Item:
    """Return the query as a text or as an image file."""
    path = Path(spec.query)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError:  # longer than a name can be: no file
        is_file = is_folder = False
    if is_folder and spec.query_is != "text":
        raise SpecError(
            f"{spec.query!r} is a folder, and a query is a text or one image file; if it is meant "
            "as a text, say --as text"
        )
    if spec.query_is is None and not is_file and path.suffix.lower() in _PICTURES:
        raise SpecError(
            f"there is no image {spec.query!r}; if it is meant as a text, say --as text"
        )
    if (spec.query_is or ("image" if is_file else "text")) == "text":
        return Item(id=spec.query, text=spec.query)
    if evaluated.sides != IMAGE_TEXT:
        raise SpecError(f"run {evaluated.folder.name} aligns two text encoders: it reads no images")
    return Item(id=spec.query, path=path)


def _sheet_of(spec: SearchSpec, evaluated: TrainedRun) -> Path | None:
    """Return where a contact sheet is written; the place in a run is ours, whatever is there."""
    if spec.sheet is not None or not spec.default_sheet:
        return spec.sheet
    sheet = evaluated.folder / "search.html"
    check_file(sheet, option="the contact sheet of --open", force=True)
    return sheet


def _asking_side(evaluated: TrainedRun, query: Item, searched: Side) -> Side:
    """Return the side that embeds the query: of two text encoders the one that is not searched."""
    if evaluated.sides == IMAGE_TEXT:
        return Modality.TEXT if query.path is None else Modality.IMAGE
    return next(side for side in evaluated.sides if side is not searched)


def _backend(evaluated: TrainedRun, side: Side) -> str:
    """Return which libraries will open the encoder of a side.

    Raises:
        StoreCorruptError: The report of the run does not say.
    """
    try:
        return str(evaluated.trained["spec"]["encoders"][side.value]["card"]["backend"])
    except (KeyError, TypeError) as error:
        raise StoreCorruptError(
            f"{evaluated.folder / run_folder.REPORT} does not say what its encoders were: "
            f"{run_folder.ways_out(evaluated.folder)}"
        ) from error


def _hit(rank: int, item_id: str, score: float, items: Mapping[str, Item]) -> Hit:
    item = items.get(item_id)
    path = None if item is None or item.path is None else str(item.path)
    return Hit(rank=rank, score=score, id=item_id, path=path, text=item.text if item else None)


def _write_sheet(sheet: Path, query: Item, hits: Sequence[Hit], items: Mapping[str, Item]) -> None:
    from .contact_sheet import Cell, write_sheet

    cells = [Cell.of(items.get(hit.id), f"{hit.rank}. {hit.score:.3f}", hit.id) for hit in hits]
    name = "" if query.path is None else query.path.name
    with run_folder.owning_place(sheet):
        write_sheet(sheet, Cell.of(query, "query", name), cells)
