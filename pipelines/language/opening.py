"""Open the language model and the prompt that options name."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...featcache.hardware import resolve_device
from .base import LanguageModel
from .options import LanguageOptions
from .question_prompt import QuestionPrompt, read_question_prompt


@dataclass(frozen=True)
class PromptedModel:
    """Language model, and how it is asked."""

    model: LanguageModel
    prompt: QuestionPrompt


def require_language_model(options: LanguageOptions) -> None:
    """Pass if prompt and model are there, before much else is done; no model is loaded for it.

    Raises:
        LightalignError: They are not; see `open_language_model`.
    """
    read_question_prompt(options.llm_prompt)
    if options.llm_url is not None:
        _endpoint(options)
    # heavy, and of no use to an address
    from .model_folder import find_model

    if options.llm is not None:
        find_model(options.llm, option="--llm")
    if options.caption_model is not None:
        find_model(options.caption_model, option="--caption-model")


@contextmanager
def open_language_model(options: LanguageOptions, *, device: str) -> Iterator[PromptedModel]:
    """Open the language model and the prompt that options name.

    Args:
        options: Options that name a model.
        device: `auto`, `cpu` or `cuda`, of a model on this machine.

    Raises:
        LightalignError: They cannot be opened; see `ChatEndpoint`, `LocalModel` and
            `read_question_prompt`.
    """
    prompt = read_question_prompt(options.llm_prompt)
    model = _endpoint(options) if options.llm_url is not None else _local(options, device)
    with model:
        yield PromptedModel(model, prompt)


def _endpoint(options: LanguageOptions) -> LanguageModel:
    from .chat_endpoint import ChatEndpoint

    return ChatEndpoint.of(options)


def _local(options: LanguageOptions, device: str) -> LanguageModel:
    from .local_model import LocalModel

    return LocalModel.of(options, device=resolve_device(device))
