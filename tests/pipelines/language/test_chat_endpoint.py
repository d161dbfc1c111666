"""A language model behind an address: what is sent, and what becomes of every kind of failure."""

import gzip
import json
import socket
import threading
import time

import pytest

from lightalign.featcache.errors import MissingExtraError, SpecError
from lightalign.pipelines.language import chat_endpoint
from lightalign.pipelines.language.base import NoReplyError
from lightalign.pipelines.language.chat_endpoint import ChatEndpoint, spoken
from lightalign.pipelines.language.options import LanguageOptions

from .chat_server import KEY, chat_server, drip, drip_header, said

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
ASKED = [{"role": "user", "content": "what colour?"}]


def endpoint(url, **changes):
    fields = {"model": "m", "key": None, "max_tokens": 64, "timeout": 5.0, "parallel": 2}
    return ChatEndpoint(url=url, **{**fields, **changes})


def reply_of(answering, **changes):
    with chat_server(answering) as chat, endpoint(chat.url, **changes) as model:
        return model.reply(ASKED)


def reason_of(answering, **changes):
    with pytest.raises(NoReplyError) as caught:
        reply_of(answering, **changes)
    return caught.value.reason


def test_a_request_is_the_messages_at_temperature_0_with_a_seed_and_no_stream():
    red = lambda handler: handler.say("red")  # noqa: E731
    with chat_server(red) as chat, endpoint(chat.url, key=KEY) as model:
        assert model.reply(ASKED) == "red"
    assert chat.requests == [
        {
            "model": "m",
            "messages": ASKED,
            "temperature": 0,
            "seed": 0,
            "max_tokens": 64,
            "stream": False,
        }
    ]
    assert chat.paths == ["/v1/chat/completions"]
    assert chat.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_the_whole_path_may_be_given_too():
    red = lambda handler: handler.say("red")  # noqa: E731
    with chat_server(red) as chat, endpoint(f"{chat.url}/chat/completions") as model:
        model.reply(ASKED)
    assert chat.paths == ["/v1/chat/completions"]


def test_without_a_key_none_is_sent():
    with chat_server(lambda handler: handler.say("red")) as chat, endpoint(chat.url) as model:
        model.reply(ASKED)
    assert "Authorization" not in chat.headers[0]


def test_user_and_password_of_an_address_are_sent_and_not_shown():
    with chat_server(lambda handler: handler.say("red")) as chat:
        url = chat.url.replace("http://", f"http://me:{KEY}@")
        with endpoint(url) as model:
            model.reply(ASKED)
            assert KEY not in f"{model.identity} {model!r} {model.name}"
            assert model.identity["url"] == chat.url
    assert chat.headers[0]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("answering", "reason"),
    [
        (lambda handler: handler.send(b"oh", status=500), "HTTP 500"),
        (lambda handler: handler.send(b"no", status=401), "HTTP 401"),
        (
            lambda handler: handler.send(b"", status=307, Location="http://127.0.0.1:9/"),
            "HTTP 307",
        ),
        (lambda handler: handler.send(b"\xff\x00garbage"), "no JSON"),
        (lambda handler: handler.send(b"[" * 100_000), "no JSON"),
        (lambda handler: handler.send(b"[]"), "no chat reply"),
        (lambda handler: handler.send(b'{"choices": []}'), "no chat reply"),
        (lambda handler: handler.send(b'{"choices": [{"message": "red"}]}'), "no chat reply"),
        (lambda handler: handler.send(said("x").replace(b'"x"', b"[1]")), "no chat reply"),
        (lambda handler: handler.say(""), "empty"),
        (lambda handler: handler.say(None), "empty"),
        (lambda handler: handler.say("<think>it never ends"), "empty"),
        (lambda handler: handler.say("red" * 4_000_000), "more than 1 MiB"),
        (lambda handler: handler.send(gzip.compress(said("red"))), "no JSON"),
        (
            lambda handler: handler.send(b"data: {}\n\n", Content_Type="text/event-stream"),
            "a stream of events",
        ),
        (
            lambda handler: setattr(handler, "close_connection", True),
            "connection lost (RemoteProtocolError)",
        ),
    ],
)
def test_a_failure_is_a_short_reason(answering, reason):
    assert reason_of(answering) == reason


@pytest.mark.parametrize(
    "answering",
    [
        lambda handler: time.sleep(30),
        lambda handler: drip(handler, b" "),
        drip_header,
    ],
    ids=["silent", "one byte after another", "one header after another"],
)
def test_a_request_ends_within_its_time(answering):
    began = time.monotonic()
    assert reason_of(answering, timeout=0.3) == "time-out"
    assert time.monotonic() - began < 10


def test_no_more_is_read_of_an_endless_answer_than_may_be():
    def answering(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    assert reason_of(answering) == "more than 1 MiB"


def test_nobody_at_the_address_is_a_reason():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    lost = pytest.raises(NoReplyError, match="cannot be reached")
    with endpoint(f"http://127.0.0.1:{port}/v1") as model, lost:
        model.reply(ASKED)


@pytest.mark.parametrize("host", ["a" * 100, "xn--" + "a" * 100, "127.0.0.1.invalid"])
def test_a_host_that_nobody_knows_is_a_reason(host):
    lost = pytest.raises(NoReplyError, match="cannot be reached")
    with endpoint(f"http://{host}/v1") as model, lost:
        model.reply(ASKED)


@pytest.mark.parametrize("proxy", [f"me:{KEY}@nowhere:port", f"ftp://me:{KEY}@nowhere"])
def test_a_proxy_that_is_none_is_refused_without_showing_it(monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(SpecError, match="HTTP_PROXY, cannot be used") as caught:
        endpoint("http://127.0.0.1:9/v1").__enter__()
    assert KEY not in str(caught.value)


def test_a_busy_server_is_asked_again_within_the_time():
    def answering(handler):
        if len(handler.chat.requests) < 3:
            handler.send(b"", status=429, Retry_After="0")
        else:
            handler.say("red")

    assert reply_of(answering) == "red"


def test_a_server_that_stays_busy_is_told_by_its_status():
    busy = lambda handler: handler.send(b"", status=503)  # noqa: E731
    assert reason_of(busy, timeout=3.0) == "HTTP 503"


def test_the_end_does_not_wait_for_what_is_under_way():
    with chat_server(lambda handler: time.sleep(30)) as chat:
        began = time.monotonic()
        with endpoint(chat.url, timeout=60.0) as model:
            failures = []

            def ask():
                try:
                    model.reply(ASKED)
                except NoReplyError as error:
                    failures.append(error.reason)

            thread = threading.Thread(target=ask)
            thread.start()
            while not chat.requests:
                time.sleep(0.01)
        thread.join()
    assert failures == ["stopped"]
    assert time.monotonic() - began < 10


def test_a_key_that_comes_back_is_taken_out():
    echo = lambda handler: handler.say(handler.headers["Authorization"])  # noqa: E731
    assert reply_of(echo, key=KEY) == "Bearer [key]"


def test_thoughts_are_no_part_of_a_reply():
    assert spoken("<think>\nred or blue?</think>\n\n blue ") == "blue"
    with pytest.raises(NoReplyError):
        spoken(" \n")


def options(**changes):
    return LanguageOptions(**{"llm_url": "http://127.0.0.1:1/v1", "llm_model": "m", **changes})


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "Authorization" not in ChatEndpoint.of(options())._headers
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert ChatEndpoint.of(options())._headers["Authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("MINE", "other-key")
    named = ChatEndpoint.of(options(llm_key_variable="MINE"))
    assert named._headers["Authorization"] == "Bearer other-key"


def test_a_key_in_the_place_of_its_variable_is_not_shown():
    def opened(given):
        asked = options(llm_key_variable=given)
        assert given not in repr(asked)
        asked.check_language()
        return ChatEndpoint.of(asked)

    for given in (KEY, "abcdef0123456789"):
        with pytest.raises(SpecError, match="--llm-key-variable") as caught:
            opened(given)
        assert given not in str(caught.value)


def test_a_key_that_no_header_holds_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "ab\ncdéf")
    with pytest.raises(SpecError, match="no header holds") as caught:
        ChatEndpoint.of(options())
    assert "cd" not in str(caught.value)


def test_without_a_client_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(chat_endpoint, "_CLIENTS", ("no_such_client",))
    with pytest.raises(MissingExtraError, match=r"lightalign\[llm\]"):
        endpoint("http://127.0.0.1:1/v1")


def test_the_client_of_older_python_is_taken_where_the_newer_is_not_there(monkeypatch):
    pytest.importorskip("httpx2")  # which stands in for it
    monkeypatch.setattr(chat_endpoint, "_CLIENTS", ("no_such_client", "httpx2"))
    assert set(endpoint("http://127.0.0.1:1/v1").versions) == {"httpx2"}


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://a/v1", "http://", "http://a:b/v1", "http://a b/v1", "file:///x"],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(SpecError, match="--llm-url takes an address"):
        options(llm_url=url).check_language()


def test_an_address_with_a_query_is_refused_without_showing_it():
    with pytest.raises(SpecError, match="http://a/v1 is followed by a query") as caught:
        options(llm_url=f"http://me:{KEY}@a/v1?key={KEY}").check_language()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llm": "folder"}, "name one of them"),
        ({"llm_model": None}, "add --llm-model"),
        ({"llm_model": " "}, "add --llm-model"),
        ({"llm_url": None}, "add the address by --llm-url"),
        ({"llm_url": None, "llm_model": None, "caption_model": "c"}, "--caption-model is for"),
    ],
)
def test_options_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        options(**changes).check_language()


def test_a_password_is_in_no_repr_and_in_no_table():
    asked = options(llm_url=f"http://me:{KEY}@a/v1")
    assert KEY not in repr(asked)
    assert KEY not in json.dumps(asked.language_table())
