"""A finished run answers with what its training wrote, or not at all."""

import contextlib
import json
import os
import shutil
import socket

import pytest
import safetensors.torch
import torch

from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.reports import run_list
from lightalign.pipelines.reports.comparison import read_runs
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import lightalign, slow, tree_bytes
from ..made_runs import made_run
from ..training.test_resume import stop_in_epoch
from ..training.test_train import QUICK, quick_train


@pytest.mark.parametrize("name", [run_folder.SPEC, run_folder.TABLE, run_folder.WEIGHTS])
def test_a_file_of_another_run_is_refused_and_named(home, name):
    """Each is whole, with a right checksum of its own, and of equal structure."""
    for run, seed in (("one", 1), ("other", 2)):
        made_run(home, run, epochs=1, seed=seed)
    folder = run_folder.runs_folder(home) / "one"
    content = (folder.parent / "other" / name).read_bytes()
    if content == (folder / name).read_bytes():
        content += b"\n"
    (folder / name).write_bytes(content)
    with pytest.raises(StoreCorruptError, match=f"{name} has .*runs rm one"):
        run_folder.find_run(home, "one")


@pytest.mark.parametrize("name", [*slow(run_folder.TABLE), run_folder.WEIGHTS])
def test_best_weights_of_before_a_stop_that_are_others_now_are_refused(home, monkeypatch, name):
    """No later epoch is better than the first, so that what is there is what the run ends with."""
    monkeypatch.setattr(Trainer, "score", lambda _, record: -float(record["epoch"]))
    options = ("train.epochs=3", *QUICK[1:])
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="one", overrides=options)
    other = quick_train(home, name="other", seed=4, overrides=options).folder
    content = (other / name).read_bytes()
    folder = run_folder.runs_folder(home) / "one"
    same = content == (folder / name).read_bytes()
    (folder / name).write_bytes(content + b"\n" * same)
    with pytest.raises(StoreCorruptError, match=r"best weights of the run are lost.*runs rm one"):
        train.resume(home, "one", device="cpu")


def test_a_stopped_training_does_not_go_on_with_the_spec_of_another(home):
    folder = stopped_before_third_epoch(home)
    other = made_run(home, "other")
    shutil.copyfile(other / run_folder.SPEC, folder / run_folder.SPEC)
    with pytest.raises(StoreCorruptError, match=r"began with another spec.*runs rm one"):
        train.resume(home, "one", device="cpu")


def test_a_log_of_another_run_is_left_out_of_a_page(home):
    for run, seed in (("one", 1), ("other", 2)):
        made_run(home, run, epochs=1, seed=seed)
    folder = run_folder.runs_folder(home) / "one"
    shutil.copyfile(folder.parent / "other" / run_folder.LOG, folder / run_folder.LOG)
    (part,) = read_runs(home, ["one"])
    assert part.epochs == []
    assert "one/log.jsonl is left out" in part.unread[0]


@pytest.mark.parametrize("name", ["report.json", "run.toml"])
def test_a_changed_number_of_a_report_or_a_spec_is_refused(home, name):
    folder = made_run(home, "one", epochs=1)
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace("1", "2", 1))
    with pytest.raises((StoreCorruptError, SpecError)):
        run_folder.find_run(home, "one")


def stopped_before_third_epoch(home):
    return made_run(home, "one", epochs=3, stopped_in=3)


@pytest.mark.parametrize("change", ["a number", "first line", "last line", "all", "the file"])
def test_a_log_that_is_another_than_when_the_training_stopped_is_refused(home, change):
    folder = stopped_before_third_epoch(home)
    log = folder / run_folder.LOG
    first, last = log.read_text().splitlines(keepends=True)
    changed = {
        "a number": first.replace('"step": ', '"step": 1', 1) + last,
        "first line": last,
        "last line": first,
        "all": "",
    }
    if change == "the file":
        log.unlink()
    else:
        log.write_text(changed[change])
    before = tree_bytes(folder)
    with pytest.raises(StoreCorruptError, match=r"log\.jsonl.* restore it, or .*runs rm one"):
        train.resume(home, "one", device="cpu")
    assert tree_bytes(folder) == before
    shown = lightalign("runs", "show", "one", home=home)
    assert (shown.returncode, "log.jsonl" in shown.stderr) == (2, True)


@pytest.mark.parametrize("more", ['{"epoch": 3}\n', '{"epoch": 3, "lo', "\n\n"])
def test_a_log_that_is_ahead_of_its_state_is_cut_to_it(home, more):
    folder = stopped_before_third_epoch(home)
    log = folder / run_folder.LOG
    seen = log.read_text()
    log.write_text(seen + more)
    train.resume(home, "one", device="cpu")
    assert log.read_text().startswith(seen)
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2, 3]


def unsealed(state, change):
    """Write a state as earlier versions did, without checksums, after some change."""
    with safetensors.safe_open(state, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        counts = json.loads(file.metadata()["lightalign"])["counts"]
    del counts["log"], counts["best_files"]
    change(tensors, counts)
    safetensors.torch.save_file(tensors, state, {"lightalign": json.dumps(counts)})


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, _: tensors.pop("random"),
        lambda tensors, _: tensors.update(random=torch.zeros(3, dtype=torch.uint8)),
        lambda tensors, _: tensors.update(random=torch.zeros(2, 2)),
        lambda tensors, _: tensors.update({"optimiser.0.exp_avg": torch.zeros(7, 7, 7)}),
        lambda _, counts: counts.update(epoch="two"),
        lambda _, counts: counts.update(best=[]),
        lambda _, counts: counts.update(unknown=1),
    ],
    ids=["no random", "short random", "random of floats", "shape", "text", "list", "unknown"],
)
def test_an_unsealed_state_that_does_not_fit_is_one_line(home, change):
    folder = stopped_before_third_epoch(home)
    unsealed(folder / run_folder.STATE, change)
    done = lightalign("train-adapter", "--resume", "one", "--device", "cpu", home=home)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("lightalign: ")]
    assert "state.safetensors cannot be gone on from" in line
    assert "lightalign runs rm one" in line


def test_a_state_of_an_earlier_version_goes_on_and_that_it_is_unsealed_is_said(home, monkeypatch):
    """It has neither a checksum nor the log's."""
    folder = stopped_before_third_epoch(home)
    unsealed(folder / run_folder.STATE, lambda _tensors, _counts: None)
    notes = []
    monkeypatch.setattr(Progress, "note", lambda _, text: notes.append(text))
    assert [entry.state for entry in run_list.list_runs(home)] == ["stopped"]
    resumed = train.resume(home, "one", device="cpu", progress=Progress())
    assert resumed.report["epochs"] == 3
    assert len([note for note in notes if "without a checksum" in note]) == 1


@pytest.mark.parametrize(
    "header", [b"[" * 200_000, b"{}", b"[]", b"\xff", b'{"__metadata__": {"lightalign": "["}}']
)
def test_a_state_whose_header_is_none_is_listed_as_damaged(home, header):
    """The header of safetensors is JSON, and its length stands before it in eight bytes."""
    folder = stopped_before_third_epoch(home)
    (folder / run_folder.STATE).write_bytes(len(header).to_bytes(8, "little") + header)
    (entry,) = run_list.list_runs(home)
    assert entry.state == "damaged"
    done = lightalign("runs", "show", "one", home=home)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "lightalign runs rm one" in done.stderr


def test_a_stopped_run_with_the_spec_of_another_is_listed_as_damaged(home):
    folder = stopped_before_third_epoch(home)
    other = made_run(home, "other")
    shutil.copyfile(other / run_folder.SPEC, folder / run_folder.SPEC)
    states = {entry.name: entry.state for entry in run_list.list_runs(home)}
    assert states == {"one": "damaged", "other": "finished"}
    shown = lightalign("runs", "show", "one", home=home)
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1)
    assert "run.toml" in shown.stderr


@pytest.mark.parametrize(
    "name", [run_folder.SPEC, run_folder.WEIGHTS, run_folder.TABLE, run_folder.LOG]
)
def test_a_finished_run_with_a_damaged_file_is_listed_as_damaged(home, name):
    folder = made_run(home, "one")
    with (folder / name).open("a") as file:
        file.write("\n")
    (entry,) = run_list.list_runs(home)
    assert (entry.state, name in entry.problem) == ("damaged", True)
    assert lightalign("runs", "show", "one", home=home).returncode == 2


@pytest.mark.parametrize("name", [run_folder.WEIGHTS, run_folder.LOG])
def test_bytes_of_a_finished_run_that_keep_their_number_are_seen_by_show(home, name):
    folder = made_run(home, "one")
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(bytes(content))
    shown = lightalign("runs", "show", "one", home=home)
    assert (shown.returncode, name in shown.stderr) == (2, True)


def put(kind, path):
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nothing":
        path.symlink_to("nowhere")
    else:
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)  # whose whole path may be too long


@pytest.mark.parametrize("name", [run_folder.REPORT, run_folder.SPEC])
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "link to nothing"])
def test_what_is_no_file_in_the_place_of_one_is_damage_and_can_be_removed(home, kind, name):
    folder = made_run(home, "one")
    put(kind, folder / name)
    (entry,) = run_list.list_runs(home)
    assert entry.state == "damaged"
    for command in (("retrieve", "one"), ("runs", "show", "one"), ("train-adapter", "--name=one")):
        done = lightalign(*command, home=home)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), command
    assert lightalign("runs", "rm", "one", home=home).returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket"])
def test_a_spec_of_a_stopped_run_that_is_no_file_is_damage(home, kind):
    folder = stopped_before_third_epoch(home)
    put(kind, folder / run_folder.SPEC)
    (entry,) = run_list.list_runs(home)
    assert (entry.state, "missing" in entry.problem) == ("damaged", False)
    done = lightalign("train-adapter", "--resume", "one", home=home)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
