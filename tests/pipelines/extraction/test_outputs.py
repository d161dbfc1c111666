"""Several stores from one pass: kinds, layers, stored types, encoders."""

import subprocess
import sys

import numpy as np
import pytest

from lightalign.featcache.errors import OutOfMemoryError, SpecError, TooManyBadItemsError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.spec import ExtractSpec

from ...helpers import tree_bytes
from ..conftest import SCENES, extract_toy


def values(report, kind: str = "tokens", encoder: str = "toy-image") -> np.ndarray:
    """Return all features of the one store of this kind as [rows, tokens, width] float64."""
    (store,) = (s for s in report.stores if (s.kind, s.encoder) == (kind, encoder))
    reader = FeatureReader(store.folder)
    found = reader.gather(range(len(reader))).values
    return found.reshape(len(reader), -1, found.shape[1]).astype(np.float64)


def test_one_pass_keeps_the_mean_and_a_coarser_grid_beside_the_tokens(tmp_path):
    """The toy's 4x4 grid: cell (0, 0) of 2x2 is the mean of cells 0, 1, 4 and 5."""
    report = extract_toy(
        tmp_path,
        "toy-image",
        split="val",
        features=("tokens", "mean", "grid:2x2"),
        dtype="float32",
    )
    tokens = values(report)
    assert tokens.shape == (SCENES["val"], 16, 16)
    np.testing.assert_allclose(values(report, "mean")[:, 0], tokens.mean(axis=1), atol=1e-6)
    coarse = values(report, "grid:2x2")
    np.testing.assert_allclose(coarse[:, 0], tokens[:, [0, 1, 4, 5]].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(coarse[:, 3], tokens[:, [10, 11, 14, 15]].mean(axis=1), atol=1e-6)


def test_the_mean_of_a_text_leaves_padding_out(tmp_path):
    report = extract_toy(
        tmp_path, "toy-text", split="val", features=("tokens", "mean"), dtype="float32"
    )
    whole, mean = (FeatureReader(store.folder) for store in report.stores)
    tokens = whole.gather(range(len(whole)))
    means = mean.gather(range(len(mean))).values
    for row in range(len(whole)):
        np.testing.assert_allclose(means[row], tokens.row(row).mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "kind", "message"),
    [
        ("toy-image", "cls", "need a CLS token"),
        ("toy-image", "grid:5x4", "needs? a grid of at least 5x4, this encoder has 4x4"),
        ("toy-text", "grid:2x2", "this encoder has none"),
        ("toy-text", "max", "no features 'max'"),
    ],
)
def test_features_that_an_encoder_cannot_give_are_refused(tmp_path, encoder, kind, message):
    with pytest.raises(SpecError, match=message):
        extract_toy(tmp_path, encoder, split="val", features=(kind,))


def test_a_layer_that_an_encoder_does_not_have_is_refused(tmp_path):
    with pytest.raises(SpecError, match="has one layer, -1; found -2"):
        extract_toy(tmp_path, "toy-image", split="val", layers=(-1, -2))


def test_encoders_that_share_a_pass_write_what_each_writes_alone(tmp_path):
    """Images and texts in one call, and each in a call of its own."""
    both = {"encoders": ("toy-image", "toy-text"), "split": "val"}
    extract_toy(tmp_path / "both", "toy-image", **both)
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path / "alone", encoder, split="val")
    assert tree_bytes(tmp_path / "both") == tree_bytes(tmp_path / "alone")


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Return the features of the images of `val` as they were computed."""
    home = tmp_path_factory.mktemp("exact")
    return values(extract_toy(home, "toy-image", split="val", dtype="float32"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("compression", ["none", "zstd", "blosc-lz4"])
@pytest.mark.parametrize("container", ["zarr", "hdf5"])
def test_fewer_bytes_keep_the_values_to_their_rounding(
    exact, tmp_path, dtype, compression, container
):
    """float16 keeps 11 bits, bfloat16 8; int8 is off by at most half of its scale."""
    report = extract_toy(
        tmp_path,
        "toy-image",
        split="val",
        dtype=dtype,
        compression=compression,
        format=container,
    )
    error = np.abs(values(report) - exact)
    bound = {"float16": 2.0**-11 * np.abs(exact) + 1e-7, "bfloat16": 2.0**-8 * np.abs(exact)}
    bound["int8"] = np.abs(exact).max(axis=2, keepdims=True) / 127 * 0.5001 + 1e-9
    assert (error <= bound[dtype]).all()


@pytest.mark.usefixtures("untried")
def test_equal_texts_are_encoded_once_and_each_has_its_row(tmp_path, monkeypatch):
    from lightalign.featcache.encoders.backends.toy import ToyEncoder

    data = tmp_path / "data"
    data.mkdir()
    from PIL import Image

    Image.new("RGB", (4, 4)).save(data / "a.png")
    rows = ["a red dog", "two", "a red dog", "one more word here", "two", "a red dog"]
    lines = ["image,caption,split", *(f"a.png,{text},train" for text in rows)]
    (data / "t.csv").write_text("\n".join(lines) + "\n")
    batches = []
    encode = ToyEncoder.encode
    monkeypatch.setattr(
        ToyEncoder, "encode", lambda self, batch: batches.append(len(batch)) or encode(self, batch)
    )
    report = extract_toy(
        tmp_path / "home",
        "toy-text",
        data=f"image-text-table={data}",
        source={},
        split="train",
        rows_per_shard=None,
        batch_size=32,  # else one is encoded to see how much memory it takes
    )
    assert sum(batches) == 3
    reader = FeatureReader(report.stores[0].folder)
    found = reader.gather(range(len(reader)))
    assert found.lengths.tolist() == [3, 1, 3, 4, 1, 3]
    np.testing.assert_array_equal(found.row(0), found.row(2))
    np.testing.assert_array_equal(found.row(1), found.row(4))
    assert not np.array_equal(found.row(1)[0], found.row(3)[0])


SLOW = """
import sys, time
from pathlib import Path
from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.pipelines.extraction.extract import run
from lightalign.pipelines.extraction.spec import ExtractSpec
encode = ToyEncoder.encode
def slow(self, batch):
    time.sleep(0.02)
    return encode(self, batch)
ToyEncoder.encode = slow
print("go", flush=True)
report = run(ExtractSpec(home=Path(sys.argv[1]), %s))
print(report.stores[0].rows)
"""
SHARED = {
    "encoders": ("toy-image",),
    "data": "shapes",
    "split": "train",
    "source": {"train": 120, "size": 32},
    "batch_size": 4,
    "rows_per_shard": 10,
}


@pytest.mark.slow
def test_two_processes_share_the_shards_and_write_the_same_bytes(tmp_path):
    extract.run(ExtractSpec(home=tmp_path / "one", **SHARED))
    command = [sys.executable, "-c", SLOW % f"**{SHARED!r}"]
    running = [
        subprocess.Popen([*command, str(tmp_path / "two")], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=120)[0].split() for process in running]
    assert printed == [["go", "120"]] * 2
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_workers_change_no_byte_of_texts_either(tmp_path, workers):
    extract_toy(tmp_path / "a", "toy-text", split="val", workers=4)
    extract_toy(tmp_path / "b", "toy-text", split="val", workers=workers)
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")


@pytest.mark.parametrize(
    ("on_error", "rows"), [("skip", 8), ("max=2", 8), ("max=1", None), ("fail", None)]
)
def test_on_error_says_how_many_items_may_be_unreadable(tmp_path, on_error, rows):
    from .test_extract import write_table

    data = write_table(tmp_path / "data", 10)
    for name in ("003.png", "007.png"):
        (data / name).write_bytes(b"no image")
    spec = {"data": f"image-text-table={data}", "source": {}, "split": "train"}
    if rows is None:
        with pytest.raises(TooManyBadItemsError, match=r"003\.png"):
            extract_toy(tmp_path / "home", "toy-image", on_error=on_error, **spec)
        return
    (store,) = extract_toy(tmp_path / "home", "toy-image", on_error=on_error, **spec).stores
    assert store.rows == rows
    assert [(item.id, item.stage) for item in store.skipped] == [
        ("003.png", "read"),
        ("007.png", "read"),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"encoders": ()},
        {"encoders": ("toy-image", "toy-image")},
        {"features": ("mean", "mean")},
        {"layers": (0,)},
        {"on_error": "max=many"},
        {"on_error": "ignore"},
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options):
    fields = {"encoders": ("toy-image",), "data": "shapes", "home": tmp_path}
    with pytest.raises(SpecError, match=next(iter(options))):
        ExtractSpec(**{**fields, **options})


@pytest.mark.parametrize("encoder", ["toy-image", "toy-text"])
def test_a_shard_without_any_readable_item_is_written_empty(tmp_path, encoder, monkeypatch):
    from lightalign.featcache.encoders.backends.toy import ToyEncoder
    from lightalign.featcache.errors import UnreadableItemError

    preprocess = ToyEncoder.preprocess

    def fail_in_the_last_shard(self, content, *, item_id):
        if item_id.startswith("shapes-val-000007"):
            raise UnreadableItemError(f"{item_id}: broken")
        return preprocess(self, content, item_id=item_id)

    monkeypatch.setattr(ToyEncoder, "preprocess", fail_in_the_last_shard)
    per_shard = 7 if encoder == "toy-image" else 35
    (store,) = extract_toy(
        tmp_path, encoder, split="val", rows_per_shard=per_shard, on_error="skip"
    ).stores
    assert store.rows == per_shard
    assert len(store.skipped) == (1 if encoder == "toy-image" else 5)
    reader = FeatureReader(store.folder)
    assert len(reader.gather(range(len(reader)))) == per_shard


def test_a_gpu_without_the_memory_gets_halves(tmp_path):
    """An encoder that takes three items at a time at most is given seven."""
    import torch

    from lightalign.featcache.encoders.loading import open_encoder
    from lightalign.featcache.types import Item
    from lightalign.pipelines.extraction.out_of_memory import encode_within_memory

    encoder = open_encoder("toy-text")
    prepared = [encoder.prepare(Item(id=str(n), text="a " * (n + 1))) for n in range(7)]
    whole = encoder.encode(prepared)
    encode = encoder.encode

    def small(batch):
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("too much")
        return encode(batch)

    encoder.encode = small
    (found,) = encode_within_memory(encoder, prepared, [-1], {encoder.name: len(prepared)})
    assert torch.equal(found.mask, whole.mask)
    torch.testing.assert_close(found.values[found.mask], whole.values[whole.mask])


@pytest.mark.parametrize("text", ["too much", "DefaultCPUAllocator: can't allocate memory"])
def test_one_item_that_no_memory_holds_is_a_clear_error(text):
    import torch

    from lightalign.featcache.encoders.loading import open_encoder
    from lightalign.pipelines.extraction.out_of_memory import encode_within_memory

    def full(_batch):
        raise torch.cuda.OutOfMemoryError(text) if text == "too much" else RuntimeError(text)

    encoder = open_encoder("toy-text")
    encoder.encode = full
    with pytest.raises(OutOfMemoryError, match="lacks the memory for one item"):
        encode_within_memory(encoder, ["one"], [-1], {encoder.name: 1})
