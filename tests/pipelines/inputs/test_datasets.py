"""What a preview counts of a dataset, as an extraction will read it."""

import pytest

from lightalign.featcache.sources.opening import define, open_version
from lightalign.featcache.sources.tables import parquet
from lightalign.pipelines.inputs.datasets import preview

from ...featcache.sources.sources_helpers import write_images
from ...featcache.sources.tables.test_parquet import rows_of, write


@pytest.fixture
def version(tmp_path):
    """Return a table of four pictures: bytes, a file, no file, and neither bytes nor a path."""
    write_images(tmp_path, ["1.png"])
    rows = rows_of(range(4), split="train")
    for row in rows[1:]:
        row["image"]["bytes"] = None
    rows[3]["image"]["path"] = None
    write(tmp_path / "table.parquet", rows)
    return define(f"mine={tmp_path / 'table.parquet'}", home=tmp_path / "home")


def test_rows_of_parquet_without_bytes_and_without_a_file_are_counted_as_unreadable(
    version, tmp_path
):
    source = open_version(version, home=tmp_path / "home")
    found = preview(version, source)
    assert [(one.images, one.unreadable) for one in found.counts] == [(4, 2)]
    reasons = [line.partition("its row has ")[2] for line in found.unreadable]
    missing = f"no bytes, and no file that can be read at {tmp_path / '2.png'}"
    assert reasons == [missing, "neither bytes nor a path to read"]


def test_a_table_too_large_to_look_through_is_noted(version, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_MOST_LOOKED_THROUGH", 1)
    found = preview(version, open_version(version, home=tmp_path / "home"))
    assert found.counts[0].unreadable == 0
    assert found.notes[-1].startswith("rows without a picture are not counted")
