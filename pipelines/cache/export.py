"""Write a store in a form that other tools read without lightalign: ids beside vectors.

Values keep the float type that `FeatureReader.gather` returns. They are read in blocks, so no
export holds more than one block and the ids in memory.

    parquet         columns id, tokens and values, a list of tokens * width numbers
    npy             a folder of values.npy, ids.json and, where rows differ in length, offsets.npy
    safetensors     values, ids as UTF-8 bytes padded with zeros, and, where needed, offsets

What is stored beside the values (token ids, special-token flags, character spans, geometry) goes
with them under its own name: one line a token or a row; in parquet, a flat list of numbers a row.

`values` is [rows, width] where each row is one token, [rows, tokens, width] where all rows have as
many, else [all tokens, width], and row i is `values[offsets[i]:offsets[i + 1]]`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...featcache import atomic_files
from ...featcache.item_ids import encode_ids
from ...featcache.reading.reader import FeatureReader
from ...featcache.registry import unknown_name
from ...featcache.store import trust
from ...featcache.store.catalog import find_store
from ...featcache.types import PER_ROW, PER_TOKEN, Features
from ...featcache.writing import (
    bytes_of,
    naming,
    open_new,
    safetensors_header,
    write_npy,
    write_npy_header,
)
from ..common.destinations import check_file, check_folder, never_own
from .export_spec import ExportReport

_BLOCK_BYTES = 64 * 2**20  # large enough to write at disk speed, small beside any memory
_NPY_FILES = {"ids.json"} | {f"{name}.npy" for name in ("values", "offsets", *PER_TOKEN, *PER_ROW)}


def export(
    home: Path,
    store: str,
    path: Path,
    *,
    format: str,
    force: bool = False,
    block_bytes: int = _BLOCK_BYTES,
) -> ExportReport:
    """Write all rows of a complete store to `path`, whole or not at all.

    Args:
        home: Folder of everything lightalign keeps.
        store: Folder, name or key of the store.
        path: What to write: a folder for `npy`, else a file.
        format: `parquet`, `npy` or `safetensors`.
        force: Replace an earlier export at `path`.
        block_bytes: Bytes of values in memory at a time; at least one row is.

    Raises:
        UnknownNameError: There is no such format.
        SpecError: There is something at `path`, and it is not to be or cannot be replaced.
        StoreNotFoundError: There is no such store.
        StoreIncompleteError: Its extraction has not finished.
        StoreCorruptError: Its files contradict its manifest.
    """
    if format not in _WRITERS:
        raise unknown_name("export format", format, _WRITERS)
    # before the check: where it refuses a finished export, remains of a killed one may lie beside
    atomic_files.clear_abandoned_beside(path)
    _check_free(path, format, force=force)
    source = _Source(FeatureReader(find_store(home, store)), block_bytes)
    with atomic_files.making(path.parent), atomic_files.replacing(path) as temporary:
        _WRITERS[format](source, temporary)
        # asked again: reading takes long enough for a file to appear at the place
        _check_free(path, format, force=force)
    return ExportReport(
        store=source.reader.store.folder,
        path=path,
        format=format,
        rows=len(source.reader),
        tokens=int(source.offsets[-1]),
        dtype=str(source.dtype),
        bytes=sum(file.stat().st_size for file in atomic_files.files_below(path)),
        warnings=tuple(trust.warnings()),
    )


class _Source:
    """Rows of a store in blocks whose values take `block_bytes` at most, or are one row."""

    def __init__(self, reader: FeatureReader, block_bytes: int) -> None:
        self.reader = reader
        self.width = reader.description.width
        self.tokens = reader.description.tokens_per_item
        self.offsets = np.concatenate([[0], np.cumsum(reader.lengths)]).astype(np.int64)
        self.dtype = reader.gather([], companions=False, ids=False).values.dtype
        self._block_tokens = block_bytes // (self.width * self.dtype.itemsize)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of all values together."""
        if self.tokens is None:
            return int(self.offsets[-1]), self.width
        if self.tokens == 1:
            return len(self.reader), self.width
        return len(self.reader), self.tokens, self.width

    @property
    def companions(self) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]:
        """Return dtype and shape of each array beside the values."""
        arrays = {}
        for name in self.reader.description.companions:
            like = self.reader.companion(name, [])
            lines = int(self.offsets[-1]) if name in PER_TOKEN else len(self.reader)
            arrays[name] = (like.dtype, (lines, *like.shape[1:]))
        return arrays

    def blocks(self, *, companions: bool = True) -> Iterator[Features]:
        """Iterate over all rows in order."""
        for rows in self.ranges():
            yield self.reader.gather(rows, companions=companions)

    def ranges(self) -> Iterator[range]:
        """Iterate over the rows of each block."""
        start = 0
        while start < len(self.reader):
            # as many rows as fit, or the one that alone is larger
            limit = self.offsets[start] + self._block_tokens
            stop = max(int(np.searchsorted(self.offsets, limit, side="right")) - 1, start + 1)
            yield range(start, stop)
            start = stop


def _check_free(path: Path, format: str, *, force: bool) -> None:
    def is_npy(folder: Path) -> bool:
        return {file.name for file in folder.iterdir()} <= _NPY_FILES

    if format == "npy":
        check_folder(path, option="PATH", force=force, is_own=is_npy, what="npy export")
    else:
        check_file(path, option="PATH", force=force, is_own=never_own)


def _write_npy(source: _Source, path: Path) -> None:
    path.mkdir()
    kinds = {"values": (source.dtype, source.shape), **source.companions}
    with ExitStack() as opened:
        # piece by piece: a disk that fills under an array that is mapped ends the process
        arrays = {name: opened.enter_context(open_new(path / f"{name}.npy")) for name in kinds}
        for name, (dtype, shape) in kinds.items():
            write_npy_header(arrays[name], dtype, shape)
        for block in source.blocks():
            for name, lines in {"values": block.values, **block.companions}.items():
                with naming(path / f"{name}.npy"):
                    arrays[name].write(bytes_of(lines.astype(kinds[name][0], copy=False)))
    if source.tokens is None:
        write_npy(path / "offsets.npy", source.offsets)
    atomic_files.write_json(path / "ids.json", list(source.reader.ids))


def _write_safetensors(source: _Source, path: Path) -> None:
    whole = {"ids": encode_ids(source.reader.ids)}
    if source.tokens is None:
        whole["offsets"] = source.offsets
    kinds: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {
        **{name: (array.dtype, array.shape) for name, array in whole.items()},
        "values": (source.dtype, source.shape),
        **source.companions,
    }
    # larger elements first: then each array begins at a multiple of its element's size
    kinds = dict(sorted(kinds.items(), key=lambda kind: -kind[1][0].itemsize))
    described = {
        name: (str(dtype), shape, dtype.itemsize * int(np.prod(shape)))
        for name, (dtype, shape) in kinds.items()
    }
    with open_new(path) as file:
        file.write(safetensors_header(described, {}))
        for name in kinds:
            if name in whole:
                file.write(bytes_of(whole[name]))
            elif name == "values":
                for block in source.blocks(companions=False):
                    file.write(bytes_of(block.values))
            else:
                for rows in source.ranges():
                    file.write(bytes_of(source.reader.companion(name, rows)))


def _write_parquet(source: _Source, path: Path) -> None:
    import pyarrow as pa  # here, because only this format needs it
    import pyarrow.parquet as pq

    def column(block: Features, name: str) -> pa.Array:
        """Return the numbers of each row as one list; of one length where the schema says so."""
        kind = schema.field(name).type
        lines = block.values if name == "values" else block.companions[name]
        numbers = pa.array(lines.reshape(-1))
        if pa.types.is_fixed_size_list(kind):
            return pa.FixedSizeListArray.from_arrays(numbers, kind.list_size)
        starts = block.offsets * int(np.prod(lines.shape[1:]))
        return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), numbers)

    kinds = {"values": (source.dtype, (1, source.width)), **source.companions}
    fields = {"id": pa.string(), "tokens": pa.int32()}
    for name, (dtype, shape) in kinds.items():
        lines = 1 if name in PER_ROW else source.tokens
        length = -1 if lines is None else lines * int(np.prod(shape[1:]))
        fields[name] = pa.list_(pa.from_numpy_dtype(dtype), length)
    schema = pa.schema(fields.items())
    with open_new(path) as file, pq.ParquetWriter(file, schema) as writer:
        for block in source.blocks():
            lists = [column(block, name) for name in kinds]
            columns = [pa.array(block.ids, pa.string()), pa.array(block.lengths, pa.int32())]
            writer.write_table(pa.Table.from_arrays([*columns, *lists], schema=schema))


_WRITERS: Mapping[str, Callable[[_Source, Path], None]] = {
    "parquet": _write_parquet,
    "npy": _write_npy,
    "safetensors": _write_safetensors,
}
FORMATS = tuple(_WRITERS)
