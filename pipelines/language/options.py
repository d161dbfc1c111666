"""Options of a verb that may ask a language model; nothing here imports torch."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from ...featcache.errors import SpecError
from ...featcache.settings import Setting

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BESIDE = ("caption", "captions", "caption_model")  # of no use without a model


@dataclass(frozen=True, kw_only=True)
class LanguageOptions:
    """Options of a language model that answers beside an adapter; without one nothing is asked.

    Attributes:
        llm_url: Address of a server that speaks the protocol of OpenAI, up to `/v1`. A user name
            and a password in it are sent, and written nowhere.
        llm_model: Model at that address.
        llm: Folder or hub name of a causal language model that replies on this machine.
        llm_key_variable: Name of the environment variable that holds the key of the address;
            without the variable none is sent.
        llm_prompt: Name of a prompt, or its TOML file.
        llm_candidates: Answers of the adapter that the prompt proposes.
        llm_tokens: Tokens of a reply, at most.
        llm_timeout: Seconds that one reply may take.
        llm_parallel: Questions that the address is asked at once.
        caption_model: Folder or hub name of a model that writes a caption of an image.
    """

    llm_url: Annotated[
        str | None,
        Setting("Address of an OpenAI-compatible server, such as http://localhost:8000/v1."),
    ] = field(default=None, repr=False)  # it may hold a password
    llm_model: Annotated[str | None, Setting("Model at that address.")] = None
    llm: Annotated[
        str | None, Setting("Folder or hub name of a causal language model that runs here.")
    ] = None
    llm_key_variable: Annotated[
        str, Setting("Name of the environment variable that holds the key of the address.")
    ] = field(default="OPENAI_API_KEY", repr=False)  # who mistakes it gives the key itself
    llm_prompt: Annotated[
        str, Setting("Prompt: a name of `list question-prompts` or FILE.toml.")
    ] = "short"
    llm_candidates: Annotated[int, Setting("Answers that it proposes.", least=1, most=1000)] = 5
    llm_tokens: Annotated[int, Setting("Tokens of a reply, at most.", least=1, most=65_536)] = 64
    llm_timeout: Annotated[
        float, Setting("Seconds that a reply may take.", above=0, most=86_400)
    ] = 60.0
    llm_parallel: Annotated[
        int, Setting("Questions that the address is asked at once.", least=1, most=256)
    ] = 4
    caption_model: Annotated[
        str | None, Setting("Folder or hub name of a model that writes captions of images.")
    ] = None

    @property
    def asks_language_model(self) -> bool:
        """Return whether a language model is asked at all."""
        return self.llm_url is not None or self.llm is not None

    def check_language(self) -> None:
        """Pass if these options go together.

        Raises:
            SpecError: They do not, or the address is none; what may be secret is not shown.
        """
        if self.llm_url is not None:
            if self.llm is not None:
                raise SpecError("--llm-url asks a server and --llm a model here: name one of them")
            require_address(self.llm_url)
            if not (self.llm_model or "").strip():
                raise SpecError("--llm-url needs the name of a model there: add --llm-model")
        elif self.llm_model is not None:
            raise SpecError("--llm-model is a model of a server: add the address by --llm-url")
        if not _VARIABLE.fullmatch(self.llm_key_variable):
            raise SpecError(
                "--llm-key-variable takes the name of an environment variable, such as "
                "OPENAI_API_KEY; what was given is no such name, and not shown as it may be the key"
            )
        without_use = [name for name in _BESIDE if getattr(self, name, None) is not None]
        if without_use and not self.asks_language_model:
            flag = f"--{without_use[0].replace('_', '-')}"
            raise SpecError(f"{flag} is for a language model: add --llm-url or --llm")

    def language_table(self) -> dict[str, Any]:
        """Return the options on which replies depend, as JSON values; nothing without a model."""
        if not self.asks_language_model:
            return {}
        return {
            "llm_url": None if self.llm_url is None else shown_address(self.llm_url),
            "llm_model": self.llm_model,
            "llm": self.llm,
            "llm_prompt": self.llm_prompt,
            "llm_candidates": self.llm_candidates,
            "llm_tokens": self.llm_tokens,
            "llm_timeout": self.llm_timeout,
            "caption_model": self.caption_model,
        }


def require_address(url: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        SpecError: It is none, or has a query, in which servers want keys that programs log.
    """
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_whole = False
    if not is_whole or any(character.isspace() or not character.isprintable() for character in url):
        raise SpecError(
            "--llm-url takes an address, such as http://localhost:8000/v1; what was given is none, "
            "and not shown as it may hold a password"
        )
    if parts.query or parts.fragment:
        raise SpecError(
            f"--llm-url {shown_address(url)} is followed by a query: leave it out, a key comes "
            "from the variable of --llm-key-variable"
        )
    return parts


def shown_address(url: str) -> str:
    """Return an address without user, password and query.

    >>> shown_address("https://me:secret@example.org:8000/v1?key=1")
    'https://example.org:8000/v1'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
