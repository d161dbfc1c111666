"""Language model behind an address that speaks the chat protocol of OpenAI."""

import asyncio
import importlib
import json
import os
import re
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from importlib import metadata, util
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from typing_extensions import override

from ...featcache.documents import parse_json
from ...featcache.errors import MissingExtraError, SpecError, StoreCorruptError, one_line
from .base import MOST_CHARACTERS, LanguageModel, NoReplyError
from .options import LanguageOptions, require_address, shown_address
from .question_prompt import Messages

MOST_BYTES = 2**20  # of a reply with all that a server says around it
_CLIENTS = ("httpx2", "httpx")  # the former, of the same author, has no release for Python 3.10
_SEED = 0
_BUSY = {429, 503}  # statuses by which a server asks to come again later
_LONGEST_WAIT = 30.0  # seconds until it is asked again; of its own wish, too
_SHORTEST_KEY = 6  # letters; what is shorter, as `none` for local servers, is no secret
_THOUGHTS = re.compile(r"\A\s*<think>.*?(</think>|\Z)", re.DOTALL)


class ChatEndpoint(LanguageModel):
    """Model that a server runs; requests have temperature 0, one seed and no streaming.

    A request ends within its time-out whatever the server does, is sent to no other address, and
    is read up to 1 MiB. One that is answered by 429 or 503 is sent again within that time.

    Args:
        url: The address, up to `/v1`.
        model: Name of the model there.
        key: What is sent as the bearer, or None.
        max_tokens: Tokens of a reply, at most.
        timeout: Seconds of a request.
        parallel: Requests under way at once, at least 1.

    Raises:
        MissingExtraError: No client for HTTP is installed.
        SpecError: The address is none, or the key cannot be sent.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key: str | None,
        max_tokens: int,
        timeout: float,
        parallel: int,
    ) -> None:
        parts = require_address(url)
        address = shown_address(url).rstrip("/")
        self._address = address
        self._place = address.removesuffix("/chat/completions") + "/chat/completions"
        self._model = model
        self._max_tokens = max_tokens
        self._timeout = timeout
        self._client_name, self._http = _client()
        try:
            self._http.URL(self._place)
        except self._http.InvalidURL as error:
            raise SpecError(f"--llm-url {address} is no address: {one_line(error)}") from None
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        self._auth: tuple[str, str] | None = None
        if parts.username is not None:
            self._auth = (unquote(parts.username), unquote(parts.password or ""))
        elif key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        secrets = [key, None if self._auth is None else self._auth[1]]
        self._secrets = [text for text in secrets if text and len(text) >= _SHORTEST_KEY]
        self.parallel = parallel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Any = None  # of either library

    @classmethod
    def of(cls, options: LanguageOptions) -> "ChatEndpoint":
        """Return the endpoint that options name, with the key of the environment.

        Raises:
            MissingExtraError: No client for HTTP is installed.
            SpecError: A variable is named that is not there, or its key cannot be sent.
        """
        assert options.llm_url is not None
        assert options.llm_model is not None
        return cls(
            url=options.llm_url,
            model=options.llm_model,
            key=_key(options.llm_key_variable),
            max_tokens=options.llm_tokens,
            timeout=options.llm_timeout,
            parallel=options.llm_parallel,
        )

    @property
    @override
    def name(self) -> str:
        return self._model

    @property
    @override
    def identity(self) -> Mapping[str, Any]:
        return {
            "kind": "endpoint",
            "url": self._address,
            "model": self._model,
            "temperature": 0,
            "seed": _SEED,
            "max_tokens": self._max_tokens,
        }

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        return {self._client_name: metadata.version(self._client_name)}

    @override
    def __enter__(self) -> "ChatEndpoint":
        try:
            self._client = self._http.AsyncClient(
                timeout=None,  # that of a request as a whole counts
                follow_redirects=False,  # the key is for this address alone
                headers=self._headers,
                auth=self._auth,
                limits=self._http.Limits(max_connections=self.parallel),
            )
        except (ValueError, ImportError, self._http.InvalidURL):
            # not shown: a proxy may have a password
            raise SpecError(
                "the proxy that the environment names, as in HTTP_PROXY, cannot be used: unset it, "
                "or name the host of --llm-url in NO_PROXY"
            ) from None
        # a loop of its own thread: the caller's may be running already, as in a notebook
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = self._client = None

    async def _end(self) -> None:
        """End the requests that are under way, which nobody waits for any more."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    @override
    def reply(self, messages: Messages) -> str:
        assert self._loop is not None, "it is asked within its `with`"
        asked: Future[str] = asyncio.run_coroutine_threadsafe(self._asked(messages), self._loop)
        try:
            text = asked.result()
        except CancelledError as error:
            raise NoReplyError("stopped") from error
        for secret in self._secrets:  # of a server that sends back what it was sent
            text = text.replace(secret, "[key]")
        return text

    async def _asked(self, messages: Messages) -> str:
        body = json.dumps(
            {
                "model": self._model,
                "messages": messages,
                "temperature": 0,
                "seed": _SEED,
                "max_tokens": self._max_tokens,
                "stream": False,
            }
        ).encode()
        last_status: list[int] = []
        try:
            return await asyncio.wait_for(self._until_served(body, last_status), self._timeout)
        except asyncio.TimeoutError as error:
            reason = f"HTTP {last_status[-1]}" if last_status else "time-out"
            raise NoReplyError(reason) from error
        except self._http.HTTPError as error:  # of the connection
            raise NoReplyError(_reason(error)) from None  # its request has the key
        except UnicodeError:  # of a host whose name no resolver takes
            raise NoReplyError("cannot be reached") from None

    async def _until_served(self, body: bytes, last_status: list[int]) -> str:
        wait = 1.0
        while True:
            async with self._client.stream("POST", self._place, content=body) as response:
                if response.status_code not in _BUSY:
                    return _text_of(await _content(response))
                last_status.append(response.status_code)
                asked_for = response.headers.get("Retry-After", "")
            seconds = float(asked_for) if asked_for.isdecimal() else wait
            await asyncio.sleep(min(seconds, _LONGEST_WAIT))
            wait *= 2


async def _content(response: Any) -> bytes:
    """Return the body of a response, of which no more is read than may be.

    Raises:
        NoReplyError: It is none of success, too large, compressed or a stream of events.
    """
    if response.status_code != 200:
        raise NoReplyError(f"HTTP {response.status_code}")
    if "event-stream" in response.headers.get("Content-Type", ""):
        raise NoReplyError("a stream of events")
    content = bytearray()
    # as it comes: what is unpacked would have no bound
    async for part in response.aiter_raw():
        content += part
        if len(content) > MOST_BYTES:
            raise NoReplyError("more than 1 MiB")
    return bytes(content)


def _text_of(content: bytes) -> str:
    """Return the text of the first choice, without the thoughts that some models write before it.

    Raises:
        NoReplyError: There is none.
    """
    try:
        document = parse_json(content.decode("utf-8"), where="the reply")
    except (UnicodeDecodeError, StoreCorruptError):
        raise NoReplyError("no JSON") from None
    try:
        text = document["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        raise NoReplyError("no chat reply") from None
    if text is not None and not isinstance(text, str):
        raise NoReplyError("no chat reply")
    return spoken(text or "")


def spoken(text: str) -> str:
    """Return what a model says, without the thoughts that it wrote down before.

    >>> spoken("<think>A bus is red.</think> red ")
    'red'

    Raises:
        NoReplyError: It says nothing.
    """
    said = _THOUGHTS.sub("", text).strip()[:MOST_CHARACTERS]
    if not said:
        raise NoReplyError("empty")
    return said


def _reason(error: Exception) -> str:
    """Return why there is no reply, by the kind of an error: its text may hold an address."""
    kind = type(error).__name__
    return "cannot be reached" if kind.startswith("Connect") else f"connection lost ({kind})"


def _client() -> tuple[str, Any]:
    """Return the name of the client for HTTP that is installed, and its module.

    Raises:
        MissingExtraError: There is none.
    """
    name = next((name for name in _CLIENTS if util.find_spec(name) is not None), None)
    if name is None:
        raise MissingExtraError('--llm-url needs httpx2: `pip install "lightalign[llm]"`')
    return name, importlib.import_module(name)


def _key(variable: str) -> str | None:
    """Return the key in a variable of the environment, or None where the usual one is not there.

    Raises:
        SpecError: Another one is not there, or holds what no header can.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        if variable != LanguageOptions.llm_key_variable:
            raise SpecError(
                "the environment has no variable of the name that --llm-key-variable gives, or it "
                "is empty: name the variable that holds the key, not the key"
            )
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise SpecError(
            f"the key in {variable} has characters that no header holds: set the variable anew"
        )
    return key
