"""Whatever was made of stores that nobody has compared says so."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lightalign.featcache import atomic_files
from lightalign.featcache.store.trust import WARNING

from ..helpers import lightalign
from ..pipelines.conftest import MANY_SCENES, extract_graded, extract_toy

ONE_EPOCH = ["--preset", "linear", "--set", "train.epochs=1"]


@pytest.fixture(scope="module")
def whole_home(tmp_path_factory) -> Path:
    """Return a home with a run, and with stores for every verb that reads stores."""
    home = tmp_path_factory.mktemp("whole")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, source=MANY_SCENES, rows_per_shard=100)
    extract_graded(home)
    for split, count in (("train", 6), ("test", 3)):
        for name in ("red", "blue"):
            folder = home / "datasets" / "image-folder" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32 + number), name).save(folder / f"{number}.png")
    extract_toy(home, "toy-image", data="image-folder", source={})
    done = lightalign("train-adapter", *ONE_EPOCH, "--name", "first", home=home)
    assert done.returncode == 0, done.stderr
    return home


def store(home: Path) -> str:
    (folder,) = (home / "features" / "shapes" / "test").glob("toy-image--*")
    return str(folder)


CLASSES = ["--data", "image-folder"]
VERBS = {
    "train-adapter": ["train-adapter", *ONE_EPOCH, "--name", "new"],
    "train-joint": [
        *("train-joint", "--preset", "vle/small", "--name", "new", "--data", "shapes"),
        *("--set", "train.epochs=1", "--set", "joint.fuse.layers=1"),
    ],
    "fine-tune": ["fine-tune", "first", *CLASSES, "--name", "new", "--set", "epochs=1"],
    "index": ["index", "first"],
    "retrieve": ["retrieve", "first"],
    "zero-shot": ["zero-shot", "first", *CLASSES],
    "probe": ["probe", "first", *CLASSES],
    "similarity": ["similarity", "first", "--data", "stsb"],
    "rank-encoders": ["rank-encoders", "--data", "shapes", "--neighbours", "3"],
    "cache export": ["cache", "export", "STORE", "EXPORT"],
}
REPORTS = {
    "train-adapter": "runs/new/report.json",
    "train-joint": "runs/new/report.json",
    "fine-tune": "runs/new/report.json",
    "index": "runs/first/index/*/index.json",
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "how",
    [pytest.param([], marks=pytest.mark.slow), ["--no-verify"]],
    ids=["verifying", "trusting"],
)
def test_a_report_says_whether_stores_were_read_without_comparing_them(
    verb, how, whole_home, tmp_path
):
    home = tmp_path / "home"
    shutil.copytree(whole_home, home)
    places = {"STORE": store(home), "EXPORT": str(tmp_path / "rows.parquet")}
    command = [places.get(part, part) for part in VERBS[verb]]
    done = lightalign(*command, *how, "--json", "--quiet", home=home)
    assert done.returncode == 0, done.stderr
    assert (WARNING in json.dumps(json.loads(done.stdout)["warnings"])) == bool(how)
    for path in home.glob(REPORTS.get(verb, "none")):
        assert (WARNING in atomic_files.read_report(path)["warnings"]) == bool(how)


def test_what_a_search_finds_in_an_index_of_such_stores_says_so(whole_home, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(whole_home, home)
    assert lightalign("index", "first", "--no-verify", home=home).returncode == 0
    done = lightalign("search", "first", "a red square", "--json", home=home)
    assert done.returncode == 0, done.stderr
    assert WARNING in json.loads(done.stdout)["warnings"]
