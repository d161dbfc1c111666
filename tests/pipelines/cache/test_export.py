import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from lightalign.featcache.errors import SpecError, StoreIncompleteError, UnknownNameError
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.pipelines.cache import export as exporting
from lightalign.pipelines.cache.export import FORMATS, export

from ...featcache.reading.test_reader import companion_lines, random_rows
from ...featcache.reading.test_reader import write as write_with_companions
from ...featcache.store.test_feature_store import describe, write

LENGTHS = [1, 3, 2, 1, 4]
IDS = [f"item-{i}" for i in range(5)]


def put(home: Path, **changes) -> tuple[str, np.ndarray]:
    """Write a store of five items; return its folder, and its values as bare h5py reads them."""
    description = describe(container="hdf5", **changes)
    folder = description.folder(home)
    write(folder, description, lengths=LENGTHS)
    values = []
    for path in sorted(folder.glob("shard-*.h5")):
        with h5py.File(path) as file:
            values.append(file["values"][:])
    return str(folder), np.concatenate(values)


def test_npy_holds_all_rows_beside_their_ids(tmp_path):
    store, values = put(tmp_path)
    report = export(tmp_path, store, tmp_path / "out", format="npy")
    exported = np.load(tmp_path / "out" / "values.npy")
    assert exported.dtype == np.float16
    assert exported.shape == (5, 2, 3)
    np.testing.assert_array_equal(exported, values)
    assert json.loads((tmp_path / "out" / "ids.json").read_text()) == IDS
    assert (report.rows, report.tokens, report.dtype) == (5, 10, "float16")
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("block_bytes", [0, 18, 40, 2**20])
def test_ragged_rows_of_npy_have_offsets_whatever_the_block(tmp_path, block_bytes):
    """Rows have 6, 18, 12, 6 and 24 bytes: blocks of one row, of some, and of all."""
    store, values = put(tmp_path, tokens_per_item=None)
    export(tmp_path, store, tmp_path / "out", format="npy", block_bytes=block_bytes)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "values.npy"), values)
    offsets = np.load(tmp_path / "out" / "offsets.npy")
    assert offsets.tolist() == [0, 1, 4, 6, 7, 11]


@pytest.mark.parametrize("block_bytes", [0, 2**20])
def test_safetensors_reads_back_with_the_official_reader(tmp_path, block_bytes):
    store, values = put(tmp_path, tokens_per_item=None, dtype="float32")
    path = tmp_path / "out.safetensors"
    export(tmp_path, store, path, format="safetensors", block_bytes=block_bytes)
    arrays = load_file(path)
    assert set(arrays) == {"values", "offsets", "ids"}
    assert arrays["values"].dtype == np.float32
    np.testing.assert_array_equal(arrays["values"], values)
    assert arrays["offsets"].tolist() == [0, 1, 4, 6, 7, 11]
    ids = arrays["ids"]
    assert [bytes(row).rstrip(b"\0").decode() for row in ids] == IDS


def test_one_token_a_row_is_one_vector_a_row(tmp_path):
    store, values = put(tmp_path, tokens_per_item=1)
    export(tmp_path, store, tmp_path / "out.safetensors", format="safetensors")
    arrays = load_file(tmp_path / "out.safetensors")
    assert set(arrays) == {"values", "ids"}
    np.testing.assert_array_equal(arrays["values"], values.reshape(5, 3))


@pytest.mark.parametrize("block_bytes", [0, 2**20])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_parquet_holds_one_row_an_item(tmp_path, dtype, block_bytes):
    store, values = put(tmp_path, dtype=dtype)
    path = tmp_path / "out.parquet"
    export(tmp_path, store, path, format="parquet", block_bytes=block_bytes)
    table = pq.read_table(path)
    assert table["id"].to_pylist() == IDS
    assert table["tokens"].to_pylist() == [2] * 5
    assert table.schema.field("values").type.list_size == 6
    assert table.schema.field("values").type.value_type == pa.from_numpy_dtype(np.dtype(dtype))
    assert table["values"].to_pylist() == values.reshape(5, 6).tolist()
    assert pq.ParquetFile(path).num_row_groups == (5 if block_bytes == 0 else 1)


@pytest.mark.parametrize("block_bytes", [0, 40, 2**20])
def test_ragged_rows_of_parquet_are_lists_of_their_own_length(tmp_path, block_bytes):
    store, values = put(tmp_path, tokens_per_item=None)
    path = tmp_path / "out.parquet"
    export(tmp_path, store, path, format="parquet", block_bytes=block_bytes)
    table = pq.read_table(path)
    assert table["tokens"].to_pylist() == LENGTHS
    parts = np.split(values, [1, 4, 6, 7])
    assert table["values"].to_pylist() == [part.ravel().tolist() for part in parts]


TEXT = ("token_ids", "special_tokens", "character_spans")


@pytest.mark.parametrize("block_bytes", [0, 40, 2**20])
@pytest.mark.parametrize(("tokens", "names"), [(2, ("geometry",)), (None, TEXT)])
def test_what_stands_beside_the_values_goes_with_them(tmp_path, tokens, names, block_bytes):
    lengths = [2] * 5 if tokens else LENGTHS
    description = describe(tokens_per_item=tokens, companions=names)
    folder = description.folder(tmp_path)
    write_with_companions(folder, description, random_rows(lengths))
    for format in FORMATS:
        out = tmp_path / f"out.{format}"
        export(tmp_path, str(folder), out, format=format, block_bytes=block_bytes)
    tensors = load_file(tmp_path / "out.safetensors")
    table = pq.read_table(tmp_path / "out.parquet")
    for name in names:
        rows = [companion_lines(name, row, length) for row, length in enumerate(lengths)]
        exported = np.load(tmp_path / "out.npy" / f"{name}.npy")
        assert exported.dtype == tensors[name].dtype == rows[0].dtype
        np.testing.assert_array_equal(exported, np.concatenate(rows))
        np.testing.assert_array_equal(tensors[name], np.concatenate(rows))
        assert table[name].to_pylist() == [row.ravel().tolist() for row in rows]


def test_an_existing_path_is_replaced_only_by_force(tmp_path):
    store, _ = put(tmp_path)
    path = tmp_path / "out.parquet"
    path.write_text("mine")
    with pytest.raises(SpecError, match="is there already"):
        export(tmp_path, store, path, format="parquet")
    assert path.read_text() == "mine"
    export(tmp_path, store, path, format="parquet", force=True)
    assert pq.read_table(path).num_rows == 5


def test_force_replaces_a_folder_of_an_export_and_no_other(tmp_path):
    store, _ = put(tmp_path)
    for _ in range(2):
        export(tmp_path, store, tmp_path / "out", format="npy", force=True)
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    for format in FORMATS:
        with pytest.raises(SpecError, match=r"is no npy export|PATH is a file, and .* is a folder"):
            export(tmp_path, store, tmp_path / "out", format=format, force=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch, format):
    store, _ = put(tmp_path)
    before = sorted(tmp_path.iterdir())

    def fail(_path):
        raise OSError("disk full")

    monkeypatch.setattr("lightalign.featcache.atomic_files.sync_tree", fail)
    with pytest.raises(OSError, match="disk full"):
        export(tmp_path, store, tmp_path / "out", format=format)
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_exported_is_said(tmp_path):
    store, _ = put(tmp_path)
    with pytest.raises(UnknownNameError, match="parquet"):
        export(tmp_path, store, tmp_path / "out", format="csv")
    unfinished = describe(split="test")
    FeatureStore.create(unfinished.folder(tmp_path), unfinished, versions={})
    with pytest.raises(StoreIncompleteError, match="not complete"):
        export(tmp_path, str(unfinished.folder(tmp_path)), tmp_path / "out", format="npy")


@pytest.mark.parametrize("format", FORMATS)
def test_what_came_while_exporting_is_not_replaced(tmp_path, monkeypatch, format):
    store, _ = put(tmp_path)
    path = tmp_path / "out"
    write_it = exporting._WRITERS[format]

    def write_and_lose_the_race(source, temporary):
        write_it(source, temporary)
        path.write_text("of another process")

    monkeypatch.setitem(exporting._WRITERS, format, write_and_lose_the_race)
    with pytest.raises(SpecError, match="is there already"):
        export(tmp_path, store, path, format=format)
    assert path.read_text() == "of another process"
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".tmp-")]
