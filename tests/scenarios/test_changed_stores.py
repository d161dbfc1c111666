"""Verbs that read a changed store end with one line, and with other numbers never."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lightalign.pipelines.training.trainer import Trainer

from ..featcache.store.test_checked_shards import forge
from ..helpers import lightalign
from ..pipelines.conftest import extract_toy

TRAIN = ["train-adapter", "--preset", "linear", "--set", "train.epochs=1"]


@pytest.fixture(scope="module")
def whole_home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("whole")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, rows_per_shard=50)
    done = lightalign(*TRAIN, "--name", "first", home=home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(whole_home, tmp_path) -> Path:
    shutil.copytree(whole_home, tmp_path / "home")
    return tmp_path / "home"


def chunk(home: Path, split: str, array: str) -> Path:
    place = f"features/*/{split}/toy-image--*/shard-00000/{array}/c/**/0"
    (path,) = (path for path in home.glob(place) if path.is_file())
    return path


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def reverse(path: Path) -> None:
    folder = path.parents[2]
    shape = json.loads((folder / "zarr.json").read_text())["shape"]
    np.fromfile(path, np.uint8).reshape(shape)[::-1].tofile(path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


COMMANDS = {"train": [*TRAIN, "--name", "second"], "test": ["retrieve", "first"]}


@pytest.mark.parametrize("split", COMMANDS)
@pytest.mark.parametrize(("array", "change"), [("values", zero), ("ids", reverse), ("ids", flip)])
def test_changed_bytes_are_one_line_and_a_command_that_mends_them(split, array, change, home):
    path = chunk(home, split, array)
    before = path.read_bytes()
    change(path)
    assert path.read_bytes() != before
    done = lightalign(*COMMANDS[split], "--quiet", home=home)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert str(path) in line
    assert "checksum differs" in line
    assert f"lightalign cache repair {path.parents[(array == 'ids' and 4) or 5]}" in line


def test_no_verify_reads_all_the_same_and_says_so(home):
    zero(chunk(home, "test", "values"))
    done = lightalign("retrieve", "first", "--no-verify", home=home)
    assert done.returncode == 0, done.stderr
    assert "--no-verify" in done.stderr
    report = json.loads(next((home / "runs" / "first").glob("retrieval-*.json")).read_text())
    assert any("--no-verify" in warning for warning in report["warnings"])
    done = lightalign("retrieve", "first", home=home)  # it ends with that command
    assert done.returncode == 2


@pytest.mark.parametrize("how", [[], ["--no-verify"]])
@pytest.mark.parametrize(
    ("split", "command"),
    [
        ("test", ["retrieve", "first"]),
        ("test", ["index", "first"]),
        ("test", ["cache", "export"]),
        ("train", [*TRAIN, "--name", "second"]),
        ("train", ["train-adapter", "--name", "second", "--set", "train.epochs=1"]),
        ("train", ["retrieve", "first", "--data", "shapes"]),
        ("train", ["rank-encoders"]),
    ],
)
def test_a_stored_feature_that_is_not_finite_names_store_and_item(split, command, how, home):
    if how and command == ["rank-encoders"]:
        return  # it refuses so few items before it reads their features
    path = chunk(home, split, "values")
    array = np.fromfile(path, np.float16)
    array[3] = np.inf if how else np.nan
    array.tofile(path)
    folder = next(parent for parent in path.parents if parent.name.startswith("toy-image--"))
    forge(folder)
    if command == ["cache", "export"]:
        command = [*command, str(folder), str(home / "exported")]
    done = lightalign(*command, *how, "--quiet", home=home)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert folder.name in line
    assert "not all finite" in line


@pytest.mark.parametrize("residency", ["host", "disk"])
def test_a_store_that_is_removed_ends_the_training_on_it_with_one_line(
    home, monkeypatch, residency
):
    (store,) = (home / "features" / "shapes" / "train").glob("toy-text--*")
    epoch = Trainer.train_epoch

    def remove_before_the_second(self, *arguments):
        if self.counts.epoch == 1:
            removed = lightalign("cache", "rm", str(store), "--force", home=home)
            assert removed.returncode == 0, removed.stderr
        epoch(self, *arguments)

    monkeypatch.setattr(Trainer, "train_epoch", remove_before_the_second)
    sets = ["--set", "train.epochs=2", "--set", f"train.residency={residency}"]
    command = ["train-adapter", "--preset", "linear", *sets, "--name", "second", "--quiet"]
    done = lightalign(*command, home=home)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"store {store} was removed" in done.stderr
