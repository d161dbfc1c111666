"""The contract of a language model: messages in, a reply out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from .question_prompt import Messages

MOST_CHARACTERS = 10_000  # of a reply that is kept; an answer has a few words


class NoReplyError(Exception):
    """Report that one question got no reply; it is counted, and never ends a command.

    Args:
        reason: Why, in a few words without anything that a server has sent.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LanguageModel(ABC):
    """Model that replies to messages; what it holds is given back at the end of a `with`.

    Attributes:
        parallel: Messages that may be under way at once; 0 where it replies in the caller's thread.
    """

    parallel: int

    @property
    @abstractmethod
    def name(self) -> str:
        """Return what messages and tables call it."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return all that its replies depend on, as JSON values, and nothing that is secret."""

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Return the versions of the libraries by which it is asked."""

    @abstractmethod
    def reply(self, messages: Messages) -> str:
        """Return the reply to some messages; it may be called from several threads.

        Raises:
            NoReplyError: There is none.
        """

    def __enter__(self) -> "LanguageModel":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
