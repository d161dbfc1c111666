"""Datasets are found by name, and their options are checked before any file is read."""

import subprocess
import sys
from pathlib import Path

import pytest

from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.sources.opening import list_datasets, open_source, parse_data

from .class_helpers import CLASS_LAYOUTS
from .graded_helpers import GRADED_LAYOUTS
from .question_helpers import QUESTION_LAYOUTS
from .region_helpers import REGION_LAYOUTS
from .sources_helpers import FOLDER_LAYOUTS, LAYOUTS, kaggle_8k, written


def test_names_titles_and_needs_are_listed():
    listed = list_datasets()
    of_tables = {**GRADED_LAYOUTS, **QUESTION_LAYOUTS, **REGION_LAYOUTS}
    assert [name for name, _, _ in listed] == sorted(
        {**LAYOUTS, **FOLDER_LAYOUTS, **CLASS_LAYOUTS, **of_tables}
    )
    assert [name for name, _, needs_files in listed if not needs_files] == ["shapes"]
    assert all(title and "\n" not in title for _, title, _ in listed)


def test_listing_and_opening_import_neither_torch_nor_pyarrow():
    code = (
        "import sys; from pathlib import Path; "
        "from lightalign.featcache.sources import opening as d;"
        "d.list_datasets(); d.open_source('shapes', home=Path('.'));"
        "sys.exit(bool({'torch', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("flickr8k", ("flickr8k", None)),
        ("flickr8k=/data/f8k", ("flickr8k", Path("/data/f8k"))),
        ("image_text_table=a=b.csv", ("image-text-table", Path("a=b.csv"))),
        ("flickr8k=~/x", ("flickr8k", Path("~/x").expanduser())),
    ],
)
def test_name_and_path_are_told_apart(data, expected):
    assert parse_data(data) == expected


@pytest.mark.parametrize("data", ["", "=path", "flickr8k=", " "])
def test_data_without_name_or_path_is_refused(data):
    with pytest.raises(SpecError, match="is not of the form NAME or NAME=PATH"):
        parse_data(data)


def test_the_default_place_is_under_home(tmp_path):
    (tmp_path / "datasets").mkdir()
    written("flickr8k", kaggle_8k, tmp_path / "datasets" / "flickr8k")
    assert open_source("flickr8k", home=tmp_path).root == tmp_path / "datasets" / "flickr8k"


def test_unknown_datasets_and_options_list_the_known_ones(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no dataset named 'flickr9k'; close: \['flickr8k'"):
        open_source("flickr9k", home=tmp_path)
    with pytest.raises(SpecError, match=r"'shapes': unknown key 'tarin'; did you mean train\?"):
        open_source("shapes", home=tmp_path, options={"tarin": 3})
