"""What a user may not read is named as such: it is neither missing nor damaged, and stays."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ..helpers import give_up_root_rights, lightalign, slow, tree_bytes
from ..pipelines.conftest import SCENES, extract_toy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gives up root's rights")

EXTRACT = (
    "extract --encoder toy-image --data shapes --split test --precision float32 --device cpu "
    "--set source.train=24 --set source.val=8 --set source.test=8 --set source.size=64"
)
COMMANDS = (  # each one is run once before it is run where rights are missing: all is imported
    "cache ls",
    "cache verify",
    "cache explain IMAGES",
    "cache info IMAGES",
    "cache repair",
    "runs list",
    "runs show a",
    "retrieve a --quiet --json --device cpu",
    "search a red --quiet",
    "report a",
    "train-adapter --resume a",
    "train-adapter --name a --preset linear",
    "train-joint --name a --preset vle/small",
    EXTRACT,
    "cache rm TEXTS --force",
)
TRAIN = "train-adapter --preset linear --set train.epochs=1 --name a --quiet --device cpu"


def run(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in which IMAGES and TEXTS stand for the stores of the split `test`."""
    place = home / "features" / "shapes" / "test"
    for word, encoder in (("IMAGES", "toy-image"), ("TEXTS", "toy-text")):
        store = next((path.name for path in STORES if path.name.startswith(encoder)), "")
        command = command.replace(word, str(place / store))
    return lightalign(*command.split(), home=home)


STORES: list[Path] = []  # of the split `test`, below the home


@pytest.fixture(scope="module")
def whole_home(tmp_path_factory) -> Path:
    """Return a home with a run, an evaluation and an index."""
    home = tmp_path_factory.mktemp("closed-places") / "whole"
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, source=SCENES, rows_per_shard=100)
    STORES[:] = sorted((home / "features/shapes/test").glob("toy-*"))
    for command in (TRAIN, "index a --split test --quiet", *COMMANDS[:-1]):
        run(command, home)
    run(COMMANDS[-1], Path(shutil.copytree(home, home.parent / "warm")))
    return home


@pytest.fixture
def home(whole_home) -> Iterator[Path]:
    """Return a copy of the home."""
    home = Path(shutil.copytree(whole_home, whole_home.parent / "home"))
    yield home
    shutil.rmtree(home)


RIGHTS: dict[Path, int] = {}  # what was taken away and is given back after the next command


def by_its_owner(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without root's rights in a child process, and open again what was closed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # threads do not live on in a child
        try:
            give_up_root_rights()
            done = run(command, home)
            answer = [done.returncode, done.stdout, done.stderr]
        except BaseException as error:
            answer = [-1, "", repr(error)]
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        code, out, err = json.loads(file.read())
    os.waitpid(child, 0)
    while RIGHTS:
        path, rights = RIGHTS.popitem()
        path.chmod(rights)
    return subprocess.CompletedProcess(command, code, out, err)


def close(home: Path, place: str) -> Path:
    """Take all rights away from what lies at a place, and return its path."""
    images = next(path.name for path in STORES if path.name.startswith("toy-image"))
    (path,) = home.glob(place.replace("IMAGES", f"features/shapes/test/{images}"))
    RIGHTS[path] = path.stat().st_mode & 0o777
    path.chmod(0)
    return path


IN_A_RUN = ("runs/a", "runs/a/report.json", "runs/a/run.toml", "runs/a/adapter.safetensors")


@pytest.mark.parametrize("place", IN_A_RUN)
@pytest.mark.parametrize(
    "command", [*slow("runs show a"), "retrieve a --quiet --json --device cpu"]
)
def test_a_run_that_may_not_be_read_is_refused_with_the_reason(place, command, home):
    path = close(home, place)
    done = by_its_owner(command, home)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert str(path) in line
    assert "Permission denied" in line
    assert "runs rm" not in line
    assert "no run" not in line


@pytest.mark.parametrize("place", IN_A_RUN[:3])
def test_a_run_that_may_not_be_read_is_named_in_the_list_of_runs(place, home):
    path = close(home, place)
    done = by_its_owner("runs list", home)
    assert done.returncode == 0
    assert "unreadable" in done.stdout
    assert f"{path} cannot be read: Permission denied" in done.stdout


@pytest.mark.parametrize("place", IN_A_RUN)
def test_no_run_takes_the_place_of_one_that_may_not_be_read(place, home):
    path = close(home, place)
    done = by_its_owner("retrieve --quiet --json --device cpu", home)
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("command", ["train-adapter --resume a", "report a", COMMANDS[11]])
def test_a_closed_run_folder_is_not_called_missing(command, home):
    path = close(home, "runs/a")
    done = by_its_owner(command, home)
    assert done.returncode == 2
    assert f"Permission denied: {path}" in done.stderr


CLOSED = (
    *IN_A_RUN,
    "runs/a/index",
    "runs/a/index/*",
    "runs/a/index/*/index.json",
    "runs/a/index/*/index.faiss",
    "features",
    "features/shapes/test",
    "features/shapes/test/pairs--*.json",
    "IMAGES",
    "IMAGES/manifest.json",
    "IMAGES/manifest.copy.json",
    "IMAGES/zarr.json",
    "IMAGES/shard-00000",
    "IMAGES/shard-00000/values/zarr.json",
)


@pytest.mark.parametrize("place", CLOSED[::2])
def test_verify_names_what_may_not_be_read_and_fails(place, home):
    path = close(home, place)
    done = by_its_owner("cache verify", home)
    assert done.returncode == 1
    assert str(path) in done.stdout
    assert "cannot be read: Permission denied" in done.stdout


@pytest.mark.parametrize("place", CLOSED[-5::2])
@pytest.mark.parametrize("command", ["cache repair", EXTRACT])
def test_nothing_is_taken_away_from_a_store_that_may_not_be_read(place, command, home):
    """Of the file that is closed alone nothing shows: an extraction may say that it is cached."""
    before = tree_bytes(home / "features")
    path = close(home, place)
    done = by_its_owner(command, home)
    assert done.returncode in {0, 2}
    if done.returncode:
        assert "Permission denied" in done.stderr
        assert str(path) in done.stderr
    else:
        assert "cached" in done.stdout
    assert tree_bytes(home / "features") == before


def test_pairs_that_may_not_be_read_are_not_written_again(home):
    path = close(home, "features/shapes/test/pairs--*.json")
    done = by_its_owner(EXTRACT, home)
    assert done.returncode == 2
    assert f"Permission denied: {path}" in done.stderr


def test_the_pairs_of_a_store_that_may_not_be_read_stay(home):
    """The other store of the split is not the last one that needs them."""
    close(home, "IMAGES")
    (pairs,) = (home / "features/shapes/test").glob("pairs--*.json")
    done = by_its_owner("cache rm TEXTS --force", home)
    assert done.returncode == 0, done.stderr
    assert pairs.is_file()


def test_a_store_is_not_removed_while_a_run_that_may_need_it_is_closed(home):
    close(home, "runs/a")
    done = by_its_owner("cache rm TEXTS", home)
    assert done.returncode == 2
    assert "may have been used by a run that cannot be read" in done.stderr
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("place", ["runs/a/index", "runs/a/index/*", "runs/a/index/*/index.json"])
def test_a_search_does_not_call_a_closed_index_missing(place, home):
    path = close(home, place)
    done = by_its_owner("search a red --quiet", home)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert str(path) in line
    assert "Permission denied" in line
    assert "lightalign index" not in line


def test_a_leak_check_that_could_not_be_made_is_in_the_report(home):
    path = close(home, "features/shapes/train/toy-image--*")
    done = by_its_owner("retrieve a --quiet --json --device cpu", home)
    assert done.returncode == 0, done.stderr
    (reason,) = json.loads(done.stdout)["leakage"]["not_checked"]
    assert str(path) in reason
    assert "Permission denied" in reason


def test_a_closed_store_that_was_asked_for_is_what_the_message_begins_with(home):
    path = close(home, "IMAGES")
    done = by_its_owner("retrieve a --quiet --json --device cpu", home)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"lightalign: {path} cannot be read: Permission denied")
    assert "lightalign extract" not in line
