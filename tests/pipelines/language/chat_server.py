"""A server on this machine that speaks the chat protocol, or whatever a test has it say."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret-0123456789"
Answering = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that went away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answering: Answering
    chat: "Chat"
    body: dict[str, Any]

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.chat.lock:
            self.chat.requests.append(self.body)
            self.chat.headers.append(dict(self.headers))
            self.chat.paths.append(self.path)
            self.chat.under_way += 1
            self.chat.most_at_once = max(self.chat.most_at_once, self.chat.under_way)
        try:
            type(self).answering(self)
        finally:
            with self.chat.lock:
                self.chat.under_way -= 1

    def send(self, content: bytes, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def say(self, text: str | None) -> None:
        self.send(said(text))

    @property
    def user(self) -> str:
        """Return the last message."""
        return self.body["messages"][-1]["content"]

    def log_message(self, *_: Any) -> None:
        """Keep standard error for the tests."""


@dataclass
class Chat:
    """What a server was asked.

    Attributes:
        url: Address up to `/v1`.
        requests: Bodies.
        headers: Headers of each.
        paths: Path of each.
        most_at_once: Requests that were under way at the same time.
    """

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    most_at_once: int = 0
    under_way: int = 0
    lock: Any = field(default_factory=threading.Lock)


def said(text: str | None) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@contextmanager
def chat_server(answering: Answering) -> Iterator[Chat]:
    """Serve on a free port of this machine."""
    handler = type("Bound", (Handler,), {"answering": staticmethod(answering)})
    server = Server(("127.0.0.1", 0), handler)
    chat = Chat(f"http://127.0.0.1:{server.server_port}/v1")
    handler.chat = chat
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def drip(handler: Handler, content: bytes) -> None:
    """Send a byte every twentieth of a second, for ever: no read ever waits long."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(10**9))
    handler.end_headers()
    while True:
        handler.wfile.write(content[:1])
        handler.wfile.flush()
        time.sleep(0.05)


def drip_header(handler: Handler) -> None:
    """Never come to the end of the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-More: 1\r\n")
        handler.wfile.flush()
        time.sleep(0.05)
