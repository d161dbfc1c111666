"""One question about a picture: the answer of the stored features, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightalign.featcache.config import to_toml
from lightalign.featcache.documents import read_toml
from lightalign.featcache.errors import RunNotFoundError, SpecError, StoreCorruptError
from lightalign.pipelines.answering import ask
from lightalign.pipelines.answering.ask_spec import AskSpec
from lightalign.pipelines.answering.predictions import top_answers
from lightalign.pipelines.metrics.answer_vocabulary import AnswerVocabulary
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.joint_run import PairReader

from ...helpers import lightalign
from ..conftest import extract_questions
from ..joint_runs import ANSWERS, TINY, quick_joint


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with pictures and a home, in which one run answers and one matches."""
    place = tmp_path_factory.mktemp("ask")
    home = extract_questions(place)
    quick_joint(home, name="answers", **ANSWERS)
    quick_joint(home, name="matches")
    return place


def asked(place, **changes):
    fields = {
        "home": place / "home",
        "run": "answers",
        "image": place / "pictures" / "00.png",
        "question": "is it red",
        "device": "cpu",
        **changes,
    }
    return ask.run(AskSpec(**fields))


def test_the_most_probable_answers_come_first(place):
    report = asked(place, top_k=3)
    told = [entry["probability"] for entry in report.answers]
    assert len(told) == 3
    assert told == sorted(told, reverse=True)
    assert all(0 <= probability <= 1 for probability in told)
    assert report.calibrated
    trained = run_folder.read_report(place / "home" / "runs" / "answers")
    assert report.temperature == trained["calibration"]["temperature"]


def test_more_answers_than_there_are_are_all(place):
    words = {entry["answer"] for entry in asked(place, top_k=100).answers}
    assert words == {"red", "green", "blue", "yes", "no"}


def test_an_answer_does_not_depend_on_what_was_asked_before(place):
    reader = PairReader(place / "home" / "runs" / "answers", device="cpu")
    picture = place / "pictures" / "01.png"
    alone = ask.answer(reader, picture, "what colour is it")
    ask.answer(reader, place / "pictures" / "00.png", "a far longer question than the other one")
    assert ask.answer(reader, picture, "what colour is it") == alone


def test_a_picture_may_be_a_file_its_content_or_decoded(place):
    reader = PairReader(place / "home" / "runs" / "answers", device="cpu")
    picture = place / "pictures" / "01.png"
    of_file = ask.answer(reader, picture, "is it red").answers
    assert ask.answer(reader, picture.read_bytes(), "is it red").answers == of_file


def test_probabilities_are_worked_by_hand():
    listed = AnswerVocabulary(("yes", "no", "two"))
    logits = np.log(np.array([3.0, 1.0, 1.0], dtype=np.float32))
    told = top_answers(logits, listed, kind="softmax", temperature=1.0, top_k=2)
    assert [answer for answer, _ in told] == ["yes", "no"]
    assert [probability for _, probability in told] == pytest.approx([0.6, 0.2], abs=1e-6)
    (best,) = top_answers(logits, listed, kind="sigmoid", temperature=1.0, top_k=1)
    assert best[1] == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"question": "  "}, SpecError, "question is empty"),
        ({"image": Path("none.png")}, SpecError, "there is no image"),
        ({"run": "nothing"}, RunNotFoundError, "no run 'nothing'"),
        ({"run": "matches"}, SpecError, "no head 'answers'.*train-joint --objective answers"),
        ({"top_k": 0}, SpecError, "from 1 to"),
    ],
)
def test_what_cannot_be_answered_is_refused(place, changes, error, message):
    with pytest.raises(error, match=message):
        asked(place, **changes)


def test_a_list_of_another_length_than_the_head_is_refused(place, tmp_path):
    home = extract_questions(tmp_path)
    folder = quick_joint(home, name="cut", **ANSWERS).folder
    table = folder / run_folder.TABLE
    content = read_toml(table)
    content["answers"]["listed"].remove("green")
    table.write_text(to_toml(content))
    with pytest.raises(StoreCorruptError, match=r"lists 4 answers.*5 outputs"):
        PairReader(folder, device="cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["answers", "", "is it red"], "is a folder: name one image file"),
        (["answers", "PICTURE", " "], "the question is empty"),
        (["answers", "nowhere.png", "is it red"], "there is no image 'nowhere.png'"),
        (["answers", ".", "is it red"], "is a folder: name one image file"),
        (["matches", "PICTURE", "is it red"], "has no head 'answers', its heads are itm"),
    ],
)
def test_bad_input_is_one_line(place, words, message):
    picture = str(place / "pictures" / "00.png")
    named = [picture if word == "PICTURE" else word for word in words]
    done = lightalign("ask", *named, "-q", "--device", "cpu", home=place / "home")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize(("words", "missing"), [([], "image"), (["PICTURE"], "question")])
def test_an_image_without_a_question_and_neither_are_refused(place, words, missing):
    """As every command refuses an argument that is not there: its usage, and what is missing."""
    named = [str(place / "pictures" / "00.png") for _ in words]
    done = lightalign("ask", "answers", *named, home=place / "home")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"Error: Missing argument '{missing}'."


def test_a_control_says_what_it_does_not_look_at(place):
    overrides = (*TINY, "task.blind=image")
    quick_joint(place / "home", name="blind", **ANSWERS, overrides=overrides)
    report = asked(place, run="blind")
    assert "the run is a control that does not look at the image" in report.warnings
    other = asked(place, run="blind", image=place / "pictures" / "05.png")
    assert other.answers == report.answers


def test_the_command_gives_one_json_object(place):
    picture = str(place / "pictures" / "00.png")
    done = lightalign("ask", "answers", picture, "is it red", "--json", home=place / "home")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["answers"] == asked(place).answers
    assert set(told["seconds"]) == {"open", "read"}
