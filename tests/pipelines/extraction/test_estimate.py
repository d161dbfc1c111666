"""What `--dry-run` says, held against the real stores."""

from collections import namedtuple

import pytest

from lightalign.featcache.errors import DiskSpaceError
from lightalign.pipelines.extraction import estimate, extract
from lightalign.pipelines.extraction.spec import ExtractSpec

from ...helpers import slow

SCENES = {"train": 300, "val": 10, "test": 10, "size": 32}
FEW = {**SCENES, "train": 40}


def spec(home, **changes) -> ExtractSpec:
    fields = {
        "encoders": ("toy-image", "toy-text"),
        "data": "shapes",
        "home": home,
        "source": SCENES,
        "split": "train",
        "device": "cpu",
    }
    return ExtractSpec(**{**fields, **changes})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "features"), [*slow(("float16", ("tokens",))), ("int8", ("tokens", "mean"))]
)
def test_the_bytes_are_those_of_the_real_stores_within_2_percent(tmp_path, dtype, features):
    """The estimate leaves out metadata, 4 KB of a shard of 150 KB or more here."""
    asked = spec(tmp_path, dtype=dtype, features=features)
    estimated = {(s.encoder, s.kind): s.bytes for s in estimate.run(asked).stores}
    for store in extract.run(asked).stores:
        if store.bytes > 150_000:
            expected = pytest.approx(store.bytes, rel=0.02, abs=4096)
            assert estimated[store.encoder, store.kind] == expected


def test_nothing_is_left_behind_and_the_home_is_not_made(tmp_path):
    found = estimate.run(spec(tmp_path / "home", source=FEW))
    assert not (tmp_path / "home").exists()
    assert [store.missing for store in found.stores] == [40, 200]
    assert found.minutes > 0
    assert found.peak_memory_bytes > 50e6


def test_what_is_cached_costs_nothing(tmp_path):
    extract.run(spec(tmp_path, source=FEW, encoders=("toy-image",)))
    found = estimate.run(spec(tmp_path, source=FEW))
    assert [(store.encoder, store.missing) for store in found.stores] == [
        ("toy-image", 0),
        ("toy-text", 200),
    ]
    assert found.stores[0].missing_bytes == 0


def test_an_extraction_that_the_disk_cannot_hold_does_not_start(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(DiskSpaceError, match=r"need [\d.]+ MB, the disk of .* has 0\.0 MB left"):
        extract.run(spec(tmp_path))
    assert not list(tmp_path.rglob("shard-*"))
