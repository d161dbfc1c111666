from pathlib import Path

import pytest

from lightalign.featcache import home as homes
from lightalign.featcache.errors import SpecError


@pytest.mark.parametrize(
    ("path", "home"),
    [
        ("/a/b/features/flickr/val/toy--1", "/a/b"),
        ("/a/b/features/flickr/val/pairs--1.json", "/a/b"),
        ("/features/flickr/val/toy--1", "/"),
        ("/a/b/copies/flickr/val/toy--1", None),  # a copy stands in no home
        ("/features/val/toy--1", None),
        ("/toy--1", None),
    ],
)
def test_the_home_of_features_is_four_folders_up(path, home):
    assert homes.home_of_features(Path(path)) == (home if home is None else Path(home))


def test_a_plain_place_has_neither_dots_nor_a_tilde_and_keeps_its_links(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "deep" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "real")
    assert homes.plain_place(Path("~/link/./x")) == tmp_path / "link" / "x"
    # what `..` leads to is the folder above the target, not the one above the link
    assert homes.plain_place(tmp_path / "link" / ".." / "x") == tmp_path / "deep" / "x"
    assert homes.is_same_place(tmp_path / "link", tmp_path / "deep" / "real")
    assert not homes.is_same_place(tmp_path, None)


def test_a_command_names_its_home_unless_it_is_the_usual_one(tmp_path, monkeypatch):
    monkeypatch.setenv(homes.VARIABLE, str(tmp_path))
    assert homes.command_line("runs", "rm", "a b", home=tmp_path) == "lightalign runs rm 'a b'"
    other = tmp_path / "other"
    assert homes.command_line("runs", home=other) == f"lightalign runs --home {other}"


def test_a_home_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name, problem in (("file", "is not a folder"), ("link", "is a link to nothing")):
        with pytest.raises(SpecError, match=problem):
            homes.checked_home(tmp_path / name)
    assert homes.checked_home(tmp_path / "new") == tmp_path / "new"
