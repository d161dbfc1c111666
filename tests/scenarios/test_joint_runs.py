"""What becomes of a joint run among verbs of runs that align, and the other way round."""

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import lightalign as package
from lightalign.featcache.errors import RunNotFoundError, SpecError
from lightalign.pipelines.runs import run_folder

from ..helpers import lightalign, tree_bytes
from ..pipelines.conftest import extract_toy
from ..pipelines.joint_runs import ANSWERS, BOTH, TINY, quick_joint
from ..pipelines.made_runs import made_run
from ..pipelines.training.test_distributed import sets
from ..pipelines.training.test_resume import stop_in_epoch
from ..pipelines.training.test_train import quick_train


@pytest.fixture(scope="module")
def both_kinds(tmp_path_factory, toy_home) -> Path:
    """Return a home with a dual run `dual`, and a joint run `joint`, which is the newer one."""
    home = tmp_path_factory.mktemp("both-kinds")
    (home / "features").symlink_to(toy_home / "features")
    quick_train(home, name="dual", preset="linear")
    quick_joint(home, name="joint")
    return home


DUAL_VERBS = {
    "retrieve": ("retrieve", "joint"),
    "retrieve flat": ("retrieve", "joint", "--index", "flat"),
    "search": ("search", "joint", "a red circle"),
    "index": ("index", "joint"),
    "zero-shot": ("zero-shot", "joint", "--data", "cifar10"),
    "probe": ("probe", "joint", "--data", "cifar10"),
    "fine-tune": ("fine-tune", "joint", "--data", "cifar10"),
    "similarity": ("similarity", "joint", "--data", "stsb"),
    "export": ("export", "joint", "--to", "onnx", "--output", "out"),
    "export stock": ("export", "joint", "--to", "sentence-transformers", "--output", "out"),
    "train-joint": ("train-joint", "--preset", "vle/small", "--negatives-from", "joint"),
}


@pytest.mark.parametrize("verb", DUAL_VERBS)
def test_verbs_of_runs_that_align_refuse_a_joint_run_in_one_line(both_kinds, tmp_path, verb):
    before = tree_bytes(both_kinds / "runs")
    command = [part if part != "out" else str(tmp_path / "out") for part in DUAL_VERBS[verb]]
    done = lightalign(*command, home=both_kinds)
    assert (done.returncode, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert len([each for each in done.stderr.splitlines() if "joint reads" in each]) == 1
    assert "run joint reads an image and a text together and embeds neither alone" in line
    assert tree_bytes(both_kinds / "runs") == before
    assert not (tmp_path / "out").exists()


JOINT_VERBS = {
    "ask": ("ask", "dual", "PHOTO", "is it red"),
    "match": ("match", "dual", "PHOTO", "a red circle"),
    "retrieve": ("retrieve", "dual", "--rerank", "dual"),
}


@pytest.mark.parametrize("verb", JOINT_VERBS)
def test_verbs_of_joint_runs_refuse_a_run_that_aligns_in_one_line(both_kinds, tmp_path, verb):
    Image.new("RGB", (32, 32), "red").save(photo := tmp_path / "photo.png")
    command = [str(photo) if part == "PHOTO" else part for part in JOINT_VERBS[verb]]
    done = lightalign(*command, "-q", home=both_kinds)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "run dual embeds each side alone and reads no pair" in line


def test_both_commands_of_that_line_run(both_kinds):
    line = lightalign("retrieve", "joint", home=both_kinds).stderr
    train, show = (shlex.split(part)[1:] for part in line.split("`")[1::2])
    assert train[0] == "train-adapter"
    assert lightalign(*train, "--dry-run", "--device", "cpu", home=both_kinds).returncode == 0
    assert json.loads(lightalign(*show, home=both_kinds).stdout)["name"] == "joint"


def test_a_joint_run_is_no_run_that_embeds_in_python(both_kinds):
    with pytest.raises(SpecError, match="run joint reads an image and a text together"):
        package.load("joint", home=both_kinds)


@pytest.mark.parametrize("command", [("retrieve",), ("index",), ("search", "", "red")])
def test_the_newest_run_of_a_verb_is_the_newest_that_aligns(both_kinds, command):
    if command[0] == "search":
        lightalign("index", "dual", home=both_kinds)
        command = ("search", "dual", "red")
    done = lightalign(*command, "--device", "cpu", "--json", home=both_kinds)
    assert done.returncode == 0, done.stderr
    assert "joint" not in done.stdout


def test_runs_of_both_kinds_are_found_by_kind(both_kinds):
    names = {
        kind: run_folder.find_run(both_kinds, None, kind=kind).name
        for kind in ("dual", "joint", None)
    }
    assert names == {"dual": "dual", "joint": "joint", None: "joint"}
    assert run_folder.find_run(both_kinds, "dual", kind=None).name == "dual"
    with pytest.raises(SpecError, match="run dual embeds each side alone and reads no pair"):
        run_folder.find_run(both_kinds, "dual", kind="joint")
    with pytest.raises(SpecError, match="run joint reads an image and a text together"):
        run_folder.find_run(both_kinds, "joint")


def test_a_home_with_dual_runs_alone_has_no_joint_one(home):
    made_run(home, "mine")
    with pytest.raises(
        RunNotFoundError, match=r"no finished joint run in .*`lightalign train-joint"
    ):
        run_folder.find_run(home, None, kind="joint")


def test_a_joint_run_is_listed_shown_and_reported(questions):
    quick_joint(questions, name="joint", **BOTH)
    rows = json.loads(lightalign("runs", "list", "--json", home=questions).stdout)["runs"]
    (row,) = rows
    assert (row["name"], row["state"], row["preset"]) == ("joint", "finished", "vle/small")
    assert set(row["numbers"]) == {
        "validation accuracy of answers",
        "validation balanced accuracy of matching",
    }
    shown = json.loads(lightalign("runs", "show", "joint", home=questions).stdout)
    assert shown["report"]["kind"] == "train-joint"
    assert lightalign("runs", "list", home=questions).stdout.count("joint") >= 1
    done = lightalign("report", "joint", "--out", str(questions / "page.html"), home=questions)
    assert done.returncode == 0, done.stderr
    page = (questions / "page.html").read_text()
    assert "Validation accuracy" in page
    assert "accuracy of answers" in page
    assert "vle/small" in page


def test_a_joint_run_is_removed(questions):
    folder = quick_joint(questions, name="joint").folder
    assert lightalign("runs", "rm", "joint", home=questions).returncode == 0
    assert not folder.exists()


def test_a_report_compares_runs_of_both_kinds(both_kinds, tmp_path):
    page = tmp_path / "page.html"
    done = lightalign("report", "dual", "joint", "--out", str(page), home=both_kinds)
    assert done.returncode == 0, done.stderr
    assert {"dual", "joint"} <= set(re.findall(r"dual|joint", page.read_text()))


def resumption(done) -> list[str]:
    """Return the words after `lightalign` of the command in the one line of a refusal."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    return shlex.split(done.stderr.split("`")[1])[1:]


def test_a_joint_run_goes_on_by_the_command_that_the_other_verb_names(questions, monkeypatch):
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_joint(questions, name="cut", **ANSWERS)
    command = resumption(lightalign("train-adapter", "--resume", "cut", home=questions))
    assert command[:3] == ["train-joint", "--resume", "cut"]
    assert lightalign(*command, "--device", "cpu", home=questions).returncode == 0
    assert (run_folder.runs_folder(questions) / "cut" / run_folder.REPORT).is_file()


def test_a_dual_run_goes_on_by_the_command_that_the_other_verb_names(home):
    made_run(home, "cut", stopped_in=2)
    command = resumption(lightalign("train-joint", "--resume", "cut", home=home))
    assert command[:3] == ["train-adapter", "--resume", "cut"]
    assert lightalign(*command, "--device", "cpu", home=home).returncode == 0


def test_the_way_out_of_a_stopped_joint_run_is_its_own_verb(questions, monkeypatch):
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_joint(questions, name="cut")
    for command in (("retrieve", "cut"), ("train-joint", "--preset", "vle/small", "--name", "cut")):
        done = lightalign(*command, home=questions)
        assert (done.returncode, "train-joint --resume cut" in done.stderr) == (2, True)


WRONG = {
    "no such objective": (("--objective", "itm,mln"), "no objective named 'mln'"),
    "weight 0": (("--objective", "itm=0"), "with a weight above 0"),
    "no head": (("--preset", "oneencoder/vqa", "--objective", "itm"), "has no head for 'itm'"),
    "no answers": (
        ("--objective", "answers"),
        "split 'train' of dataset shapes has none",
    ),
    "hard pairs of nothing": (
        ("--objective", "answers", "--negatives-from", "dual"),
        "--negatives-from is of the objective itm",
    ),
    "no such run": (("--negatives-from", "nothing"), "no run 'nothing'"),
    "dual preset": (("--preset", "linear"), "train-adapter --preset linear"),
    "several layers": (
        ("--image-layers", "-1,-2"),
        "several streams are of encoders that are named",
    ),
    "sides of texts": (("--image-features", "nothing"), "nothing"),
    "seed": (("--seed", "-1"), "--seed must be from 0"),
    "option of another kind": (("--fusion", "add"), "--fusion"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_trained_is_one_line_and_no_run(both_kinds, wrong):
    options, message = WRONG[wrong]
    preset = () if "--preset" in options else ("--preset", "vle/small")
    before = tree_bytes(both_kinds / "runs")
    done = lightalign("train-joint", *preset, *options, home=both_kinds)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert tree_bytes(both_kinds / "runs") == before


def test_two_streams_of_a_side_are_refused_as_one_line(tmp_path):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder)
    extract_toy(tmp_path, "toy-image", features=("mean",))
    done = lightalign("train-joint", "--image-features", "tokens,mean", home=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_whole_way_from_the_command_line(questions):
    command = ("train-joint", "--preset", "vle/small", "--objective", "itm=1,answers=0.5")
    done = lightalign(
        *(*command, "--name", "mine", "--device", "cpu", "--json", *sets(*TINY)), home=questions
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert written["num_pairs"] == 24
    assert "5 answers are told apart" in done.stderr
    assert Path(written["folder"]).name == "mine"
