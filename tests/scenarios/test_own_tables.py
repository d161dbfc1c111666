"""Tables as people have them, through the whole of extraction: rows, ledger and advice."""

import json

import pytest

from lightalign.featcache.errors import TooManyBadItemsError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store.manifest import read_manifest

from ..featcache.sources.tables.test_parquet import rows_of, write
from ..helpers import lightalign
from ..pipelines.conftest import extract_toy
from .test_broken_pictures import RED

LINES = [
    "Bild;Beschreibung;split",
    "a.jpg;ein Hund, müde;train",
    "a.jpg;b;c;train",
    "b.jpg;x;train",
]


@pytest.fixture
def data(tmp_path):
    """Return the folder of a table as Excel writes it, with one row of too many cells."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(RED)
    (folder / "table.csv").write_bytes("\r\n".join(LINES).encode("cp1252"))
    return folder


def extracted(home, data, encoder="toy-text", **changes):
    options = {
        "data": f"image-text-table={data}",
        "source": {"image_column": "Bild"},
        "split": "train",
        **changes,
    }
    return extract_toy(home, encoder, **options)


def test_a_row_that_cannot_be_read_is_in_the_ledger_and_ends_nothing(data, tmp_path):
    report = extracted(tmp_path / "home", data)
    (store,) = report.stores
    assert [(row.place, row.reason[:9]) for row in report.skipped_rows] == [("line 3", "4 cells w")]
    assert (store.rows, store.skipped) == (2, ())
    settings = read_manifest(store.folder)["settings"]
    assert settings["skipped_rows"] == [
        {"place": "line 3", "reason": "4 cells where the header has 3; quote cells that hold ';'"}
    ]
    assert settings["num_skipped_rows"] == 1


def test_on_error_counts_rows_where_it_is_given(data, tmp_path):
    with pytest.raises(TooManyBadItemsError, match=r"1 rows cannot be read, 0 .* line 3: 4 cel"):
        extracted(tmp_path / "home", data, on_error="fail")
    for rule in ("skip", "max=1"):
        assert extracted(tmp_path / "home", data, on_error=rule).stores[0].rows == 2


def test_options_of_a_table_are_told_by_the_command_line(data, tmp_path):
    command = ["extract", "--encoder", "toy-text", "--data", f"image-text-table={data}"]
    options = ["--set", "source.delimiter=;", "--set", "source.encoding=cp1252"]
    options += ["--set", "source.image_column=Bild"]
    done = lightalign(*command, *options, "--json", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["skipped_rows"][0]["place"] == "line 3"
    assert "line 3 left out, cannot be read: 4 cells where the header has 3" in done.stderr
    info = lightalign("cache", "info", report["stores"][0]["key"][:12], home=tmp_path / "home")
    assert json.loads(info.stdout)["settings"]["source"]["delimiter"] == ";"


def test_pictures_of_a_table_are_encoded_as_their_files_are(tmp_path):
    rows = rows_of(range(40), split="train")
    write(tmp_path / "stored" / "table.parquet", rows, row_group_size=9)
    (tmp_path / "files").mkdir()
    lines = ["image,caption,split"]
    for row in rows:
        (tmp_path / "files" / row["image"]["path"]).write_bytes(row["image"]["bytes"])
        lines.append(f"{row['image']['path']},{row['caption']},train")
    (tmp_path / "files" / "table.csv").write_text("\n".join(lines))
    features = []
    for name in ("stored", "files"):
        options = {"encoder": "toy-image", "source": {}, "batch_size": 7}
        (store,) = extracted(tmp_path / "home", tmp_path / name, **options).stores
        features.append(FeatureReader(store.folder).gather(range(40)))
    assert features[0].ids == features[1].ids
    assert (features[0].values == features[1].values).all()
