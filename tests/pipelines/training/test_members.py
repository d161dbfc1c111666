"""Several seeds in one run, and one adapter of them."""

import json

import pytest

from lightalign.adapters.checkpoint import load_adapter
from lightalign.featcache.errors import SpecError, StoreCorruptError, UnknownNameError
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.run_list import describe_run
from lightalign.pipelines.training import train
from lightalign.pipelines.training.members import spread
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign
from .test_resume import stop_in_epoch
from .test_train import PRESET, QUICK, quick_train

FILES = (run_folder.TABLE, run_folder.WEIGHTS)


def member(folder, seed):
    return run_folder.member_folder(folder, seed)


def test_a_member_is_the_run_of_its_seed(home):
    trained = quick_train(home, seed=3, seeds=2)
    for seed in (3, 4):
        alone = quick_train(home, seed=seed, name=f"alone-{seed}")
        for name in FILES:
            whole = member(trained.folder, seed) / name
            assert whole.read_bytes() == (alone.folder / name).read_bytes()


def test_without_an_ensemble_the_best_member_is_the_adapter(home):
    trained = quick_train(home, seeds=3)
    sums = [each["best"]["validation"]["recall_sum"] for each in trained.report["members"]]
    best = sums.index(max(sums))
    assert trained.report["best"]["validation"]["recall_sum"] == max(sums)
    for name in FILES:
        expected = (member(trained.folder, best) / name).read_bytes()
        assert (trained.folder / name).read_bytes() == expected


def test_the_average_has_the_mean_of_the_cosines_and_is_evaluated_as_any_run(home):
    trained = quick_train(home, seeds=2, ensemble="average", name="both")
    adapter, _, table = load_adapter(trained.folder)
    each = [load_adapter(member(trained.folder, seed))[0] for seed in (0, 1)]
    assert table["members"] == 2
    assert adapter.out_width == 2 * each[0].out_width
    evaluated = retrieve.run(
        retrieve.RetrieveSpec(home=home, run="both", split="val", device="cpu", allow_leakage=True)
    )
    validation = trained.report["best"]["validation"]
    measured = evaluated.report["metrics"]["text_to_image"]["recall"]["1"]["value"]
    assert measured == pytest.approx(validation["text_to_image"]["1"])
    assert describe_run(home, "both")["state"] == "finished"


def test_an_average_is_exported_and_indexed_as_any_run(home, tmp_path):
    quick_train(home, seeds=2, ensemble="average", name="both")
    output = str(tmp_path / "towers")
    commands = (
        ("export", "--to", "onnx", "--adapter-only", "both", "--output", output),
        ("index", "both", "--split", "test", "--device", "cpu"),
        ("search", "both", "a red circle", "--device", "cpu"),
    )
    for command in commands:
        done = lightalign(*command, home=home)
        assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "towers" / "lightalign.json").read_text())
    # of float32 sums; one wrong member would change cosines by tenths
    assert about["towers"]["image"]["adapter"]["largest_cosine_difference"] < 1e-5


def test_a_dry_run_says_the_minutes_of_all_seeds(home):
    sets = [part for override in QUICK for part in ("--set", override)]
    command = ("train-adapter", "--preset", PRESET, *sets, "--seeds", "3", "--dry-run")
    said = lightalign(*command, "--device", "cpu", home=home)
    assert "the minutes are those of all 3 seeds" in said.stdout + said.stderr


def test_a_stop_in_the_second_member_goes_on_to_the_same_bytes(home, monkeypatch):
    overrides = ("train.epochs=3", *QUICK[1:])
    whole = quick_train(home, seeds=3, ensemble="average", name="whole", overrides=overrides)
    calls = []

    class Stopping(Progress):
        def note(self, message):
            calls.append(message)
            if message == "2 of 3: seed 1":
                stop_in_epoch(monkeypatch, 2)

    with pytest.raises(KeyboardInterrupt):
        train.run(
            TrainSpec(
                home=home,
                preset="lightalign/fusion",
                overrides=overrides,
                device="cpu",
                seeds=3,
                ensemble="average",
                name="cut",
            ),
            Stopping(),
        )
    folder = run_folder.runs_folder(home) / "cut"
    assert (member(folder, 0) / run_folder.REPORT).is_file()
    assert (member(folder, 1) / run_folder.STATE).is_file()
    assert "finished epochs are kept" in run_folder.kept_of(member(folder, 1), home)
    resumed = train.resume(home, "cut", device="cpu")
    for name in FILES:
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert resumed.report["spread"] == whole.report["spread"]


def test_a_missing_file_of_a_member_is_named(home):
    trained = quick_train(home, seeds=2, name="two")
    (member(trained.folder, 1) / run_folder.WEIGHTS).unlink()
    with pytest.raises(StoreCorruptError, match=r"seed-1/adapter\.safetensors.*runs rm two"):
        run_folder.check_files(trained.folder, content=True)


@pytest.mark.parametrize("seeds", [0, 1])
def test_fewer_than_two_seeds_are_refused(home, seeds):
    with pytest.raises(SpecError, match=f"seeds must be from 2 to 1,000, found {seeds}"):
        quick_train(home, seeds=seeds)


def test_an_ensemble_of_one_seed_is_refused(home):
    with pytest.raises(SpecError, match="--ensemble average needs --seeds, such as --seeds 5"):
        quick_train(home, ensemble="average")


def test_an_unknown_way_is_refused(home):
    with pytest.raises(UnknownNameError, match="median"):
        quick_train(home, seeds=2, ensemble="median")


def test_a_training_free_preset_has_no_seeds(home):
    with pytest.raises(SpecError, match="leave it out"):
        quick_train(home, preset="cca", overrides=(), seeds=2)


def test_several_processes_are_refused(home, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(SpecError, match="without torchrun"):
        quick_train(home, seeds=2)


def test_a_spread_is_of_a_sample():
    records = [{"recall_sum": value, "text_to_image": {"1": 2 * value}} for value in (1, 2, 3)]
    assert spread(records) == {
        "recall_sum": {"mean": 2.0, "deviation": 1.0},
        "text_to_image": {"1": {"mean": 4.0, "deviation": 2.0}},
    }
