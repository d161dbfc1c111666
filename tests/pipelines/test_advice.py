"""A command that a message prints runs as printed, and names the home where it has to."""

import os
import shlex
from pathlib import Path

import pytest

from lightalign.featcache.errors import RunNotFoundError, StoreCorruptError
from lightalign.featcache.home import VARIABLE, command_line, expanded, usual_home
from lightalign.pipelines import runs, train
from lightalign.pipelines.retrieve import RetrieveSpec
from lightalign.pipelines.retrieve import run as retrieve

from ..helpers import lightalign
from .conftest import extract_toy
from .test_runs import stopped_run
from .test_train import QUICK, quick_train


def commands_in(message: str) -> list[list[str]]:
    """Return the words after `lightalign` of each command in backquotes."""
    quoted = message.split("`")[1::2]
    return [shlex.split(part)[1:] for part in quoted if part.startswith("lightalign ")]


def test_a_home_is_named_where_it_is_another_than_the_usual_one(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "usual"))
    assert command_line("runs", "list", home=tmp_path / "usual") == "lightalign runs list"
    other = tmp_path / "an other"
    assert command_line("runs", "list", home=other) == f"lightalign runs list --home '{other}'"


def test_a_link_to_the_usual_home_is_the_usual_home(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "usual")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "link"))
    assert command_line("runs", "list", home=tmp_path / "usual") == "lightalign runs list"


def test_a_relative_home_is_named_for_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line("runs", "list", home=Path("h")).endswith(f"--home {tmp_path / 'h'}")


def test_a_user_that_is_not_there_is_a_name(monkeypatch):
    assert expanded(Path("~nosuchuser/x")) == Path("~nosuchuser/x")
    monkeypatch.setenv(VARIABLE, "~nosuchuser")
    assert usual_home() == Path("~nosuchuser")


@pytest.mark.parametrize("name", ["~nosuchuser", "~nosuchuser/x"])
@pytest.mark.parametrize(
    "command",
    [
        ("retrieve",),
        ("runs", "show"),
        ("runs", "rm"),
        ("train-adapter", "--resume"),
        ("report",),
        ("train-adapter", "--data"),
        ("extract", "--encoder", "toy-image", "--data", "shapes", "--weights"),
    ],
)
def test_a_path_of_no_user_is_one_line(home, command, name):
    given = f"flickr8k={name}" if command[-1] == "--data" else name
    done = lightalign(*command, given, home=home)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_both_ways_out_of_a_stopped_run_run_as_printed_whatever_the_home(
    home, monkeypatch, tmp_path
):
    stopped_run(home, monkeypatch)
    with pytest.raises(RunNotFoundError) as refused:
        retrieve(RetrieveSpec(home=home, run="mine", device="cpu"))
    resume, remove = commands_in(str(refused.value))
    other = tmp_path / "another home"
    assert lightalign(*resume, "--device", "cpu", home=other).returncode == 0
    assert lightalign(*remove, home=other).returncode == 0
    assert runs.run_folders(home) == []


def test_the_way_out_of_a_damaged_report_runs_as_printed(home, tmp_path):
    folder = quick_train(home, name="mine").folder
    report = folder / runs.REPORT
    report.write_text(report.read_text().replace("1", "2", 1))
    with pytest.raises(StoreCorruptError) as refused:
        runs.find_run(home, "mine")
    (remove,) = commands_in(str(refused.value))
    assert lightalign(*remove, home=tmp_path / "other").returncode == 0
    assert not folder.exists()


def test_a_copy_of_a_run_outside_a_home_is_removed_by_a_command_that_runs(home, tmp_path):
    folder = quick_train(home, name="mine").folder
    copy = folder.rename(tmp_path / "a copy")
    (copy / runs.SPEC).write_text("")
    with pytest.raises(StoreCorruptError, match="rm -r"):
        runs.find_run(home, str(copy))
    assert shlex.split(runs.removal(copy)) == ["rm", "-r", str(copy)]


def test_a_store_that_is_missing_is_asked_for_in_its_home(tmp_path):
    done = lightalign("train-adapter", "--home", str(tmp_path), home=tmp_path / "other")
    for command in commands_in(done.stderr):
        assert command[0] == "extract"
        assert command[-2:] == ["--home", str(tmp_path)]
    assert len(commands_in(done.stderr)) == 2


def test_a_run_of_another_home_goes_on_by_its_folder(home, monkeypatch, tmp_path):
    folder = stopped_run(home, monkeypatch)
    moved = folder.rename(tmp_path / "elsewhere")
    command = shlex.split(runs.resumption(moved, home))
    assert command[:4] == ["lightalign", "train-adapter", "--resume", str(moved)]
    assert train.resume(home, str(moved), device="cpu").report["epochs"] == 2
    assert os.path.lexists(moved / runs.REPORT)


def test_what_is_left_out_of_a_retrieval_is_listed_by_a_command_that_runs(tmp_path, monkeypatch):
    """Image 3 of the test split cannot be read; the texts have all their rows."""
    from PIL import Image

    data, home = tmp_path / "data", tmp_path / "h"
    data.mkdir()
    lines = ["image,caption,split"]
    for number in range(12):
        Image.new("RGB", (4, 4), (number * 20, 0, 0)).save(data / f"{number}.png")
        lines.append(f"{number}.png,caption {number},{'test' if number < 6 else 'train'}")
    (data / "3.png").write_bytes(b"gone")
    (data / "t.csv").write_text("\n".join(lines))
    for encoder in ("toy-image", "toy-text"):
        table = f"image-text-table={data}"
        extract_toy(home, encoder, data=table, source={}, max_bad=0.5)
    quick_train(home, data="image-text-table", overrides=("train.validation=none", *QUICK))
    monkeypatch.chdir(tmp_path)  # a place that is named must not depend on the folder
    report = retrieve(RetrieveSpec(home=Path("h"), device="cpu")).report
    (warning,) = [line for line in report["warnings"] if "1 image-caption pairs" in line]
    monkeypatch.chdir("/")
    (command,) = commands_in(warning)
    listed = lightalign(*command, home=tmp_path / "another home")
    assert listed.returncode == 0
    assert "3.png" in listed.stdout
