"""Questions that a language model is asked after an adapter: answers, failures and the report."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from lightalign.featcache.errors import LightalignError, SpecError
from lightalign.pipelines.answering import vqa
from lightalign.pipelines.answering.ask_spec import AskSpec
from lightalign.pipelines.answering.language_answers import LanguageAnswers, listed_answer
from lightalign.pipelines.answering.predictions import Predictions
from lightalign.pipelines.answering.vqa_spec import VqaSpec
from lightalign.pipelines.language.asking import Replies
from lightalign.pipelines.language.kept_replies import KeptReplies
from lightalign.pipelines.metrics.answer_vocabulary import AnswerVocabulary
from lightalign.pipelines.rendering.evaluations import asked_parts, vqa_parts
from lightalign.pipelines.training import train

from ...helpers import lightalign
from ..conftest import extract_questions
from ..joint_runs import ANSWERS, TINY, quick_joint
from ..language.chat_server import KEY, chat_server, drip
from ..language.tiny_models import write_caption_model, write_language_model
from ..question_tables import COLOURS
from .test_ask import asked

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
ROW, PLAIN = "vle/small + language model", "vle/small"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with pictures and a home, in which a table and a run are trained."""
    place = tmp_path_factory.mktemp("language")
    home = extract_questions(place)
    quick_joint(home, name="answers", **ANSWERS)
    vqa.run(table_spec(place))
    return place


@pytest.fixture(autouse=True)
def _trained_already(place, monkeypatch):
    """Train nothing, keep no reply of another test, and have a key in the environment."""
    monkeypatch.setattr(train, "run_joint", None)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    shutil.rmtree(place / "home" / "language-replies", ignore_errors=True)


def table_spec(place, **changes):
    fields = {
        "home": place / "home",
        "data": f"vqa-table={place / 'pictures' / 'questions.jsonl'}",
        "preset": (PLAIN,),
        "split": "val",
        "controls": False,
        "overrides": TINY,
        "device": "cpu",
    }
    return VqaSpec(**{**fields, **changes})


def table_of(place, url, **changes):
    fields = {"llm_url": url, "llm_model": "big", "llm_timeout": 5.0}
    return vqa.run(table_spec(place, **{**fields, **changes})).report


def captions(place):
    """Write what colour each picture has."""
    rows = [
        {"image": f"{number:02}.png", "caption": f"all is {list(COLOURS)[number % 3]}"}
        for number in range(18)
    ]
    path = place / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def knowing(handler):
    """Answer rightly by the caption."""
    colour = handler.user.splitlines()[0].split()[-1]
    is_red = "Yes." if colour == "red" else "no"
    handler.say(is_red if "is it red" in handler.user else f"Answer: {colour.upper()}!")


def test_the_answer_is_the_first_line_in_the_form_of_the_normaliser():
    listed = AnswerVocabulary(("red", "2", "t_shirt"))
    replies = ["Red.", "Answer: two\nas one sees", '"A T-shirt"', "purple", "", "red or blue"]
    assert [listed_answer(listed, reply) for reply in replies] == [0, 1, 2, -1, -1, -1]


def test_a_list_that_is_not_normalised_is_found_in_its_form_too():
    assert listed_answer(AnswerVocabulary(("2", "red"), normalise=False), "Two") == 0


def test_what_is_not_listed_or_failed_leaves_the_plain_answer():
    told = Predictions(AnswerVocabulary(("red", "blue")), np.array([0, 0, 0]), np.ones(3))
    answers = LanguageAnswers.of(told, Replies(["Blue", "puce", None], {"HTTP 500": 1}))
    assert answers.best.tolist() == [1, 0, 0]
    assert answers.table() == {
        "num_listed": 1,
        "num_unlisted": 1,
        "num_failed": 1,
        "failures": {"HTTP 500": 1},
        "num_kept": 0,
    }


def test_a_table_has_both_scores_with_their_intervals_and_their_difference(place):
    plain = vqa.run(table_spec(place)).report
    with chat_server(knowing) as chat:
        report = table_of(place, chat.url, captions=captions(place))
    metrics = report["metrics"]
    assert list(metrics) == [PLAIN, ROW]
    assert metrics[PLAIN] == plain["metrics"][PLAIN]
    assert metrics[ROW]["accuracy"]["value"] == 100
    assert len(metrics[ROW]["accuracy"]["interval"]) == 2
    over = metrics[ROW]["over_plain"]
    assert over["value"] == pytest.approx(100 - metrics[PLAIN]["accuracy"]["value"])
    assert over["unit"] == "points"
    assert len(over["interval"]) == 2
    assert "over_plain" in report["definitions"]
    (row,) = report["llm"]["rows"][PLAIN]
    assert (row["num_listed"], row["num_unlisted"], row["num_failed"]) == (12, 0, 0)


def test_the_prompt_has_caption_question_and_calibrated_candidates_to_the_letter(place):
    with chat_server(lambda handler: handler.say("no")) as chat:
        told = asked(
            place,
            llm_url=chat.url,
            llm_model="big",
            caption="a red wall",
            llm_candidates=2,
            top_k=1,
        )
    (first, second) = asked(place, top_k=2).answers
    listed = [f"{entry['answer']} ({entry['probability']:.2f})" for entry in (first, second)]
    (request,) = chat.requests
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["messages"][1]["content"] == (
        f"Caption: a red wall\nQuestion: is it red\nProposed answers: {', '.join(listed)}\nAnswer:"
    )
    assert told.llm is not None
    assert told.llm["messages"] == request["messages"]
    assert (told.llm["answer"], told.llm["is_listed"]) == ("no", True)
    assert told.answers == [first]


def test_a_sentence_is_an_answer_of_its_own(place):
    sentence = "The wall is not red."
    with chat_server(lambda handler: handler.say(sentence)) as chat:
        told = asked(place, llm_url=chat.url, llm_model="big", llm_prompt="sentence")
    assert told.llm is not None
    assert (told.llm["answer"], told.llm["is_listed"]) == (sentence, False)
    assert sentence in str(asked_parts(told)[-1])


def test_without_a_language_model_nothing_is_said_of_one(place):
    report = vqa.run(table_spec(place)).report
    assert not {key for key in report["options"] if key.startswith("llm")}
    assert "llm" not in report
    assert "over_plain" not in report["definitions"]
    assert "llm" not in asked(place).table()
    assert not (place / "home" / "language-replies").exists()


@pytest.mark.parametrize(
    ("answering", "reason"),
    [
        (lambda handler: handler.send(b"oh", status=500), "HTTP 500"),
        (lambda handler: time.sleep(60), "time-out"),
        (lambda handler: drip(handler, b" "), "time-out"),
        (lambda handler: handler.send(b"garbage"), "no JSON"),
        (lambda handler: handler.say("red" * 4_000_000), "more than 1 MiB"),
        (lambda handler: handler.send(b"data: x", Content_Type="text/event-stream"), "a stream"),
        (lambda handler: handler.say(""), "empty"),
    ],
)
def test_after_a_failure_the_plain_answer_counts_with_one_warning(place, answering, reason):
    # what is not to run out of time has plenty, as on a machine with much else to do
    timeout = 1.0 if reason == "time-out" else 60.0
    with chat_server(answering) as chat:
        report = table_of(place, chat.url, llm_timeout=timeout, llm_parallel=12)
        told = asked(place, llm_url=chat.url, llm_model="big", llm_timeout=timeout)
    metrics = report["metrics"]
    assert metrics[ROW]["accuracy"] == metrics[PLAIN]["accuracy"]
    assert metrics[ROW]["over_plain"]["value"] == 0
    (warning,) = [line for line in report["warnings"] if line.startswith("big gave")]
    assert "no answer to 12 of 12 questions" in warning
    assert reason in warning
    assert told.llm is not None
    assert told.llm["answer"] == told.answers[0]["answer"]
    assert told.llm["failure"].startswith(reason)
    assert len([line for line in told.warnings if reason in line]) == 1


def test_nobody_at_the_address_leaves_the_plain_answers(place):
    with chat_server(knowing) as chat:
        pass
    report = table_of(place, chat.url)
    assert report["metrics"][ROW]["over_plain"]["value"] == 0
    assert any("cannot be reached" in line for line in report["warnings"])


def test_a_key_is_in_no_file_of_the_home_in_no_output_and_in_no_error(place, caplog):
    echo = lambda handler: handler.say(handler.headers["Authorization"])  # noqa: E731
    caplog.set_level(0)
    overrides = [word for value in TINY for word in ("--set", value)]
    spec = table_spec(place)
    for answering in (echo, lambda handler: handler.send(KEY.encode(), status=401)):
        with chat_server(answering) as chat:
            url = chat.url.replace("http://", f"http://{KEY}user:{KEY}@")
            for address in (chat.url, url):
                model = ("--llm-url", address, "--llm-model", "big")
                done = lightalign(
                    *("vqa", "--data", spec.data, "--split", "val", "--no-controls", "--json"),
                    *("--preset", PLAIN, "--device", "cpu", *overrides, *model),
                    home=place / "home",
                )
                assert done.returncode == 0, done.stderr
                picture = str(place / "pictures" / "00.png")
                one = lightalign(
                    "ask", "answers", picture, "why", "--json", *model, home=place / "home"
                )
                assert one.returncode == 0, one.stderr
                assert KEY not in done.stdout + done.stderr + one.stdout + one.stderr + caplog.text
    assert chat.requests
    for path in (place / "home").rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_a_stopped_round_goes_on_where_it_was(place, monkeypatch):
    prompts = []

    def answering(handler):
        prompts.append(handler.user)
        knowing(handler)

    add = KeptReplies.add

    def add_five(self, asked, reply):
        add(self, asked, reply)
        if len(self._replies) == 5:
            raise KeyboardInterrupt

    with chat_server(answering) as chat:
        options = {"captions": captions(place), "llm_parallel": 1}
        whole = table_of(place, chat.url, **options)
        num_prompts = len(prompts)
        shutil.rmtree(place / "home" / "language-replies")
        monkeypatch.setattr(KeptReplies, "add", add_five)
        with pytest.raises(KeyboardInterrupt):
            table_of(place, chat.url, **options)
        monkeypatch.setattr(KeptReplies, "add", add)
        prompts.clear()
        again = table_of(place, chat.url, **options)
        # a set, as the server may hear of the one that was under way as late as now
        assert len(set(prompts)) == num_prompts - 5
        assert again["metrics"] == whole["metrics"]
        prompts.clear()
        assert table_of(place, chat.url, **options)["metrics"] == whole["metrics"]
        assert not prompts


def test_what_failed_is_asked_again_by_the_same_command(place):
    def at_first_not(handler):
        if len(handler.chat.requests) <= 3:
            handler.send(b"", status=500)
        else:
            knowing(handler)

    with chat_server(at_first_not) as chat:
        options = {"captions": captions(place), "llm_parallel": 1}
        (row,) = table_of(place, chat.url, **options)["llm"]["rows"][PLAIN]
        # pictures of one colour are alike: each prompt is that of two questions
        assert row["failures"] == {"HTTP 500": 6}
        num_asked = len(chat.requests)
        report = table_of(place, chat.url, **options)
        assert len(chat.requests) == num_asked + 3
    assert report["metrics"][ROW]["accuracy"]["value"] == 100
    assert not [line for line in report["warnings"] if line.startswith("big gave")]


def test_the_report_records_what_answers_depend_on(place):
    with chat_server(knowing) as chat:
        url = chat.url.replace("http://", "http://me:password@")
        report = table_of(place, url, captions=captions(place))
    llm = report["llm"]
    assert llm["model"] == {
        "kind": "endpoint",
        "url": chat.url,
        "model": "big",
        "temperature": 0,
        "seed": 0,
        "max_tokens": 64,
    }
    assert llm["prompt"]["name"] == "short"
    assert len(llm["prompt"]["sha256"]) == 64
    assert set(llm["versions"]) <= {"httpx2", "httpx"}
    assert llm["captions"]["from"] == "file"
    assert llm["captions"]["num_without"] == 0
    assert report["options"]["llm_url"] == chat.url
    assert report["variant"] == "llm-big-captions"


def test_the_rendered_table_tells_how_many_answers_are_whose(place):
    with chat_server(knowing) as chat:
        parts = vqa_parts(table_of(place, chat.url, captions=captions(place)))
    assert any("big after vle/small: 12 of 12 answers are its own" in str(part) for part in parts)


def test_a_local_model_answers_offline(place, tmp_path):
    folder = write_language_model(tmp_path / "tiny")
    report = table_of(place, None, llm_model=None, llm=str(folder), llm_tokens=4)
    (row,) = report["llm"]["rows"][PLAIN]
    assert row["num_listed"] == 12
    assert report["llm"]["model"]["kind"] == "local"
    told = asked(place, llm=str(folder), llm_tokens=4)
    assert told.llm is not None
    assert told.llm["answer"] == "red"


def test_captions_may_be_written_by_a_model(place, tmp_path):
    folder = write_caption_model(tmp_path / "captioner")
    with chat_server(lambda handler: handler.say("no")) as chat:
        report = table_of(place, chat.url, caption_model=str(folder))
        asked(place, llm_url=chat.url, llm_model="big", caption_model=str(folder))
    assert all("Caption: Answer: red\n" in body["messages"][1]["content"] for body in chat.requests)
    assert report["llm"]["captions"]["model"]["kind"] == "caption model"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llm_prompt": "shrt"}, "no prompt named 'shrt'"),
        ({"llm_key_variable": "NO_SUCH_VARIABLE"}, "--llm-key-variable"),
        ({"llm_url": None, "llm_model": None, "llm": "no/such-model"}, "--llm: 'no/such-model'"),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_is_done(place, changes, message):
    fields = {"llm_url": "http://127.0.0.1:9/v1", "llm_model": "big", **changes}
    with pytest.raises(LightalignError, match=message):
        table_of(place, None, **fields)
    with pytest.raises(LightalignError, match=message):
        asked(place, **fields)


def test_images_without_a_caption_are_counted(place):
    path = place / "few.csv"
    path.write_text("image,caption\n12.png,all is red\n")
    with chat_server(lambda handler: handler.say("no")) as chat:
        report = table_of(place, chat.url, captions=path)
    assert report["llm"]["captions"]["num_without"] == 5
    assert "5 images have no caption: their prompts have none" in report["warnings"]
    assert sum("Caption: " in body["messages"][1]["content"] for body in chat.requests) == 2


def test_captions_of_other_images_are_refused(place, tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("image,caption\nother.png,a bus\n")
    with chat_server(knowing) as chat, pytest.raises(SpecError, match="has none of the images"):
        table_of(place, chat.url, captions=path)


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (VqaSpec, {"captions": "c.csv"}, "--captions is for a language model"),
        (AskSpec, {"caption": "a bus"}, "--caption is for a language model"),
        (AskSpec, {"caption": "a", "caption_model": "b", "llm": "c"}, "give one"),
        (VqaSpec, {"llm_parallel": 0}, "llm_parallel must be from 1 to 256"),
        (VqaSpec, {"llm_timeout": 0.0}, "llm_timeout must be above 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, spec, fields, message):
    if "captions" in fields:
        fields = {**fields, "captions": Path(fields["captions"])}
    if spec is AskSpec:
        fields = {**fields, "run": "r", "image": tmp_path, "question": "why"}
    with pytest.raises(SpecError, match=message):
        spec(home=tmp_path, **fields)
