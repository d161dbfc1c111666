"""Request and report of one question about an image. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, EncoderWeights, Home
from ..language.options import LanguageOptions


@dataclass(frozen=True, kw_only=True)
class AskSpec(LanguageOptions):
    """Settings of one question about an image, and of a language model that is asked, too.

    Attributes:
        run: Name or folder of a finished run with the head `answers`.
        image: File with the image.
        question: The question.
        top_k: Answers that are told.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
        caption: What the language model is told of the image.
    """

    home: Home
    run: Annotated[str, Setting("Run that answers questions.", argument=True, needed=True)]
    image: Annotated[Path, Setting("File with the image.", argument=True, needed=True)]
    question: Annotated[str, Setting("Question about it.", argument=True, needed=True)]
    top_k: Annotated[int, Setting("Answers to tell.", least=1, most=100_000)] = 5
    weights: EncoderWeights = None
    device: Device = "auto"
    caption: Annotated[str | None, Setting("Caption that a language model is told.")] = None

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_language()
        if self.caption is not None and self.caption_model is not None:
            raise SpecError("--caption is a caption, and --caption-model writes one: give one")
        check_question(self.question)


def check_question(question: str) -> None:
    """Refuse an empty question.

    Raises:
        SpecError: It is empty.
    """
    if not question.strip():
        raise SpecError("the question is empty: ask something, such as 'what is on the table?'")


@dataclass(frozen=True, kw_only=True)
class AskReport:
    """Answers to one question.

    Attributes:
        run: Name of the run.
        question: The question.
        image: The file.
        answers: Answers with their probabilities, the most probable first.
        calibrated: Whether the probabilities have the temperature of a validation.
        temperature: What logits were divided by.
        warnings: What to know before they are believed.
        seconds: Time of each part: `open` of the run and its encoders, `read`; of `ask` alone.
        llm: What a language model made of them, or None where none was asked: its `answer`, in the
            spelling of the list where `is_listed`, `caption`, `prompt`, and what it is; `failure`
            says why the answer is the plain one.
    """

    run: str
    question: str
    image: str
    answers: list[Mapping[str, Any]]
    calibrated: bool
    temperature: float
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    llm: Mapping[str, Any] | None = None

    def table(self) -> dict[str, Any]:
        """Return it as JSON values; of a language model only where one was asked."""
        return {name: value for name, value in vars(self).items() if value is not None}
