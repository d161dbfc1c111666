"""A finished run answers with what its training wrote, or not at all."""

import shutil

import pytest

from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.pipelines import runs
from lightalign.pipelines.report_content import read_runs

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
