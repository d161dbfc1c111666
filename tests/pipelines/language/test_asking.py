"""Many questions to a language model: each once, so many at a time, and failures counted."""

import time

import pytest

from lightalign.pipelines.common import stopping
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.language.asking import GIVES_UP, Replies, ask_all, joined
from lightalign.pipelines.language.base import LanguageModel, NoReplyError
from lightalign.pipelines.language.chat_endpoint import ChatEndpoint
from lightalign.pipelines.language.kept_replies import KeptReplies

from .chat_server import chat_server


class Parrot(LanguageModel):
    """Say the last word of what is asked; of `fail` nothing."""

    parallel = 0

    def __init__(self, **options):
        self.options = options
        self.asked = []

    @property
    def name(self):
        return "parrot"

    @property
    def identity(self):
        return {"kind": "parrot", **self.options}

    @property
    def versions(self):
        return {"parrot": "1"}

    def reply(self, messages):
        text = messages[-1]["content"]
        self.asked.append(text)
        if text.startswith("fail"):
            raise NoReplyError(text.removeprefix("fail "))
        return text.split()[-1]


class Counted(Progress):
    def __init__(self):
        self.events = []

    def start(self, label, total, *, unit, done=0):
        self.events.append((label, total, unit, done))

    def advance(self, count):
        self.events.append(count)

    def finish(self):
        self.events.append("finish")


def prompts(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def test_replies_stand_in_the_order_of_the_questions_and_failures_are_counted():
    replies = ask_all(Parrot(), prompts("is red", "fail HTTP 500", "is blue", "fail time-out"))
    assert replies.texts == ["red", None, "blue", None]
    assert replies.failures == {"HTTP 500": 1, "time-out": 1}
    warning = replies.warning("parrot")
    assert warning is not None
    assert warning.startswith(
        "parrot gave no answer to 2 of 4 questions (1 HTTP 500, 1 time-out): the plain answer"
    )
    assert "\n" not in warning


def test_without_a_failure_there_is_no_warning():
    assert ask_all(Parrot(), prompts("is red")).warning("parrot") is None
    assert ask_all(Parrot(), []).texts == []


def test_equal_questions_are_asked_once():
    parrot = Parrot()
    replies = ask_all(parrot, prompts("is red", "is blue", "is red", "fail x", "fail x"))
    assert replies.texts == ["red", "blue", "red", None, None]
    assert parrot.asked == ["is red", "is blue", "fail x"]
    assert replies.failures == {"x": 2}


def test_what_was_replied_is_not_asked_again_and_what_failed_is(tmp_path):
    place = tmp_path / "kept.jsonl"
    with KeptReplies(place) as kept:
        ask_all(Parrot(), prompts("is red", "fail HTTP 500"), kept)
    again, progress = Parrot(), Counted()
    with KeptReplies(place) as kept:
        replies = ask_all(again, prompts("is red", "fail HTTP 500", "is blue"), kept, progress)
    assert again.asked == ["fail HTTP 500", "is blue"]
    assert replies.num_kept == 1
    assert progress.events == [("ask parrot", 3, "prompts", 1), 1, 1, "finish"]


def test_who_stops_it_is_told_that_replies_are_kept(tmp_path):
    class Stopped(Parrot):
        def reply(self, messages):
            raise KeyboardInterrupt

    stopping.begin()
    with pytest.raises(KeyboardInterrupt):
        ask_all(Stopped(), prompts("is red"))
    assert stopping.kept() == "nothing is kept"
    with KeptReplies(tmp_path / "kept.jsonl") as kept, pytest.raises(KeyboardInterrupt):
        ask_all(Stopped(), prompts("is red"), kept)
    assert stopping.kept() == "replies are kept: run the same command to go on"
    stopping.begin()


def test_another_model_or_other_options_are_asked_anew(tmp_path):
    with KeptReplies(tmp_path / "kept.jsonl") as kept:
        ask_all(Parrot(), prompts("is red"), kept)
        other = Parrot(max_tokens=8)
        ask_all(other, prompts("is red"), kept)
    assert other.asked == ["is red"]


def test_after_ten_failures_in_a_row_nobody_is_asked_any_more():
    parrot = Parrot()
    texts = ["is red", *(f"fail cannot be reached{' ' * n}" for n in range(30))]
    replies = ask_all(parrot, prompts(*texts))
    assert len(parrot.asked) == 1 + GIVES_UP
    assert replies.failures["not asked any more"] == 30 - GIVES_UP
    assert replies.texts[0] == "red"


def test_failures_apart_from_one_another_do_not_end_it():
    texts = [f"fail {n}" if n % 2 else f"is {n}" for n in range(60)]
    assert "not asked any more" not in ask_all(Parrot(), prompts(*texts)).failures


def test_several_lists_are_counted_together():
    both = joined([Replies(["red", None], {"x": 1}, 1), Replies([None], {"x": 1}, 0)])
    assert both == Replies(["red", None, None], {"x": 2}, 1)


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_no_more_requests_are_under_way_than_asked_for():
    def answering(handler):
        time.sleep(0.05)
        handler.say(handler.user)

    with chat_server(answering) as chat:
        model = ChatEndpoint(
            url=chat.url, model="m", key=None, max_tokens=8, timeout=10.0, parallel=3
        )
        with model:
            texts = [f"number {n}" for n in range(12)]
            assert ask_all(model, prompts(*texts)).texts == texts
    assert chat.most_at_once == 3
