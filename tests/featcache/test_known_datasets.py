"""A home remembers what a dataset's name stands for, and what it stood for before."""

import stat
from pathlib import Path

import pytest

from lightalign.featcache.errors import (
    DatasetNotFoundError,
    SpecError,
    StoreCorruptError,
    UnknownNameError,
)
from lightalign.featcache.known_datasets import (
    FOLDER,
    DatasetVersion,
    forget,
    move,
    newest,
    read_all,
    read_versions,
    remember,
    version_of,
)
from lightalign.featcache.sources.opening import define, identified, is_drawn, open_version
from lightalign.featcache.types import Modality

ONE = DatasetVersion(
    name="mine",
    kind="image-text-table",
    place=Path("/data/one.csv"),
    options={"image_column": "Pfad", "caption_columns": ["a", "b"]},
    splits={"train": "t1", "test": "e1"},
)
OTHER = DatasetVersion(
    name="mine", kind="images", place=Path("/data/two"), splits={"train": "t2", "test": "e2"}
)


def test_what_is_remembered_is_read_again_and_the_newest_is_last(tmp_path):
    remember(tmp_path, ONE)
    remember(tmp_path, OTHER)
    assert read_versions(tmp_path, "mine") == (ONE, OTHER)
    assert newest(tmp_path, "mine") == OTHER
    assert read_versions(tmp_path, "another") == ()


def test_a_run_finds_the_other_splits_of_its_own_version(tmp_path):
    remember(tmp_path, ONE)
    remember(tmp_path, OTHER)
    assert version_of(tmp_path, "mine", "train", "t1").splits["test"] == "e1"
    assert version_of(tmp_path, "mine", "train", "t2").splits["test"] == "e2"
    assert version_of(tmp_path, "mine", "train", "e1") is None


def test_the_same_again_writes_nothing_and_an_earlier_one_becomes_the_newest(tmp_path):
    remember(tmp_path, ONE)
    before = (tmp_path / FOLDER / "mine.toml").stat().st_mtime_ns
    remember(tmp_path, ONE)
    assert (tmp_path / FOLDER / "mine.toml").stat().st_mtime_ns == before
    remember(tmp_path, OTHER)
    remember(tmp_path, ONE)
    assert read_versions(tmp_path, "mine") == (OTHER, ONE)


def test_the_same_data_elsewhere_have_moved(tmp_path):
    remember(tmp_path, ONE)
    elsewhere = DatasetVersion(**{**vars(ONE), "place": Path("/elsewhere.csv")})
    remember(tmp_path, elsewhere)
    assert read_versions(tmp_path, "mine") == (elsewhere,)


def test_a_move_takes_the_same_data_only(tmp_path):
    remember(tmp_path, ONE)
    with pytest.raises(SpecError, match=r"holds other data than 'mine'.*data add mine /new"):
        move(tmp_path, "mine", Path("/new"), lambda _: {"train": "t1", "test": "other"})
    assert newest(tmp_path, "mine").place == ONE.place
    moved = move(tmp_path, "mine", Path("/new"), lambda version: ONE.splits)
    assert newest(tmp_path, "mine") == moved
    assert moved.place == Path("/new")


def test_a_name_that_is_not_known_cannot_be_moved_or_forgotten(tmp_path):
    remember(tmp_path, ONE)
    with pytest.raises(DatasetNotFoundError, match=r"'his' is remembered in .*known: \['mine'\]"):
        move(tmp_path, "his", Path("/new"), lambda _: {})
    with pytest.raises(DatasetNotFoundError, match="'his' is remembered"):
        forget(tmp_path, "his")
    forget(tmp_path, "mine")
    assert read_versions(tmp_path, "mine") == ()


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "-x", "ü" * 60, "a\0b"])
def test_a_name_that_could_be_no_folder_is_refused(name, tmp_path):
    with pytest.raises(SpecError, match="cannot name a dataset"):
        remember(tmp_path, DatasetVersion(name=name, kind="images", place=Path("/x")))
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("t1", "t3"),
        lambda text: text.replace("/data/one.csv", "/etc"),
        lambda text: text.replace("schema = 1", 'schema = "1"'),
        lambda text: text[:-20],
        lambda _: "",
        lambda _: "versions = 3",
    ],
)
def test_a_changed_memory_is_refused_with_the_way_out_and_stops_no_other(change, tmp_path):
    remember(tmp_path, ONE)
    remember(tmp_path, DatasetVersion(name="his", kind="images", place=Path("/x")))
    path = tmp_path / FOLDER / "mine.toml"
    path.write_text(change(path.read_text()))
    with pytest.raises(
        StoreCorruptError, match=r"is damaged: .*; forget it by `lightalign data rm mine"
    ):
        newest(tmp_path, "mine")
    readable, unread = read_all(tmp_path)
    assert (list(readable), list(unread)) == (["his"], ["mine"])
    forget(tmp_path, "mine")
    assert remember(tmp_path, ONE)


def test_the_memory_of_one_name_is_not_that_of_another(tmp_path):
    remember(tmp_path, ONE)
    (tmp_path / FOLDER / "mine.toml").rename(tmp_path / FOLDER / "his.toml")
    with pytest.raises(StoreCorruptError, match="checksum differs"):
        newest(tmp_path, "his")


def test_a_home_that_may_not_be_written_is_no_error(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert not remember(tmp_path / "home", ONE)


def test_a_drawn_dataset_of_ones_own_name_keeps_its_options(tmp_path):
    small = define("small", home=tmp_path, kind="shapes", options={"train": 4, "size": 32})
    remember(tmp_path, identified(small, open_version(small, home=tmp_path)))
    found = define("small", home=tmp_path)
    assert (found.kind, found.options) == ("shapes", {"train": 4, "size": 32})
    assert len(open_version(found, home=tmp_path).pairs("train").ids_of(Modality.IMAGE)) == 4
    assert define("shapes", home=tmp_path).options == {}
    assert is_drawn("shapes")


def test_a_name_that_nobody_knows_lists_those_that_are_known(tmp_path):
    remember(tmp_path, ONE)
    with pytest.raises(UnknownNameError, match=r"no dataset named 'mina'; close: \['mine'.*=PATH"):
        define("mina", home=tmp_path)


def test_a_place_that_is_gone_is_named_with_the_command_that_moves_it(tmp_path):
    remember(tmp_path, ONE)
    with pytest.raises(DatasetNotFoundError, match=r"not at /data/one.csv.*data move mine PATH"):
        open_version(define("mine", home=tmp_path), home=tmp_path)


def test_a_memory_that_may_not_be_read_is_said_so(tmp_path, monkeypatch):
    remember(tmp_path, ONE)
    path = tmp_path / FOLDER / "mine.toml"
    assert stat.S_ISREG(path.stat().st_mode)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("lightalign.featcache.documents.read_regular", refuse)
    _, unread = read_all(tmp_path)
    assert "Permission denied" in unread["mine"]
