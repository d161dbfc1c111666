"""Joint trainings: what is asked for, what is refused, and that they go on to the same bytes."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lightalign.featcache.errors import (
    DivergedError,
    RunNotFoundError,
    SpecError,
    StoreNotFoundError,
    UnknownNameError,
)
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.joint_plan import resolve, resolve_joint_preset, with_objectives
from lightalign.pipelines.training.joint_spec import TrainJointSpec

from ...helpers import lightalign, slow
from ..conftest import extract_toy
from ..joint_runs import ANSWERS, BOTH, NO_DROPOUT, TINY, joint_spec, joint_trainer, quick_joint
from ..question_tables import write_questions
from .test_distributed import finish, losses, sets, torchrun
from .test_resume import ENGINES, stop_in_epoch
from .test_train import quick_train

TABLE = {
    "heads": {"itm": {"part": "itm"}, "answers": {"part": "answers"}},
    "objective": {"answers": {"weight": 3.0, "loss": "single"}},
}


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (None, None),
        ("itm", {"itm": 1.0}),
        ("itm=1,answers=0.5", {"itm": 1.0, "answers": 0.5}),
        (" answers = 2 , itm ", {"answers": 2.0, "itm": 1.0}),
    ],
)
def test_objectives_are_read_with_their_weights(text, weights, tmp_path):
    assert TrainJointSpec(home=tmp_path, objective=text).objectives == weights


@pytest.mark.parametrize(
    "text", ["", "itm=0", "itm=-1", "itm=nan", "itm=inf", "itm=much", "itm,itm", "itm,,answers"]
)
def test_a_weight_is_a_number_above_0_and_a_name_stands_once(text, tmp_path):
    with pytest.raises(SpecError, match=re.escape(f"such as itm=1,answers=0.5: {text!r}")):
        TrainJointSpec(home=tmp_path, objective=text)


def test_objectives_take_the_place_of_the_presets_and_keep_its_options():
    changed = with_objectives(TABLE, {"itm": 1.0, "answers": 0.5}, preset="p")
    assert changed["objective"] == {
        "itm": {"weight": 1.0},
        "answers": {"weight": 0.5, "loss": "single"},
    }
    assert TABLE["objective"] == {"answers": {"weight": 3.0, "loss": "single"}}
    assert with_objectives(TABLE, None, preset="p") is TABLE


def test_an_objective_that_is_not_there_or_has_no_head_is_refused():
    with pytest.raises(UnknownNameError, match=r"no objective named 'answer'; close: \['answers'"):
        with_objectives(TABLE, {"answer": 1.0}, preset="p")
    bare = {**TABLE, "heads": {"answers": {"part": "answers"}}}
    with pytest.raises(SpecError, match="preset 'p' has no head for 'itm', but for answers: take"):
        with_objectives(bare, {"itm": 1.0}, preset="p")


def test_only_heads_that_an_objective_reads_are_built(home):
    table, _ = resolve_joint_preset("vle/small", (), home=home)
    assert list(table["heads"]) == ["itm"]
    table, _ = resolve_joint_preset(
        "vle/small", (), objectives={"answers": 1.0, "itm": 2.0}, home=home
    )
    assert set(table["heads"]) == {"itm", "answers"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"preset": "vle/smal"}, UnknownNameError, r"no preset named 'vle/smal'; close"),
        ({"preset": "linear"}, SpecError, r"`lightalign train-adapter --preset linear --home .*`"),
        ({"objective": "itm,mln"}, UnknownNameError, "no objective named 'mln'"),
        ({"objective": "itm,pbc"}, SpecError, "has no head for 'pbc'"),
        (
            {"overrides": ("heads.pbc.part=pbc", "objective.pbc.weight=1.0")},
            SpecError,
            r"\[objective\].pbc has targets that no store is read for: leave it out, answers",
        ),
        ({"preset": "oneencoder/vqa", "objective": "itm"}, SpecError, "has no head for 'itm'"),
        (
            {"overrides": ("heads.itn.part=itm",)},
            SpecError,
            r"\[heads\].itn is read by no objective: leave it out, heads are called answers, ",
        ),
        ({"objective": "answers"}, SpecError, "split 'train' of dataset shapes has none"),
        ({"objective": "answers", "negatives_from": "d"}, SpecError, "is of the objective itm"),
        ({"negatives_from": "nothing"}, RunNotFoundError, "no run 'nothing'"),
        ({"negatives_from": "joint"}, SpecError, "reads an image and a text together and embeds"),
        ({"overrides": ("train.epochs=0",)}, SpecError, "epochs must be"),
        ({"overrides": ("rates.fus=2",)}, SpecError, r"\[rates\] has no 'fus'; known: towers"),
        ({"overrides": ("rates.fuse=0",)}, SpecError, r"\[rates\] fuse must be a number above 0"),
        ({"overrides": ("trian.epochs=1",)}, SpecError, "a preset has no 'trian'"),
        ({"overrides": ("joint=3",)}, SpecError, r"\[joint\] must be a table, found 3"),
        ({"overrides": ("train.captions=all",)}, SpecError, "counts pairs, captions = 'each'"),
        ({"overrides": ("train.queue=9",)}, SpecError, "without mixup and queue"),
        ({"overrides": ("task.hard_negatives=2",)}, SpecError, "must be a share"),
        ({"overrides": ("task.negatives_scale=0",)}, SpecError, "negatives_scale must be above 0"),
        ({"overrides": ("task.most_validated=-1",)}, SpecError, "most_validated must be at least"),
        (
            {"overrides": ("task.vocabulary=train",)},
            SpecError,
            r"\[task\] \(matching\).*vocabulary",
        ),
        ({"overrides": ("task.part=retrieval",)}, SpecError, "part follows from the objectives"),
        ({"overrides": ("kind=dual",)}, SpecError, "kind of a joint preset is 'joint', found"),
        ({"overrides": ("objective.itm.weight=0",)}, SpecError, "weight must be above 0"),
        ({"overrides": ("train.validation=0.99",)}, SpecError, "left to train on, and two are"),
        ({"image_encoder": "dino-vits16"}, StoreNotFoundError, "dino-vits16"),
        ({"text_features": "grid:2x2"}, StoreNotFoundError, "texts by grid:2x2"),
        ({"data": "flickr8k"}, StoreNotFoundError, "flickr8k"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_before_a_run_begins(
    home, joint_run, changes, error, message
):
    if changes.get("negatives_from") == "joint":
        joint_run("joint")
    before = run_folder.run_folders(home)
    overrides = (*TINY, *changes.get("overrides", ()))
    if changes.get("preset") in ("linear", "oneencoder/vqa"):
        overrides = ()
    with pytest.raises(error, match=message) as refused:
        quick_joint(home, **{**changes, "overrides": overrides})
    assert "\n" not in str(refused.value)
    assert run_folder.run_folders(home) == before


@pytest.fixture
def joint_run(home):
    """Return a function that trains a joint adapter on the captions of `home`."""
    return lambda name, **changes: quick_joint(home, name=name, **changes)


def test_several_layers_of_a_side_are_no_option_of_a_joint_adapter(home):
    asked = ("train-joint", "--image-layers", "-1,-2", "--device", "cpu")
    done = lightalign(*asked, home=home)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not run_folder.runs_folder(home).exists()


def test_one_vector_a_side_is_read_as_one_token(tmp_path):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder, features=("mean",))
    trained = quick_joint(tmp_path, image_features="mean", text_features="mean")
    stores = run_folder.read_spec(trained.folder)["stores"]["train"]
    assert [stores[side]["kind"] for side in ("image", "text")] == ["mean", "mean"]


def test_a_run_says_what_it_is_and_how_it_was_trained(questions):
    trained = quick_joint(questions, **BOTH)
    spec, report = run_folder.read_spec(trained.folder), trained.report
    assert (spec["kind"], report["kind"]) == ("joint", "train-joint")
    assert spec["task"] == {"part": "answers"}
    assert spec["objective"] == {"itm": {"weight": 1.0}, "answers": {"weight": 0.5}}
    assert (report["num_images"], report["num_pairs"], report["num_answers"]) == (12, 24, 5)
    assert report["encoders_frozen"] is True
    assert set(report["best"]["parts"]) == {"itm", "answers"}
    assert set(report["best"]["validation"]) == {"loss", "accuracy", "itm_accuracy"}


def test_answers_to_questions_about_pictures_of_one_colour_are_learnt(questions):
    """What colour it is cannot be told from the question, and whether it is red neither."""
    overrides = ("train.epochs=20", *TINY[1:], "train.learning_rate=0.01")
    trained = quick_joint(questions, overrides=overrides, **ANSWERS)
    assert trained.report["best"]["validation"]["accuracy"] == 100.0


def test_weights_are_the_same_whichever_labels_a_dataset_lists_beside(home, questions):
    """Matching alone asks a dataset of questions for nothing that one of captions has not."""
    trained = quick_joint(questions)
    assert "num_answers" not in trained.report
    assert trained.report["best"]["validation"].keys() == {"loss", "itm_accuracy"}


def test_the_same_seed_gives_the_same_bytes(questions):
    first, second, other = (quick_joint(questions, seed=seed, **BOTH) for seed in (1, 1, 2))
    weights = [(run.folder / run_folder.WEIGHTS).read_bytes() for run in (first, second, other)]
    assert weights[0] == weights[1] != weights[2]


def test_wrong_pairs_by_a_dual_run_are_recorded_with_its_adapter(home):
    dual = quick_train(home, name="dual", preset="linear")
    trained = quick_joint(home, name="hard", negatives_from="dual")
    task = run_folder.read_spec(trained.folder)["task"]
    assert (task["part"], task["negatives_from"]) == ("matching", "dual")
    assert len(task["negatives_sha256"]) == 64
    easy = quick_joint(home, name="easy")
    weights = [(run.folder / run_folder.WEIGHTS).read_bytes() for run in (trained, easy)]
    assert weights[0] != weights[1]
    assert dual.folder.is_dir()


# Each brings a state of its own; those of chunks, averages and hard pairs do not touch one another.
JOINT_ENGINES = {
    "both, chunks, average": (*ENGINES["lion, average, accumulated"], "train.chunk_size=7"),
    "float16": ("train.precision=float16",),
}


@pytest.mark.parametrize("engine", ["both, chunks, average", *slow("float16")])
def test_a_stopped_training_goes_on_to_the_same_bytes(questions, monkeypatch, engine):
    changes = {"overrides": ("train.epochs=4", *TINY[1:], *JOINT_ENGINES[engine]), **BOTH}
    goes_on_to_the_same_bytes(questions, monkeypatch, **changes)


def test_a_stopped_training_with_hard_wrong_pairs_goes_on_to_the_same_bytes(home, monkeypatch):
    quick_train(home, name="dual", preset="linear")
    overrides = ("train.epochs=4", "train.batch_size=60", *TINY[2:], "task.hard_negatives=0.5")
    goes_on_to_the_same_bytes(home, monkeypatch, overrides=overrides, negatives_from="dual")


def goes_on_to_the_same_bytes(home, monkeypatch, **changes) -> None:
    whole = quick_joint(home, name="whole", seed=3, **changes)
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_joint(home, name="cut", seed=3, **changes)
    folder = run_folder.runs_folder(home) / "cut"
    assert (folder / run_folder.STATE).is_file()
    resumed = train.resume(home, "cut", device="cpu", joint=True)
    for name in (run_folder.WEIGHTS, run_folder.TABLE):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert losses(folder) == losses(whole.folder)
    assert resumed.report["best"]["epoch"] == whole.report["best"]["epoch"]
    assert resumed.report["kind"] == "train-joint"
    assert not (folder / run_folder.STATE).exists()


def test_a_training_whose_dual_run_changed_meanwhile_does_not_go_on(home, monkeypatch):
    dual = quick_train(home, name="dual", preset="linear")
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_joint(home, name="cut", negatives_from="dual")
    other = quick_train(home, name="other", preset="linear", seed=5)
    for name in (run_folder.WEIGHTS, run_folder.TABLE, run_folder.REPORT, run_folder.SPEC):
        (dual.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(SpecError, match="run dual is another now than the one"):
        train.resume(home, "cut", device="cpu", joint=True)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(questions):
    overrides = ("train.epochs=40", *TINY[1:])
    whole = quick_joint(questions, overrides=overrides, name="whole", **BOTH)
    command = [sys.executable, "-m", "lightalign", "train-joint", "--preset", "vle/small"]
    command += ["--name", "cut", "--objective", BOTH["objective"], *sets(*overrides)]
    running = subprocess.Popen([*command, "--home", str(questions), "--device", "cpu", "--quiet"])
    folder = run_folder.runs_folder(questions) / "cut"
    while not (folder / run_folder.STATE).is_file():
        assert running.poll() is None
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    train.resume(questions, "cut", device="cpu", joint=True)
    assert (folder / run_folder.WEIGHTS).read_bytes() == (
        whole.folder / run_folder.WEIGHTS
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("chunk_size", [0, 5])
def test_torchrun_ends_with_the_weights_of_one_process(questions, chunk_size, record_property):
    """Of 24 pairs in batches of 5 and 4, which two processes share unevenly."""
    overrides = ("train.epochs=4", "train.batch_size=5", *TINY[2:], NO_DROPOUT)
    overrides = (*overrides, f"train.chunk_size={chunk_size}", "train.ema=0.9")
    alone = quick_joint(questions, overrides=overrides, name="alone", **BOTH)
    through = ("--no-python", sys.executable, "-m", "lightalign")
    named = ("--name", "two", "--preset", "vle/small", "--objective", BOTH["objective"], "--json")
    arguments = (*named, *sets(*overrides))
    with torchrun(questions, *arguments, through=through, verb="train-joint") as running:
        out, err = finish(running)
    assert json.loads(out)["processes"] == 2  # one object: only the first process has spoken
    assert err.count("epoch 4/4") == 1
    folder = run_folder.runs_folder(questions) / "two"
    first, second = (load_file(each / run_folder.WEIGHTS) for each in (alone.folder, folder))
    differences = [float((second[name] - first[name]).abs().max()) for name in first]
    record_property("largest_difference", max(differences))
    assert set(first) == set(second)
    assert max(differences) < 1e-4  # of weights up to about 1; a step changes them by 2e-4
    np.testing.assert_allclose(losses(folder), losses(alone.folder), rtol=1e-5)


def questions_with(place, answers_of):
    """Return a home with questions, to each of which `answers_of(number, row)` are given."""
    table = write_questions(place / "pictures")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["answers"] = answers_of(number, row)
    table.write_text("\n".join(map(json.dumps, rows)))
    for encoder in ("toy-image", "toy-text"):
        extract_toy(place / "home", encoder, data=f"vqa-table={table}", source={})
    return place / "home"


def test_a_training_is_finished_where_no_answer_of_its_validation_is_in_the_list(tmp_path):
    home = questions_with(
        tmp_path, lambda _, row: ["zebra"] if row["split"] == "val" else row["answers"]
    )
    for loss in ("soft", "single"):
        overrides = (*TINY, f"objective.answers.loss={loss}")
        report = quick_joint(home, name=loss, overrides=overrides, **ANSWERS)
        told = run_folder.read_report(report.folder)
        assert "calibration" not in told
        assert told["num_unlisted"] == {"split 'train'": 0, "split 'val'": 12}


def test_a_split_without_answers_is_named_with_another_way_to_validate(tmp_path):
    home = questions_with(tmp_path, lambda _, row: [] if row["split"] == "val" else row["answers"])
    with pytest.raises(SpecError, match=r"split 'val' of .* has none: .* train.validation=0.1"):
        quick_joint(home, **ANSWERS)
    quick_joint(home, overrides=(*TINY, "train.validation=0.1"), **ANSWERS)


def test_a_list_without_an_answer_of_the_training_is_refused(tmp_path):
    home = questions_with(
        tmp_path, lambda number, row: [str(number)] if row["split"] == "train" else row["answers"]
    )
    overrides = (*TINY, "task.vocabulary=frequent", "task.least_count=2", "train.validation=val")
    with pytest.raises(SpecError, match=r"none of 24 questions of split 'train' has an answer"):
        quick_joint(home, overrides=overrides, **ANSWERS)


def test_a_training_that_diverged_is_no_run(questions):
    """One step at such a rate leaves finite weights, whose logits are none."""
    rates = ("train.learning_rate=1e30", "train.gradient_clip=1e30", "train.batch_size=24")
    overrides = ("train.epochs=1", *TINY[2:], *rates)
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) on split 'val': lower train"):
        quick_joint(questions, overrides=overrides)
    assert run_folder.run_folders(questions) == []


def test_a_preset_for_questions_is_trained_to_match_where_that_is_asked(home):
    """Its options of answers are none of a training that learns none."""
    overrides = ("train.epochs=1", "train.batch_size=60", *TINY[2:])
    trained = quick_joint(home, preset="vle/vqa", objective="itm", overrides=overrides)
    assert run_folder.read_spec(trained.folder)["task"] == {"part": "matching"}


def test_training_leaves_the_global_random_state_alone(questions):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    quick_joint(questions, **BOTH)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_of_an_epoch_are_those_of_the_trainer_whatever_was_validated(questions):
    """Wrong pairs that validate are drawn by a seed of their own."""
    trainers = [
        joint_trainer(questions, f"train.validation={name}", **BOTH) for name in ("auto", "none")
    ]
    orders = [
        [(rows.first.tolist(), rows.wrong.tolist()) for rows in trainer.batches.order(1)]
        for trainer in trainers
    ]
    assert orders[0] == orders[1]


def test_the_line_of_an_epoch_has_the_accuracies_and_the_pairs_of_a_second(questions):
    asked = ("train-joint", "--preset", "vle/small", "--objective", BOTH["objective"])
    done = lightalign(*asked, "--device", "cpu", *sets(*TINY), home=questions)
    line = next(line for line in done.stderr.splitlines() if line.startswith("epoch 2/2"))
    assert re.fullmatch(
        r"epoch 2/2: loss \d+\.\d{3}, validation accuracy of answers \d+\.\d %, balanced accuracy "
        r"of matching \d+\.\d %, loss \d+\.\d{3} \(\d+ pairs/s, \d+% waiting for data\)",
        line,
    )
    (folder,) = run_folder.run_folders(questions)
    record = json.loads((folder / run_folder.LOG).read_text().splitlines()[-1])
    assert record["images_per_second"] > 0


def test_a_plan_has_the_stores_and_the_validation_split(questions):
    plan = resolve(joint_spec(questions, **BOTH), SILENT)
    assert (plan.stores.split, plan.validation.split, plan.holdout) == ("train", "val", 0.0)
    assert plan.options.captions == "each"
