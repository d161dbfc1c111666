"""A finished run answers with what its training wrote, or not at all."""

import shutil

import pytest

from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.pipelines import runs, train
from lightalign.pipelines.loop import Trainer
from lightalign.pipelines.report_content import read_runs

from .test_resume import stop_in_epoch
from .test_train import QUICK, quick_train


@pytest.mark.parametrize("name", [runs.SPEC, runs.TABLE, runs.WEIGHTS])
def test_a_file_of_another_run_is_refused_and_named(home, name):
    """Each is whole, with a right checksum of its own, and of equal structure."""
    for run, seed in (("one", 1), ("other", 2)):
        quick_train(home, name=run, seed=seed, overrides=("train.epochs=1", *QUICK[1:]))
    folder = runs.runs_folder(home) / "one"
    content = (folder.parent / "other" / name).read_bytes()
    if content == (folder / name).read_bytes():
        content += b"\n"
    (folder / name).write_bytes(content)
    with pytest.raises(StoreCorruptError, match=f"{name} has .*runs rm one"):
        runs.find_run(home, "one")


@pytest.mark.parametrize("name", [runs.TABLE, runs.WEIGHTS])
def test_best_weights_of_before_a_stop_that_are_others_now_are_refused(home, monkeypatch, name):
    """No later epoch is better than the first, so that what is there is what the run ends with."""
    monkeypatch.setattr(Trainer, "_score", lambda _, record: -float(record["epoch"]))
    options = ("train.epochs=3", *QUICK[1:])
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="one", overrides=options)
    other = quick_train(home, name="other", seed=4, overrides=options).folder
    content = (other / name).read_bytes()
    folder = runs.runs_folder(home) / "one"
    same = content == (folder / name).read_bytes()
    (folder / name).write_bytes(content + b"\n" * same)
    with pytest.raises(StoreCorruptError, match=r"best weights of the run are lost.*runs rm one"):
        train.resume(home, "one", device="cpu")


def test_a_stopped_training_does_not_go_on_with_the_spec_of_another(home, monkeypatch):
    options = ("train.epochs=3", *QUICK[1:])
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="one", overrides=options)
    folder = runs.runs_folder(home) / "one"
    other = quick_train(home, name="other", overrides=("train.epochs=2", *QUICK[1:])).folder
    shutil.copyfile(other / runs.SPEC, folder / runs.SPEC)
    with pytest.raises(StoreCorruptError, match=r"began with another spec.*runs rm one"):
        train.resume(home, "one", device="cpu")


def test_a_log_of_another_run_is_left_out_of_a_page(home):
    for run, seed in (("one", 1), ("other", 2)):
        quick_train(home, name=run, seed=seed, overrides=("train.epochs=1", *QUICK[1:]))
    folder = runs.runs_folder(home) / "one"
    shutil.copyfile(folder.parent / "other" / runs.LOG, folder / runs.LOG)
    (part,) = read_runs(home, ["one"])
    assert part.epochs == []
    assert "one/log.jsonl is left out" in part.unread[0]


@pytest.mark.parametrize("name", ["report.json", "run.toml"])
def test_a_changed_number_of_a_report_or_a_spec_is_refused(home, name):
    folder = quick_train(home, name="one", overrides=("train.epochs=1", *QUICK[1:])).folder
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace("1", "2", 1))
    with pytest.raises((StoreCorruptError, SpecError)):
        runs.find_run(home, "one")
