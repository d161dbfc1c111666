"""Stores that are not where or what their folder says: of another home, or under another's key."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from lightalign.featcache.store.catalog import list_stores
from lightalign.featcache.store.manifest import COPY, MANIFEST

from ..helpers import lightalign, tree_bytes
from ..pipelines.conftest import extract_toy


@pytest.fixture
def other(toy_home, tmp_path) -> Path:
    """Return a home with stores and no runs, to which links of another home lead."""
    return Path(shutil.copytree(toy_home, tmp_path / "other"))


def linked(tmp_path: Path, other: Path, *below: str) -> Path:
    """Return a home in which one folder is a link to that of the other home."""
    home = tmp_path / "ours"
    place = home.joinpath(*below)
    place.parent.mkdir(parents=True)
    place.symlink_to(other.joinpath(*below))
    return home


@pytest.mark.parametrize(
    "below", [("features",), ("features", "shapes"), ("features", "shapes", "test")]
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_store_is_not_removed_through_a_link_to_another_home(below, force, tmp_path, other):
    home = linked(tmp_path, other, *below)
    entry = list_stores(home, "shapes/test")[0]
    before = tree_bytes(other)
    done = lightalign("cache", "rm", entry.key, *force, home=home)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "lies elsewhere" in line
    assert str(other) in line
    assert tree_bytes(other) == before
    command = shlex.split(re.findall("`(.+?)`", line)[0])
    assert lightalign(*command[1:], home=home).returncode == 0
    assert not entry.folder.exists()


def test_of_a_link_to_a_store_the_link_alone_is_removed(tmp_path, other):
    entry = list_stores(other, "shapes/test")[0]
    below = entry.folder.relative_to(other).parts
    home = linked(tmp_path, other, *below)
    before = tree_bytes(other)
    done = lightalign("cache", "rm", entry.key, home=home)
    assert done.returncode == 0, done.stderr
    assert not home.joinpath(*below).is_symlink()
    assert tree_bytes(other) == before


def test_what_dead_processes_left_in_another_home_stays(tmp_path, other):
    left = other / "features" / "shapes" / "test" / ".tmp-lightalign-abcdefgh"
    left.mkdir()
    home = linked(tmp_path, other, "features")
    assert lightalign("cache", "repair", home=home).returncode == 0
    assert left.is_dir()


def test_a_run_is_not_removed_through_a_link_to_another_home(tmp_path, other):
    run = other / "runs" / "a"
    run.mkdir(parents=True)
    (run / "run.toml").write_text("seed = 1\n")
    home = linked(tmp_path, other, "runs")
    done = lightalign("runs", "rm", "a", home=home)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert "lies elsewhere" in line
    assert run.is_dir()
    command = shlex.split(re.findall("`(.+?)`", line)[0])
    assert lightalign(*command[1:], home=home).returncode == 0
    assert not run.exists()


@pytest.fixture
def mistaken(tmp_path) -> tuple[Path, Path]:
    """Return a home, and a store in it whose manifest and copy are those of another one."""
    home = tmp_path / "home"
    extract_toy(home, "toy-image")
    extract_toy(home, "toy-text")
    (images, texts) = sorted((home / "features" / "shapes" / "test").glob("toy-*"))
    for name in (MANIFEST, COPY):
        shutil.copy(texts / name, images / name)
    return home, images


@pytest.mark.parametrize("command", [["cache", "ls"], ["cache", "verify"], ["cache", "repair"]])
def test_a_store_under_another_key_is_removed_by_the_command_that_is_printed(command, mistaken):
    home, folder = mistaken
    done = lightalign(*command, "--json", home=home)
    printed = re.findall("`(lightalign cache rm .+?)`", done.stdout)[0]
    assert str(folder / MANIFEST) in done.stdout
    removed = lightalign(*shlex.split(printed)[1:], home=home)
    assert removed.returncode == 0, removed.stderr
    assert not folder.exists()


def test_a_store_under_another_key_goes_by_the_key_in_its_name(mistaken):
    home, folder = mistaken
    key = folder.name.rpartition("--")[2]
    assert key in lightalign("cache", "ls", home=home).stdout
    removed = lightalign("cache", "rm", key, home=home)
    assert removed.returncode == 0, removed.stderr
    assert not folder.exists()


def test_the_store_whose_manifest_it_is_keeps_its_key(mistaken):
    home, folder = mistaken
    texts = next(entry for entry in list_stores(home, "shapes/test"))
    assert lightalign("cache", "rm", texts.key, home=home).returncode == 0
    assert folder.exists()
    assert not texts.folder.exists()
