"""A home that is none is refused in one line by every verb, and one that is not there is empty."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..helpers import lightalign
from ..pipelines.conftest import extract_toy

COMMANDS = (
    *("cache ls", "cache verify", "cache repair", "cache info x", "cache rm x", "cache explain x"),
    *(
        "runs list",
        "runs show x",
        "runs rm x",
        "search x y",
        "match x y z",
        "report x",
        "index",
        "retrieve",
    ),
    *("train-adapter", "extract --encoder toy-text --data shapes", "zero-shot --data cifar10"),
    *("probe --data cifar10", "fine-tune --data cifar10", "quickstart"),
    *("similarity --data stsb", "rank-encoders --data shapes", "export x --to onnx --output y"),
    *("cache export x y", "train-adapter --resume x", "train-adapter --dry-run"),
    *("train-joint", "train-joint --resume x", "train-joint --dry-run"),
)


@pytest.fixture
def places(tmp_path) -> Iterator[dict[str, tuple[Path, str]]]:
    """Return what is no home, and what is to be said of it, by name."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # a socket's path is short
        listening.bind("socket")
        yield {
            "file": (tmp_path / "file", "is not a folder"),
            "below": (tmp_path / "file" / "home", "cannot be read: Not a directory"),
            "link": (tmp_path / "link", "is a link to nothing"),
            "loop": (tmp_path / "loop", "link"),
            "pipe": (tmp_path / "pipe", "is not a folder"),
            "socket": (tmp_path / "socket", "is not a folder"),
            "name": (tmp_path / os.fsdecode(b"h\xff"), "is at a path that is not UTF-8"),
        }


@pytest.mark.parametrize("name", ["file", "below", "link", "loop", "pipe", "socket", "name"])
def test_every_verb_refuses_a_home_that_is_none_in_one_line(name, places):
    place, reason = places[name]
    for command in COMMANDS:
        done = lightalign(*command.split(), home=place)
        assert done.returncode == 2, (command, done.stdout)
        assert done.stderr.count("\n") == 1, (command, done.stderr)
        assert done.stderr.startswith("lightalign: --home "), command
        assert reason in done.stderr, command


@pytest.mark.parametrize("command", ["cache ls", "cache verify", "runs list"])
def test_a_home_that_is_not_there_is_empty(command, tmp_path):
    done = lightalign(*command.split(), home=tmp_path / "none")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "none").exists()


def test_a_home_below_a_folder_that_is_not_utf_8_is_refused_through_a_link(tmp_path):
    folder = tmp_path / os.fsdecode(b"h\xff")
    folder.mkdir()
    (tmp_path / "home").symlink_to(folder)
    done = lightalign("runs", "list", home=tmp_path / "home")
    assert done.returncode == 2
    assert "is not UTF-8" in done.stderr


def test_a_run_at_a_path_that_is_not_utf_8_is_not_called_damaged(tmp_path):
    home = tmp_path / "home"
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder)
    train = "train-adapter --preset linear --set train.epochs=1 --name a --quiet --device cpu"
    assert lightalign(*train.split(), home=home).returncode == 0
    copy = tmp_path / os.fsdecode(b"a\xff")
    (home / "runs" / "a").rename(copy)
    done = lightalign("retrieve", str(copy), "--quiet", "--device", "cpu", home=home)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert "is not UTF-8" in line


def test_weights_at_a_path_that_is_not_utf_8_are_refused_in_one_line(tmp_path):
    weights = tmp_path / os.fsdecode(b"w\xff")
    weights.mkdir()
    command = ["extract", "--encoder", "distilbert", "--data", "shapes", "--weights"]
    done = lightalign(*command, str(weights), home=tmp_path / "home")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert "--weights" in line
    assert "is not UTF-8" in line


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_file_in_the_place_of_the_runs_is_not_called_no_runs(make, tmp_path):
    make(tmp_path / "runs")
    done = lightalign("runs", "list", home=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line == f"lightalign: Not a directory: {tmp_path / 'runs'}"


@pytest.mark.parametrize("name", ["features", "features/shapes", "features/shapes/val"])
def test_a_link_to_nothing_on_the_way_to_a_store_is_one_line_that_names_it(name, tmp_path):
    link = tmp_path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/nowhere/at/all")
    asked = ["extract", "--encoder=toy-text", "--data=shapes", "--split=val", "--set=source.val=2"]
    done = lightalign(*asked, home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"lightalign: File exists: {link}"
