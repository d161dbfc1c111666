"""Answer one query, a text or a file of the other side, from a saved index."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

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
from ...featcache.modalities import reader_of
from ...featcache.sources.base import Source
from ...featcache.sources.opening import parse_data
from ...featcache.types import Item, Modality, Side, in_words
from ..common.destinations import check_file
from ..common.progress import SILENT, Progress
from ..inputs.original_dataset import open_there
from ..inputs.text_notes import TextReader
from ..ranking.faiss_index import search
from ..runs import run_folder
from ..runs.embedder import Embedder
from ..runs.run_encoders import weights_of
from ..runs.trained_run import TrainedRun
from .build_index import side_named
from .contact_sheet import Cell, write_sheet
from .original_items import find_items
from .reranking import QueryReader
from .saved_index import again_command, find_indexes, index_command, open_index
from .search_spec import Hit, SearchReport, SearchSpec

_PICTURES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".jp2"}


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
        SpecError: The query is a file and both sides are texts, or no such file is there, or it is
            a folder.
        LightalignError: The query cannot be embedded, see `Embedder`.
    """
    clock = _Clock()
    evaluated = TrainedRun(spec.home, spec.run, device=spec.device)
    searched = side_named(evaluated, spec.side)
    query = _query_of(spec)
    sheet = _sheet_of(spec, evaluated)
    asking = _asking(spec, evaluated, searched, query)
    # what its library takes to import is no part of opening the encoder
    load_backend(_backend(evaluated, asking))
    clock.ends("import")
    weights = {name: expanded(path) for name, path in (spec.weights or {}).items()}
    second = None
    if spec.rerank is not None:
        second = QueryReader(spec, asking=asking, searched=searched, weights=weights)
        # what is of neither run is refused by the first
        weights = _without_those_of(second, weights, evaluated)
        clock.ends("open_rerank")
    folder, opened = _index_of(spec, evaluated, searched)
    saved = open_index(folder, run=evaluated.folder, home=spec.home)
    clock.ends("open_index")
    if second is not None:
        second.open_stores(saved.manifest, progress)
    embedder = Embedder(evaluated.folder, device=spec.device, weights=weights)
    embedder.readings(asking)
    clock.ends("open_encoder")
    vectors = embedder.embed([spec.query if query.path is None else query.path], side=asking.value)
    notes = (
        []
        if query.path is not None
        else TextReader(embedder.readings(asking)[0].encoder).warnings(spec.query)
    )
    clock.ends("embed")
    scores, rows = search(saved.index, vectors, min(spec.k, saved.index.ntotal))
    clock.ends("search")
    # an approximate index fills up with -1 where it finds fewer
    nearest = rows[0][rows[0] >= 0].tolist()
    again = again_command(saved.manifest, run=evaluated.folder, home=spec.home)
    if nearest and max(nearest) >= len(saved.ids):
        raise StoreCorruptError(
            f"{folder} answers with rows that it does not have: write it anew by {again}"
        )
    cosines = scores[0][: len(nearest)].tolist()
    differences: list[float | None] = [None] * len(nearest)
    if second is not None:
        answers_read = second.differences(query, [saved.ids.at(row) for row in nearest])
        # stable: what is judged equal keeps the order of the index
        order = sorted(range(len(nearest)), key=lambda place: -answers_read[place])
        nearest = [nearest[place] for place in order]
        cosines = [cosines[place] for place in order]
        differences = [answers_read[place] for place in order]
        clock.ends("rerank")
    items, warning = find_items(
        saved, nearest, home=spec.home, opened=opened, pictures=sheet is not None, again=again
    )
    answers = zip(map(saved.ids.at, nearest), cosines, differences, strict=True)
    hits = []
    for rank, (item_id, score, difference) in enumerate(answers, 1):
        item = items.get(item_id)
        path = None if item is None or item.path is None else str(item.path)
        text = None if item is None else item.text
        hits.append(
            Hit(
                rank=rank,
                score=score,
                id=item_id,
                path=path,
                text=text,
                logit_difference=difference,
            )
        )
    clock.ends("find_files")
    if sheet is not None:
        cells = [Cell.of(items.get(hit.id), f"{hit.rank}. {hit.score:.3f}", hit.id) for hit in hits]
        name = "" if query.path is None else query.path.name
        with run_folder.owning_place(sheet):
            write_sheet(sheet, Cell.of(query, "query", name), cells)
        clock.ends("sheet")
    return SearchReport(
        query=spec.query,
        query_is=asking.modality.value,
        index=folder,
        manifest=saved.manifest,
        hits=hits,
        sheet=sheet,
        warnings=(*notes, *saved.warnings, *saved.manifest["warnings"], *filter(None, [warning])),
        seconds=clock.seconds,
        rerank=None if second is None else second.run.folder.name,
    )


def _without_those_of(
    second: QueryReader, weights: Mapping[str, Path], evaluated: TrainedRun
) -> dict[str, Path]:
    """Return the weights without those that are of the joint run alone."""
    of_first = weights_of(evaluated.folder, weights)
    of_second = weights_of(second.run.folder, weights)
    return {
        name: path for name, path in weights.items() if name in of_first or name not in of_second
    }


def _index_of(spec: SearchSpec, evaluated: TrainedRun, side: Side) -> tuple[Path, Source | None]:
    """Return the index to search in, and its dataset where its place was named."""
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


def _asking(spec: SearchSpec, evaluated: TrainedRun, searched: Side, query: Item) -> Side:
    """Return the side whose encoder reads the query: of two, the one that is not searched.

    Raises:
        SpecError: The run has no such side.
    """
    has_file = query.path is not None
    reading = [
        side
        for side in evaluated.sides
        if reader_of(side.modality).has_files == has_file
        and spec.query_is in {None, side.value, side.modality.value}
    ]
    if not reading:
        usual = Modality.IMAGE if has_file else Modality.TEXT
        raise SpecError(
            f"run {evaluated.folder.name} aligns {in_words(evaluated.sides)}: it reads no "
            f"{spec.query_is or usual}s"
        )
    return next((side for side in reading if side is not searched), reading[0])


def _query_of(spec: SearchSpec) -> Item:
    """Return the query as a text or as a file."""
    path = Path(spec.query)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError:
        # a text may be longer than a file name can be, which `is_file` raises for
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
    if spec.query_is == "text" or (spec.query_is is None and not is_file):
        return Item(id=spec.query, text=spec.query)
    return Item(id=spec.query, path=path)


def _sheet_of(spec: SearchSpec, evaluated: TrainedRun) -> Path | None:
    """Return where a contact sheet is written; the place in a run is ours, whatever is there."""
    if spec.sheet is not None or not spec.default_sheet:
        return spec.sheet
    sheet = evaluated.folder / "search.html"
    check_file(sheet, option="the contact sheet of --open", force=True)
    return sheet


def _backend(evaluated: TrainedRun, side: Side) -> str:
    """Return which libraries will open the encoder of a side."""
    try:
        return str(evaluated.trained["spec"]["encoders"][side.value]["card"]["backend"])
    except (KeyError, TypeError) as error:
        raise StoreCorruptError(
            f"{evaluated.folder / run_folder.REPORT} does not say what its encoders were: "
            f"{run_folder.ways_out(evaluated.folder)}"
        ) from error
