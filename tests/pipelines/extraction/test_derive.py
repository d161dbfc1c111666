"""Features that a store of tokens decides are derived from it: nothing is encoded again."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.featcache.errors import (
    StoreCorruptError,
    StoreNotFoundError,
    TooManyBadItemsError,
)
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import item_rows
from lightalign.featcache.store.checked_shards import CheckedShards
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.item_rows import ItemRows
from lightalign.featcache.store.manifest import read_manifest
from lightalign.pipelines.cache.repair import repair
from lightalign.pipelines.extraction import estimate
from lightalign.pipelines.extraction.spec import ExtractSpec

from ...helpers import lightalign, slow, tree_bytes
from ..conftest import SCENES, extract_toy
from .test_extract import write_table

IMAGE_KINDS = ("mean", "grid:2x2", "grid:3x2")
TEXT_KINDS = ("mean", "cls", "last")
# half of the distance between neighbouring numbers of each type, as a share of a number
ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = 2.0**-24  # what float16 rounds to below its normal numbers


@pytest.fixture
def encoded(monkeypatch, untried) -> list[int]:
    """Return the sizes of the batches that a toy encoder encodes from now on."""
    sizes: list[int] = []
    encode = ToyEncoder.encode
    monkeypatch.setattr(
        ToyEncoder, "encode", lambda self, batch: sizes.append(len(batch)) or encode(self, batch)
    )
    return sizes


def values(folder: Path) -> np.ndarray:
    reader = FeatureReader(folder)
    return reader.gather(range(len(reader))).values.astype(np.float64)


def token_rows(folder: Path) -> list[np.ndarray]:
    reader = FeatureReader(folder)
    rows = reader.gather(range(len(reader)), companions=False)
    return [rows.row(row).astype(np.float64) for row in range(len(rows))]


@pytest.mark.parametrize("encoder", ["toy-image", "toy-text"])
def test_pooled_features_are_derived_and_nothing_is_encoded(tmp_path, encoded, encoder):
    extract_toy(tmp_path, encoder, split="train")
    kinds = IMAGE_KINDS if encoder == "toy-image" else TEXT_KINDS
    encoded.clear()
    (tokens,) = (tmp_path / "features" / "shapes" / "train").glob(f"{encoder}--*")
    report = extract_toy(tmp_path, encoder, split="train", features=kinds, batch_size=4)
    assert encoded == []
    assert [store.encoded for store in report.stores] == [0] * len(kinds)
    assert all(store.derived == store.rows > 0 for store in report.stores)
    assert {store.derived_from for store in report.stores} == {f"shapes/train/{tokens.name}"}


@pytest.mark.parametrize("dtype", [*slow("float32", "bfloat16"), "float16"])
@pytest.mark.parametrize("encoder", ["toy-image", "toy-text"])
def test_derived_features_are_the_extracted_ones_but_for_the_rounding_of_tokens(
    tmp_path, encoder, dtype
):
    """A cell is a mean of tokens x_s (1 + e_s), |e_s| <= u, and is rounded once, as the other is.

    So the two differ by at most u mean |x_s| + 2 u |mean|, <= 3 u max |x_s|, and float32 sums.
    """
    kinds = IMAGE_KINDS if encoder == "toy-image" else TEXT_KINDS
    same = {"split": "val", "features": kinds, "dtype": dtype}
    direct = extract_toy(tmp_path / "a", encoder, **same)
    extract_toy(tmp_path / "b", encoder, split="val", dtype=dtype)
    derived = extract_toy(tmp_path / "b", encoder, **same)
    exact = extract_toy(tmp_path / "c", encoder, split="val", dtype="float32").stores[0].folder
    largest = max(abs(row).max() for row in token_rows(exact))
    bound = 3 * ROUNDING[dtype] * largest + SMALLEST + 64 * ROUNDING["float32"] * largest
    for ours, theirs in zip(derived.stores, direct.stores, strict=True):
        assert ours.key == theirs.key
        assert ours.derived
        found, expected = FeatureReader(ours.folder), FeatureReader(theirs.folder)
        assert found.ids == expected.ids
        assert found.description == expected.description
        assert abs(values(ours.folder) - values(theirs.folder)).max() <= bound


@pytest.mark.parametrize("dtype", [*slow("float32", "float16"), "bfloat16"])
def test_a_token_that_is_taken_as_it_is_is_the_same_number(tmp_path, dtype):
    same = {"split": "val", "features": ("cls",), "dtype": dtype, "batch_size": 16}
    (direct,) = extract_toy(tmp_path / "a", "toy-text", **same).stores
    extract_toy(tmp_path / "b", "toy-text", split="val", dtype=dtype, batch_size=16)
    (derived,) = extract_toy(tmp_path / "b", "toy-text", **same).stores
    assert derived.derived
    np.testing.assert_array_equal(values(derived.folder), values(direct.folder))


def test_means_are_those_of_the_stored_tokens(tmp_path):
    """By NumPy in float64, from the tokens themselves."""
    for encoder in ("toy-image", "toy-text"):
        (tokens,) = extract_toy(tmp_path, encoder, split="val").stores
        same = {"split": "val", "features": ("mean",)}
        (derived,) = extract_toy(tmp_path, encoder, **same).stores
        assert derived.derived
        expected = [row.mean(axis=0) for row in token_rows(tokens.folder)]
        np.testing.assert_allclose(
            values(derived.folder), expected, rtol=2 * ROUNDING["float16"], atol=1e-6
        )


@pytest.mark.parametrize("container", ["zarr", "hdf5"])
@pytest.mark.parametrize(
    "compression",
    ["zstd", *slow("none", "blosc-lz4")],
)
@pytest.mark.parametrize("encoder", ["toy-image", "toy-text"])
def test_tokens_in_every_container_give_the_same_means(tmp_path, container, compression, encoder):
    plain = {"split": "val", "dtype": "float32"}
    (direct,) = extract_toy(tmp_path / "a", encoder, **plain, features=("mean",)).stores
    stored = {**plain, "format": container, "compression": compression}
    extract_toy(tmp_path / "b", encoder, **stored)
    for home_format in ("zarr", "hdf5"):
        asked = {**plain, "format": home_format, "features": ("mean",)}
        (derived,) = extract_toy(tmp_path / "b", encoder, **asked).stores
        assert derived.derived
        np.testing.assert_allclose(values(derived.folder), values(direct.folder), atol=1e-6)


@pytest.mark.parametrize(
    ("stored", "asked", "is_derived"),
    [
        ("float32", "float32", True),
        ("float32", "float16", True),
        ("float32", "bfloat16", True),
        ("float32", "int8", True),
        ("float16", "float16", True),
        ("float16", "int8", True),
        ("bfloat16", "bfloat16", True),
        ("bfloat16", "int8", True),
        ("int8", "int8", True),
        ("float16", "float32", False),
        ("float16", "bfloat16", False),  # which has the range of float32
        ("bfloat16", "float16", False),
        ("bfloat16", "float32", False),
        ("int8", "float16", False),
        ("int8", "bfloat16", False),
        ("int8", "float32", False),
    ],
)
def test_only_tokens_of_a_type_that_is_as_exact_are_taken(tmp_path, stored, asked, is_derived):
    extract_toy(tmp_path, "toy-image", split="val", dtype=stored)
    same = {"split": "val", "features": ("mean",), "dtype": asked}
    (report,) = extract_toy(tmp_path, "toy-image", **same).stores
    assert bool(report.derived) is is_derived
    assert bool(report.encoded) is not is_derived


def test_int8_means_of_int8_tokens_are_within_half_a_step_of_both(tmp_path):
    """A stored number is off by half of its token's step, its largest over 127; a mean by less."""
    same = {"split": "val", "dtype": "int8"}
    (tokens,) = extract_toy(tmp_path / "a", "toy-image", **same).stores
    (derived,) = extract_toy(tmp_path / "a", "toy-image", **same, features=("mean",)).stores
    exact = {"split": "val", "dtype": "float32", "features": ("mean",)}
    (direct,) = extract_toy(tmp_path / "b", "toy-image", **exact).stores
    largest = [np.mean([abs(token).max() for token in row]) for row in token_rows(tokens.folder)]
    half_steps = np.array(largest) / 127 / 2 + abs(values(direct.folder)).max(axis=1) / 127 / 2
    apart = abs(values(derived.folder) - values(direct.folder)).max(axis=1)
    assert (apart <= 1.01 * half_steps).all()


def test_the_most_exact_tokens_are_taken(tmp_path):
    for dtype in ("int8", "float16", "float32"):
        extract_toy(tmp_path, "toy-image", split="val", dtype=dtype)
    same = {"split": "val", "features": ("mean",), "dtype": "int8"}
    (report,) = extract_toy(tmp_path, "toy-image", **same).stores
    origin = read_manifest(tmp_path / "features" / report.derived_from)
    assert origin["description"]["dtype"] == "float32"


def test_tokens_of_another_layer_split_precision_or_encoder_are_not_taken(tmp_path, encoded):
    extract_toy(tmp_path, "toy-image", split="val")
    extract_toy(tmp_path, "toy-text", split="val")
    encoded.clear()
    for changes in ({"split": "test"}, {"source": {**SCENES, "size": 32}, "split": "val"}):
        (report,) = extract_toy(tmp_path, "toy-image", features=("mean",), **changes).stores
        assert report.derived_from is None
        assert report.encoded == report.rows


@pytest.mark.parametrize("rows", [7, *slow(1, 3, 10, 100)])
def test_shards_of_any_size_are_derived_from_those_of_another(tmp_path, rows):
    extract_toy(tmp_path, "toy-text", split="val", dtype="float32")  # shards of ten
    same = {"split": "val", "dtype": "float32", "features": ("mean", "cls")}
    derived = extract_toy(tmp_path, "toy-text", **same, rows_per_shard=rows).stores
    direct = extract_toy(tmp_path / "b", "toy-text", **same, rows_per_shard=rows).stores
    for ours, theirs in zip(derived, direct, strict=True):
        assert ours.derived
        assert FeatureReader(ours.folder).ids == FeatureReader(theirs.folder).ids
        np.testing.assert_allclose(values(ours.folder), values(theirs.folder), atol=1e-6)


def test_the_manifest_says_what_a_store_was_derived_from(tmp_path):
    (tokens,) = extract_toy(tmp_path, "toy-image", split="val").stores
    (derived,) = extract_toy(tmp_path, "toy-image", split="val", features=("mean",)).stores
    manifest = read_manifest(derived.folder)
    assert manifest["settings"]["derived_from"] == {
        "key": tokens.key,
        "store": f"shapes/val/{tokens.folder.name}",
    }
    assert all(receipt["derived"] for receipt in manifest["shards"])
    assert "derived_from" not in read_manifest(tokens.folder)["settings"]
    shown = lightalign("cache", "info", derived.key[:12], home=tmp_path)
    assert f'"key": "{tokens.key}"' in shown.stdout


def extract_command(*options: str, home: Path, source: dict[str, int] = SCENES):
    settings = [word for name, n in source.items() for word in ("--set", f"source.{name}={n}")]
    fixed = ("--data", "shapes", "--device", "cpu", "--precision", "float32", "--split", "val")
    return lightalign("extract", "--encoder", "toy-image", *fixed, *settings, *options, home=home)


def test_extract_says_so_in_one_line_and_an_option_leaves_it_out(tmp_path, encoded):
    assert extract_command(home=tmp_path).returncode == 0
    (tokens,) = (tmp_path / "features" / "shapes" / "val").glob("toy-image--*")
    encoded.clear()
    done = extract_command("--features", "mean", home=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if "derived" in line]
    assert f"derived from shapes/val/{tokens.name}, nothing encoded" in line
    assert encoded == []
    other = extract_command("--features", "grid:2x2", "--set", "derive=false", home=tmp_path)
    assert "8 items encoded" in other.stdout
    assert "derived" not in other.stdout
    again = extract_command("--features", "mean", home=tmp_path)
    assert "0 items to do (cached)" in again.stdout


def test_a_dry_run_knows_what_would_be_derived(tmp_path, encoded):
    extract_command(home=tmp_path)
    encoded.clear()
    before = tree_bytes(tmp_path)
    done = extract_command("--features", "mean", "--dry-run", home=tmp_path)
    assert "would be derived from shapes/val/toy-image--" in done.stdout
    assert sum(encoded) <= 1  # what the largest item takes is measured, no dataset is encoded
    assert tree_bytes(tmp_path) == before
    refused = extract_command(
        "--features", "mean", "--dry-run", "--set", "derive=false", home=tmp_path
    )
    assert "derived" not in refused.stdout


def test_items_without_a_row_are_carried_over(tmp_path):

    data = write_table(tmp_path / "data", 30)
    for name in ("000.png", "009.png", "010.png", "029.png"):
        (data / name).write_bytes(b"")
    spec = {"data": f"image-text-table={data}", "source": {}, "split": "train", "max_bad": 0.2}
    extract_toy(tmp_path / "b", "toy-image", **spec)
    for rows in (4, 10, 64):
        asked = {**spec, "features": ("mean",), "rows_per_shard": rows}
        (direct,) = extract_toy(tmp_path / f"a{rows}", "toy-image", **asked).stores
        (derived,) = extract_toy(tmp_path / "b", "toy-image", **asked).stores
        assert derived.derived
        assert derived.skipped == direct.skipped
        assert FeatureReader(derived.folder).ids == FeatureReader(direct.folder).ids
        shutil.rmtree(derived.folder)


def test_too_many_items_without_a_row_are_refused_as_in_an_extraction(tmp_path):
    from .test_extract import write_table

    data = write_table(tmp_path / "data", 30)
    (data / "009.png").write_bytes(b"")
    spec = {"data": f"image-text-table={data}", "source": {}, "split": "train"}
    extract_toy(tmp_path, "toy-image", **spec, max_bad=0.2)
    with pytest.raises(TooManyBadItemsError, match="1 of 30 items"):
        extract_toy(tmp_path, "toy-image", **spec, features=("mean",), max_bad=0.0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_damaged_tokens_are_refused_with_the_command_that_mends_them(tmp_path):
    (tokens,) = extract_toy(tmp_path, "toy-image", split="val").stores
    flip(tokens.folder / "shard-00000" / "values" / "c" / "0" / "0" / "0")
    with pytest.raises(StoreCorruptError, match="to mend it: lightalign cache repair"):
        extract_toy(tmp_path, "toy-image", split="val", features=("mean",))
    assert repair(tmp_path, str(tokens.folder), device="cpu").left == ()
    (derived,) = extract_toy(tmp_path, "toy-image", split="val", features=("mean",)).stores
    assert derived.derived


def test_damaged_tokens_that_were_read_whole_once_are_still_refused(tmp_path):
    (tokens,) = extract_toy(tmp_path, "toy-image", split="val").stores
    extract_toy(tmp_path, "toy-image", split="val", features=("mean",))
    flip(tokens.folder / "shard-00000" / "values" / "c" / "0" / "0" / "0")
    with pytest.raises(StoreCorruptError, match="checksum differs"):
        extract_toy(tmp_path, "toy-image", split="val", features=("grid:2x2",))


def test_a_derived_store_is_repaired_from_its_tokens_to_the_same_bytes(tmp_path, encoded):
    extract_toy(tmp_path, "toy-image", split="train")
    (derived,) = extract_toy(tmp_path, "toy-image", split="train", features=("mean",)).stores
    before = tree_bytes(tmp_path)
    flip(derived.folder / "shard-00001" / "values" / "c" / "0" / "0" / "0")
    encoded.clear()
    report = repair(tmp_path, str(derived.folder), device="cpu")
    assert report.recomputed == (1,)
    assert report.differing == ()
    assert sum(encoded) == 0
    assert tree_bytes(tmp_path) == before


def test_a_derived_store_without_its_tokens_is_repaired_by_encoding(tmp_path, encoded):
    (tokens,) = extract_toy(tmp_path, "toy-image", split="train").stores
    (derived,) = extract_toy(tmp_path, "toy-image", split="train", features=("mean",)).stores
    expected = values(derived.folder)
    shutil.rmtree(tokens.folder)
    flip(derived.folder / "shard-00001" / "values" / "c" / "0" / "0" / "0")
    encoded.clear()
    done = lightalign("cache", "repair", "--device", "cpu", home=tmp_path)
    assert done.returncode == 0
    assert "which is not there any more or not complete" in done.stderr
    assert sum(encoded) >= 10
    assert [r.get("derived") for r in read_manifest(derived.folder)["shards"]] == [True, None, True]
    assert abs(values(derived.folder) - expected).max() <= 3 * ROUNDING["float16"] * 4


def test_one_repair_mends_tokens_and_what_is_derived_from_them(tmp_path):
    (tokens,) = extract_toy(tmp_path, "toy-image", split="train").stores
    (derived,) = extract_toy(tmp_path, "toy-image", split="train", features=("mean",)).stores
    before = tree_bytes(tmp_path)
    for folder in (tokens.folder, derived.folder):
        flip(folder / "shard-00001" / "values" / "c" / "0" / "0" / "0")
    done = lightalign("cache", "repair", "--device", "cpu", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree_bytes(tmp_path) == before


def begin(home: Path, **changes) -> None:
    """Stop an extraction of means after its first shard."""
    write = FeatureStore.write_shard
    written = []

    def write_one(self, index, *arguments, **options):
        if written:
            raise KeyboardInterrupt
        written.append(index)
        write(self, index, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "write_shard", write_one)
        with pytest.raises(KeyboardInterrupt):
            extract_toy(home, "toy-image", split="train", features=("mean",), **changes)


def test_what_was_begun_by_encoding_goes_on_by_encoding_to_the_same_bytes(tmp_path):
    """Else its bytes would depend on when it was interrupted."""
    same = {"split": "train", "features": ("mean",), "batch_size": 4}
    (direct,) = extract_toy(tmp_path / "a", "toy-image", **same).stores
    begin(tmp_path / "b", batch_size=4)
    extract_toy(tmp_path / "b", "toy-image", split="train")
    (report,) = extract_toy(tmp_path / "b", "toy-image", **same).stores
    assert report.encoded
    assert not report.derived
    assert tree_bytes(report.folder) == tree_bytes(direct.folder)


def test_what_was_begun_from_tokens_goes_on_from_them_to_the_same_bytes(tmp_path, encoded):
    for home in ("a", "b"):
        extract_toy(tmp_path / home, "toy-image", split="train")
    (whole,) = extract_toy(tmp_path / "a", "toy-image", split="train", features=("mean",)).stores
    begin(tmp_path / "b")
    # tokens that would be better to begin from are none to go on with
    extract_toy(tmp_path / "b", "toy-image", split="train", dtype="float32")
    encoded.clear()
    (report,) = extract_toy(tmp_path / "b", "toy-image", split="train", features=("mean",)).stores
    assert report.derived == 14  # of 24: ten were there
    assert encoded == []
    assert tree_bytes(report.folder) == tree_bytes(whole.folder)


def test_tokens_that_are_not_complete_are_not_taken(tmp_path):

    (tokens,) = extract_toy(tmp_path, "toy-image", split="train").stores
    FeatureStore(tokens.folder, read_manifest(tokens.folder)).drop_shards([1])
    (report,) = extract_toy(tmp_path, "toy-image", split="train", features=("mean",)).stores
    assert report.encoded == 24
    assert report.derived_from is None


def test_tokens_and_means_in_one_call_are_encoded_together(tmp_path, encoded):
    reports = extract_toy(tmp_path, "toy-image", split="train", features=("tokens", "mean")).stores
    assert [store.encoded for store in reports] == [24, 24]
    encoded.clear()
    asked = ("tokens", "mean", "grid:2x2")
    more = extract_toy(tmp_path, "toy-image", split="train", features=asked).stores
    assert [(store.encoded, store.derived) for store in more] == [(0, 0), (0, 0), (0, 24)]


def test_one_pass_over_the_tokens_fills_every_kind(tmp_path, monkeypatch):

    read = ItemRows._read
    shards: list[int] = []
    monkeypatch.setattr(ItemRows, "_read", lambda self, i: shards.append(i) or read(self, i))
    extract_toy(tmp_path, "toy-image", split="train")
    extract_toy(tmp_path, "toy-image", split="train", features=IMAGE_KINDS, rows_per_shard=15)
    assert shards == [0, 1, 2]


@pytest.mark.slow
def test_one_shard_of_tokens_is_open_at_a_time_and_blocks_are_small(tmp_path, monkeypatch):

    same = {"split": "train", "dtype": "float32", "features": ("mean", "cls")}
    extract_toy(tmp_path / "a", "toy-text", split="train", dtype="float32")
    extract_toy(tmp_path / "b", "toy-text", split="train", dtype="float32")
    whole = extract_toy(tmp_path / "a", "toy-text", **same).stores
    monkeypatch.setattr(item_rows, "BLOCK_ELEMENTS", 1)  # a row a block
    small = extract_toy(tmp_path / "b", "toy-text", **same).stores
    for ours, theirs in zip(small, whole, strict=True):
        np.testing.assert_allclose(values(ours.folder), values(theirs.folder), atol=1e-6)


def test_a_dry_run_counts_a_pass_for_each_size_of_shards(tmp_path, monkeypatch):
    """A begun store keeps its shards, and those of another size are filled by a pass of their own.

    Three kinds, of which one was begun with shards of ten: two passes over 24 items.
    """
    begin(tmp_path)
    probed = []
    probe = estimate._probe

    def count(spec, source, group):
        probed.append([output.description.kind for output in group])
        return 1.0, probe(spec, source, group)[1]  # a second an item

    monkeypatch.setattr(estimate, "_probe", count)
    spec = ExtractSpec(
        encoders=("toy-image",),
        data="shapes",
        home=tmp_path,
        source=SCENES,
        split="train",
        device="cpu",
        precision="float32",
        features=("tokens", "mean", "grid:2x2"),
    )
    found = estimate.run(spec)
    assert sorted(probed) == [["mean"], ["tokens", "grid:2x2"]]
    assert [(store.kind, store.missing) for store in found.stores] == [
        ("tokens", 24),
        ("mean", 14),
        ("grid:2x2", 24),
    ]
    assert found.minutes == pytest.approx((24 + 14) / 60)


def test_tokens_that_are_removed_meanwhile_are_named_in_one_line(tmp_path, monkeypatch):
    (tokens,) = extract_toy(tmp_path, "toy-image", split="train").stores
    opening = CheckedShards.open

    def open_the_first(self, index):
        if index:
            shutil.rmtree(tokens.folder)
        return opening(self, index)

    monkeypatch.setattr(CheckedShards, "open", open_the_first)
    with pytest.raises(StoreNotFoundError, match="was removed while other features were derived"):
        extract_toy(tmp_path, "toy-image", split="train", features=("mean",))
