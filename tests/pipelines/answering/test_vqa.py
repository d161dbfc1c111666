"""Visual question answering: what a table holds, what it is of, and what is done once."""

import json

import numpy as np
import pytest

from lightalign.featcache.errors import LeakageError, LightalignError, SpecError
from lightalign.pipelines.answering import vqa
from lightalign.pipelines.answering.predictions import AskedSplit, predict
from lightalign.pipelines.answering.trainings import rows_of
from lightalign.pipelines.answering.vqa_spec import GRID_IMAGES, GRID_TEXTS, VqaSpec
from lightalign.pipelines.inputs.image_text import join_stores
from lightalign.pipelines.inputs.store_selection import StorePair, StoreQuery
from lightalign.pipelines.rendering.evaluations import vqa_parts
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.joint_run import JointRun
from lightalign.pipelines.training import train, trainer

from ...helpers import lightalign
from ..conftest import extract_questions
from ..joint_runs import ANSWERS, TINY, quick_joint

QUICK = {"preset": ("vle/small",), "overrides": TINY, "device": "cpu", "data": "vqa-table"}


@pytest.fixture(scope="module")
def asked_home(tmp_path_factory):
    """Return a home with questions about pictures of one colour; tables add their runs to it."""
    return extract_questions(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def told(asked_home):
    return vqa.run(VqaSpec(home=asked_home, split="val", seeds=2, **QUICK))


def questions_of(joint):
    data = joint.dataset_query(None, None)
    query = StoreQuery.of(data, "val", joint.queries)
    entries = vqa.Evaluation(kind="vqa", home=joint.home, data=data, split="val").require(
        query.by_side
    )
    return AskedSplit.of(join_stores(StorePair.of(entries), home=joint.home))


def test_a_table_has_what_knows_less_beside_the_adapter(told):
    metrics = told.report["metrics"]
    rows = ["question only", "image only", "majority", "shuffled images", "vle/small"]
    assert sorted(metrics) == sorted(rows)
    for numbers in metrics.values():
        assert 0 <= numbers["accuracy"]["value"] <= 100
        assert numbers["accuracy"]["num"] == 12
    assert {name: len(runs) for name, runs in told.report["runs"].items()} == {
        "question only": 2,
        "image only": 2,
        "vle/small": 2,
    }
    assert told.report["encoders_frozen"] is True
    assert "over_question_only" in metrics["vle/small"]
    assert "over_question_only" not in metrics["question only"]


def test_the_majority_is_the_most_frequent_answer_of_the_training(told):
    # of 24 questions 8 are answered by no, and so are 4 of 12 in val
    assert told.report["majority_answer"] == "no"
    assert told.report["metrics"]["majority"]["accuracy"]["value"] == pytest.approx(100 / 3)


def test_a_row_is_the_mean_of_its_seeds_with_their_deviation(told):
    seeds = told.report["seeds"]["vle/small"]
    numbers = told.report["metrics"]["vle/small"]
    assert numbers["accuracy"]["value"] == pytest.approx(np.mean(seeds))
    assert numbers["deviation"]["value"] == pytest.approx(np.std(seeds, ddof=1))


def test_what_is_trained_once_is_not_trained_again(asked_home, told, monkeypatch):
    monkeypatch.setattr(train, "run_joint", None)
    again = vqa.run(VqaSpec(home=asked_home, split="val", seeds=2, **QUICK))
    assert again.report["metrics"] == told.report["metrics"]
    assert again.path == told.path


def test_a_table_that_was_stopped_in_a_training_goes_on_to_the_same_numbers(
    asked_home, told, tmp_path_factory, monkeypatch
):
    home = extract_questions(tmp_path_factory.mktemp("stopped"))
    spec = VqaSpec(home=home, split="val", seeds=2, **QUICK)
    run_epoch = trainer.Trainer.run_epoch

    def stop(self, epoch, progress):
        if epoch == 2:
            raise KeyboardInterrupt
        return run_epoch(self, epoch, progress)

    monkeypatch.setattr(trainer.Trainer, "run_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        vqa.run(spec)
    monkeypatch.undo()
    assert vqa.run(spec).report["metrics"] == told.report["metrics"]


def test_an_epoch_is_not_chosen_by_the_questions_that_are_answered(asked_home, told):
    for names in told.report["runs"].values():
        for name in names:
            report = run_folder.read_report(run_folder.runs_folder(asked_home) / name)
            assert "held-out images of split 'train'" in report["selected_by"]
    chosen = quick_joint(asked_home, name="chosen-by-val", **ANSWERS)
    assert chosen.report["selected_by"] == "accuracy on split 'val'"
    overrides = (*TINY, "train.validation=val")
    spec = VqaSpec(home=asked_home, split="val", **{**QUICK, "overrides": overrides})
    with pytest.raises(LeakageError, match="chose the epoch"):
        vqa.run(spec)


def test_shuffled_images_are_those_of_other_questions(asked_home, told):
    joint = JointRun(asked_home, told.report["runs"]["vle/small"][0])
    asked = questions_of(joint)
    shuffled = asked.shuffled(0)
    assert (shuffled != asked.rows.first).all()
    assert sorted(set(shuffled.tolist())) == sorted(set(asked.rows.first.tolist()))
    # all questions of an image are asked about the same other one
    pairs = set(zip(asked.rows.first.tolist(), shuffled.tolist(), strict=True))
    assert len(pairs) == len(set(asked.rows.first.tolist()))


def test_who_sees_no_image_answers_alike_whatever_the_image(asked_home, told):
    joint = JointRun(asked_home, told.report["runs"]["question only"][0])
    asked = questions_of(joint)
    plain, moved = predict(joint, asked), predict(joint, asked, images=asked.shuffled(0))
    assert np.array_equal(plain.best, moved.best)
    assert np.array_equal(plain.confidence, moved.confidence)


def test_without_wordnet_wups_is_left_out_with_one_line(asked_home, told, monkeypatch):
    monkeypatch.setattr(vqa, "wordnet_or_warning", lambda: (None, "WUPS is left out"))
    report = vqa.run(VqaSpec(home=asked_home, split="val", seeds=2, **QUICK)).report
    assert not any("wups" in name for row in report["metrics"].values() for name in row)
    assert "WUPS is left out" in report["warnings"]


def test_failures_name_the_picture_the_question_and_the_answers(told):
    failures = told.report["failures"]
    assert failures
    for failure in failures:
        image, question = failure["query"]
        assert question.startswith(f"{image}#")
        assert failure["right"][0]["text"] != failure["first"][0]["text"]
        assert 0 <= failure["first"][0]["score"] <= 1


def test_a_report_is_shown_with_a_row_each(told):
    shown = [part for part in vqa_parts(told.report) if not isinstance(part, str)]
    assert len(shown[0].rows) == 5


def test_a_grid_is_every_text_encoder_with_every_image_encoder(asked_home):
    rows = rows_of(VqaSpec(home=asked_home, grid=True, preset=("oneencoder/vqa",)))
    assert len(rows) == 9
    pairs = {(row.image_encoder, row.text_encoder) for row in rows}
    assert pairs == {(image, text) for image in GRID_IMAGES for text in GRID_TEXTS}
    assert not any(row.is_control for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_encoder": ("a", "b")}, "--grid"),
        ({"grid": True, "preset": ("a", "b")}, "name one"),
        ({"preset": ()}, "preset names none"),
        ({"seeds": 0}, "from 1 to"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, changes, message):
    with pytest.raises(SpecError, match=message):
        VqaSpec(home=tmp_path, **changes)


@pytest.mark.parametrize(("split", "message"), [("nope", "nope"), ("train", "is trained on")])
def test_a_split_that_cannot_be_answered_is_refused_before_anything_is_trained(
    questions, split, message
):
    with pytest.raises(LightalignError, match=message):
        vqa.run(VqaSpec(home=questions, data="vqa-table", split=split, device="cpu"))
    assert not (questions / "runs").exists()


def test_a_dataset_without_answers_is_refused_in_one_line(toy_home):
    done = lightalign("vqa", "--data", "shapes", "--preset", "vle/small", home=toy_home)
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 3
    assert "has no answers" in done.stderr


def test_the_command_gives_one_json_object(asked_home, told):
    overrides = [word for value in TINY for word in ("--set", value)]
    done = lightalign(
        *("vqa", "--data", "vqa-table", "--split", "val", "--seeds", "2", "--json"),
        *("--preset", "vle/small", "--device", "cpu", *overrides),
        home=asked_home,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] == told.report["metrics"]
