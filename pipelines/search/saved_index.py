"""A saved index: nearest neighbours on disk, with what each of its rows is.

<run>/index/<dataset>-<split>-<side>--<first of the hash of the items>/
    index.faiss             what FAISS writes; mapped into memory where it is large
    ids.npy, ids-ends.npy   id of each row, see `Strings`
    contents.npy, contents-ends.npy
                            path of each image, or each text; empty where the dataset was not to be
                            found, or keeps no files
    index.json              sealed: run, adapter, stores, kind and parameters; size and checksum of
                            each of the files above
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import faiss

from ...featcache import atomic_files as files
from ...featcache import notes
from ...featcache.documents import check
from ...featcache.errors import IndexNotFoundError, StaleIndexError, StoreCorruptError
from ...featcache.home import command_line
from ...featcache.known_datasets import DatasetVersion, newest, version_of
from ...featcache.regular_files import check_regular, is_there, open_regular
from ...featcache.sources.opening import absolute_data, parse_data
from ...featcache.store import trust
from ...featcache.store.catalog import read_catalog
from ...featcache.store.verified_files import memory_of_indexes, promise_of, require
from ...featcache.string_array import Strings
from ...featcache.types import Side
from ...featcache.writing import open_new
from ..inputs.store_selection import require_name
from ..metrics.number import written
from ..ranking.faiss_index import AnyIndex, BuiltIndex, as_faiss
from ..runs import run_folder
from ..runs.index_files import CONTENT, FAISS, MANIFEST
from ..runs.run_folder import named

FOLDER = "index"
_VERSION = 1
_PIECE = 2**20  # bytes at a time that FAISS is asked to write
_HEAD = struct.Struct("<4siq")  # kind, width and rows of whatever FAISS writes
_MAPPED = 2**28  # bytes; less is read in a tenth of a second


class _Promise(TypedDict):
    """Size and checksum of one file."""

    bytes: int
    sha256: str


class _Described(TypedDict):
    """Types of what is read from a manifest."""

    run: str
    adapter_sha256: str
    dataset: str
    split: str
    side: str
    source: str
    store: str
    encoder_key: str
    data: str
    source_options: dict[str, Any]
    knows_dataset: bool
    num: int
    width: int
    kind: str
    factory: str
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    warnings: list[str]
    bytes: int


class _Checked(_Described, total=False):
    """Manifest of an index, with the checksums that earlier versions have not written."""

    files: dict[str, _Promise]


@dataclass(frozen=True, kw_only=True)
class SavedIndex:
    """Index that was read from disk.

    Attributes:
        manifest: What `write_index` was told of it.
        index: What `search` takes.
        contents: Path of each image, or each text; empty where that is not known.
        warnings: What to know before it is believed.
    """

    folder: Path
    manifest: Mapping[str, Any]
    index: AnyIndex
    ids: Strings
    contents: Strings
    warnings: tuple[str, ...] = ()


def index_folder(run: Path, *, dataset: str, split: str, side: Side, source: str) -> Path:
    """Return where the index of one side of a split lies; `source` is the fingerprint of it."""
    return run / FOLDER / f"{dataset}-{split}-{side.value}--{source[:8]}"


def write_index(
    folder: Path,
    built: BuiltIndex,
    *,
    ids: Sequence[str],
    contents: Sequence[str],
    described: Mapping[str, Any],
) -> dict[str, Any]:
    """Write an index in place of an earlier one, and return its manifest.

    Args:
        folder: What `index_folder` returns.
        built: The index.
        ids: Id of each row.
        contents: Path or text of each row, or empty strings.
        described: What it is an index of: `run`, `adapter_sha256`, `dataset`, `split`, `side`,
            `source`, `store`, `encoder_key`, `data`, `source_options`, and `knows_dataset`: whether
            the contents are known.
    """
    assert len(ids) == len(contents) == built.index.ntotal
    # a reader sees the old index or the new one, never files of both
    with files.making(folder.parent), files.replacing(folder) as temporary:
        temporary.mkdir()
        _write_faiss(temporary / FAISS, built)
        Strings.of(ids).write(temporary, "ids")
        Strings.of(contents).write(temporary, "contents")
        manifest = {
            "version": _VERSION,
            **described,
            "num": built.index.ntotal,
            "width": built.index.d,
            "kind": built.plan.kind,
            "asked": built.plan.asked,
            "factory": built.plan.factory,
            "approximate": built.approximate,
            "memory_budget": built.plan.memory_budget,
            "parameters": dict(built.parameters),
            "metrics": written(built.metrics),
            "warnings": [*built.warnings, *trust.warnings()],
            "bytes": (temporary / FAISS).stat().st_size,
            "files": {name: promise_of(temporary / name) for name in CONTENT},
            "faiss": faiss.__version__,
            "seconds": built.seconds,
        }
        files.write_sealed(temporary / MANIFEST, manifest)
    return manifest


def _write_faiss(path: Path, built: BuiltIndex) -> None:
    """Write what FAISS makes of an index, piece by piece."""
    # by itself the library prints a line of its own where a disk is full, and names no file
    failures: list[OSError] = []
    with open_new(path) as file:

        def write(piece: bytes) -> None:
            if failures:
                # an exception cannot pass through FAISS: it writes on, and the error is raised at
                # its end
                return
            try:
                file.write(piece)
            except OSError as error:
                failures.append(error)

        writer = faiss.PyCallbackIOWriter(write, _PIECE)  # type: ignore[attr-defined]
        faiss.write_index(as_faiss(built.index), writer)
        if failures:
            raise failures[0]


def find_indexes(
    run: Path, *, home: Path, side: Side, data: str | None = None, split: str | None = None
) -> dict[Path, dict[str, Any]]:
    """Return the manifests of all indexes of one side of a run by their folders, newest first.

    Args:
        run: The run folder.
        home: Folder of everything lightalign keeps.
        side: What is searched.
        data: The dataset as `NAME`, which is what that stands for by now, or `NAME=PATH`, of which
            the name counts; or None for any, but not for what else the name of the run's own
            dataset stands for where that is indexed, too.
        split: Name of the split, or None for any.

    Raises:
        IndexNotFoundError: There is none.
        StoreCorruptError: There is none but one whose manifest is damaged, or may not be read.
    """
    dataset, place = (None, None) if data is None else parse_data(data)
    version = None if dataset is None or place is not None else newest(home, dataset)
    manifests, broken = _manifests(run)
    paths = [
        path
        for path, manifest in manifests.items()
        if manifest["side"] == side.value
        and dataset in {None, manifest["dataset"]}
        and split in {None, manifest["split"]}
        and _is_of(manifest, version)
    ]
    of_run = {path for path in paths if _is_of_the_run(manifests[path], run=run, home=home)}
    if data is None and of_run:
        names = {manifests[path]["dataset"] for path in of_run}
        paths = [
            path for path in paths if path in of_run or manifests[path]["dataset"] not in names
        ]
    if not paths and broken:
        raise StoreCorruptError(broken[0])
    for reason in broken:
        notes.note(f"an index is passed over: {reason}")
    if not paths:
        if dataset is not None and place is None and version is None:
            require_name(home, dataset)
        asked = f"{side.label}s of {dataset or 'any dataset'}/{split or 'any split'}"
        existing = [
            f"{saved['side']}s of {saved['dataset']}/{saved['split']}"
            + ("" if dataset != saved["dataset"] or _is_of(saved, version) else ", of other data")
            for saved in manifests.values()
        ]
        command = index_command(run, side=side.value, data=data, split=split, home=home)
        raise IndexNotFoundError(
            f"run {run.name} has no index of {asked}; has: {existing or 'none'}; run {command}"
        )
    paths.sort(key=lambda path: (path.stat().st_mtime_ns, path.parent.name), reverse=True)
    return {path.parent: manifests[path] for path in paths}


def _is_of(manifest: Mapping[str, Any], version: DatasetVersion | None) -> bool:
    """Return whether an index is of a version of its dataset; of none that is known, it is."""
    if version is None or not version.splits:
        return True
    return bool(version.splits.get(manifest["split"]) == manifest["source"])


def index_command(run: Path, *, side: str, data: str | None, split: str | None, home: Path) -> str:
    """Return the command that indexes one side of a run, in backquotes."""
    words = ["--side", side]
    words += [] if split is None else ["--split", split]
    words += [] if data is None else ["--data", absolute_data(data)]
    return f"`{command_line('index', named(run, home), *words, home=home)}`"


def _manifests(run: Path) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """Return the manifests of all indexes of a run by their paths, and why others are not read."""
    manifests, broken = {}, []
    for folder in files.entries(run / FOLDER):
        path = folder / MANIFEST
        try:
            if is_there(path) and not files.is_temporary(folder):
                manifests[path] = _manifest(folder)
        except PermissionError as error:
            broken.append(f"{path} cannot be read: {error.strerror}")
        except StoreCorruptError as error:
            # a damaged index does not matter where another one is asked for
            broken.append(str(error))
    return manifests, broken


def open_index(folder: Path, *, run: Path, home: Path) -> SavedIndex:
    """Read a saved index, and map it into memory where it is large.

    Raises:
        StaleIndexError: The adapter is another now, or the split has been extracted again from
            other files.
        StoreCorruptError: A file is missing or damaged.
    """
    manifest = _manifest(folder)
    warnings = _check_fresh(manifest, folder=folder, run=run, home=home)
    warnings += _check_bytes(manifest, folder=folder, run=run, home=home)
    again = f"write it anew by {again_command(manifest, run=run, home=home)}"
    index = _read_faiss(folder, manifest, again=again)
    ids, contents = (Strings.read(folder, name) for name in ("ids", "contents"))
    if not index.ntotal == len(ids) == len(contents) == manifest["num"]:
        raise StoreCorruptError(f"{folder}: the index and its ids have not as many rows: {again}")
    return SavedIndex(
        folder=folder,
        manifest=manifest,
        index=index,
        ids=ids,
        contents=contents,
        warnings=warnings,
    )


def again_command(manifest: Mapping[str, Any], *, run: Path, home: Path) -> str:
    """Return the command that writes an index anew, in backquotes."""
    data = None if _is_of_the_run(manifest, run=run, home=home) else manifest["data"]
    side, split = manifest["side"], manifest["split"]
    return index_command(run, side=side, data=data, split=split, home=home)


def _check_bytes(
    manifest: Mapping[str, Any], *, folder: Path, run: Path, home: Path
) -> tuple[str, ...]:
    """Compare the files with their checksums, and return what to know where there are none."""
    again = again_command(manifest, run=run, home=home)
    if "files" not in manifest:
        warning = f"{folder} was written without checksums: nobody can tell whether it is whole"
        return (f"{warning}; {again} writes it with them",)
    if set(manifest["files"]) != set(CONTENT):
        raise StoreCorruptError(
            f"{folder / MANIFEST} names other files than an index has: run {again}"
        )
    try:
        require(folder, manifest["files"], memory_of_indexes(home))
    except StoreCorruptError as error:
        raise StoreCorruptError(f"{error}: run {again}") from error
    return ()


def _read_faiss(folder: Path, manifest: Mapping[str, Any], *, again: str) -> faiss.Index:
    """Read what FAISS wrote, or map it where it is large."""
    path = folder / FAISS
    try:
        check_regular(path)
        size = path.stat().st_size
        if size != manifest["bytes"]:
            raise StoreCorruptError(f"{path} has {size} bytes, not {manifest['bytes']}: {again}")
        _check_head(path, manifest, again=again)
        # FAISS maps lists of vectors in one way, everything else in another
        mapped = faiss.IO_FLAG_MMAP if "IVF" in manifest["factory"] else faiss.IO_FLAG_MMAP_IFC
        index = faiss.read_index(str(path), int(mapped) if size >= _MAPPED else 0)
    except PermissionError:
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        reason = str(error).rsplit("Error: ", 1)[-1].strip()
        raise StoreCorruptError(
            f"cannot read the index in {folder}: {reason:.200}; {again}"
        ) from error
    # the manifest is checked, but the file may be a valid index of something else
    if (index.d, index.metric_type) != (manifest["width"], faiss.METRIC_INNER_PRODUCT):
        raise StoreCorruptError(
            f"{path} is of width {index.d} and metric {index.metric_type}, not of width "
            f"{manifest['width']} and inner products: {again}"
        )
    return index


def _check_head(path: Path, manifest: Mapping[str, Any], *, again: str) -> None:
    """Compare what FAISS would allocate by with the manifest: four letters, width and rows."""
    with open_regular(path) as file:
        head = file.read(_HEAD.size)
    header = _HEAD.unpack(head)[1:] if len(head) == _HEAD.size else None
    if header != (manifest["width"], manifest["num"]):
        raise StoreCorruptError(
            f"{path} does not begin as an index of {manifest['num']} rows of width "
            f"{manifest['width']}: {again}"
        )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = files.read_sealed(path)
    except PermissionError:
        raise
    except OSError as error:
        raise StoreCorruptError(f"cannot read {path}: {error.strerror}") from error
    if manifest.get("version") != _VERSION:
        raise StoreCorruptError(
            f"{folder} has version {manifest.get('version')} of the layout, not {_VERSION}: index "
            "again"
        )
    check(manifest, _Checked, where=path)
    return manifest


def _check_fresh(
    manifest: Mapping[str, Any], *, folder: Path, run: Path, home: Path
) -> tuple[str, ...]:
    """Return what to know of an index of features that are not the newest."""
    again = f"run {again_command(manifest, run=run, home=home)} again"
    if manifest["adapter_sha256"] != files.sha256_file(run / run_folder.WEIGHTS):
        raise StaleIndexError(f"{folder} is of another adapter than {run} has now: {again}")
    place = f"{manifest['dataset']}/{manifest['split']}"
    stored = read_catalog(home, place)
    sources = [
        entry.description.source
        for entry in stored.entries
        if entry.complete and entry.encoder_key == manifest["encoder_key"]
    ]
    version = newest(home, manifest["dataset"])
    is_named = version is not None and version.splits.get(manifest["split"]) == manifest["source"]
    is_meant = is_named or _is_of_the_run(manifest, run=run, home=home)
    if manifest["source"] in sources and is_meant:
        # the index is of the data that is meant, whatever newer stores of the same name hold
        sources = [manifest["source"]]
    # without stores the index is all there is, and answers; one of the same items holds the same
    # features, whatever its container
    if not sources or sources[0] == manifest["source"]:
        if not stored.unread:
            return ()
        return (f"there may be newer features of {place}{stored.unread_line()}",)
    if manifest["source"] not in sources:
        raise StaleIndexError(
            f"{folder} is of store {manifest['store'][:12]}, which is gone, and the stores of "
            f"{place} that are there are of other items: {again}{stored.unread_line()}"
        )
    return (f"there are newer features of other items of {place}: {again} to search in these",)


def _is_of_the_run(manifest: Mapping[str, Any], *, run: Path, home: Path) -> bool:
    """Return whether an index is of the data that its run was trained on, as far as is known."""
    spec = run_folder.read_report(run)["spec"]
    trained = spec["stores"]["train"]
    if trained["dataset"] != manifest["dataset"]:
        return False
    if manifest["split"] == trained["split"]:
        return bool(manifest["source"] == trained["source"])
    if "splits" in spec:
        return bool(spec["splits"].get(manifest["split"]) == manifest["source"])
    version = version_of(home, trained["dataset"], trained["split"], trained["source"])
    return version is not None and version.splits.get(manifest["split"]) == manifest["source"]
