"""Causal language model of transformers that replies on this machine, by greedy search."""

import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jinja2
import torch
import transformers
from typing_extensions import override

from ...featcache.encoders.backends._checks import LIBRARY_ERRORS
from ...featcache.encoders.backends._transformers import quiet
from .base import LanguageModel, NoReplyError
from .chat_endpoint import spoken
from .model_folder import (
    find_model,
    greedy,
    hash_of_folder,
    load_generator,
    read,
    recorded_name,
)
from .options import LanguageOptions
from .question_prompt import Messages

_OPTION = "--llm"


class LocalModel(LanguageModel):
    """Language model on a device.

    Messages are put as its tokenizer's chat template does, or one below the other, with an empty
    line between them, where it has none. Each is read alone, so that no reply depends on another.

    Args:
        name: Folder of the model, or the name of a hub repository.
        device: Where it computes.
        max_tokens: Tokens of a reply, at most.
        timeout: Seconds of a reply; one that takes longer is none.

    Raises:
        WeightsNotFoundError: There is no such model.
        WeightsMismatchError: It cannot be read, or is no causal language model.
    """

    parallel = 0

    def __init__(self, name: str, *, device: torch.device, max_tokens: int, timeout: float) -> None:
        folder = find_model(name, option=_OPTION)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

        def load() -> Any:
            return transformers.AutoTokenizer.from_pretrained(folder, **options)

        self._tokenizer = read(load, folder, option=_OPTION)
        self._model = load_generator(
            transformers.AutoModelForCausalLM, folder, option=_OPTION, device=device
        )
        self._device = device
        self._max_tokens = max_tokens
        self._timeout = timeout
        self._options = greedy(self._model, max_tokens=max_tokens, seconds=timeout)
        self._identity = {
            "kind": "local",
            "model": recorded_name(name, folder),
            "files_sha256": hash_of_folder(folder),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": device.type,
            "max_tokens": max_tokens,
        }

    @classmethod
    def of(cls, options: LanguageOptions, *, device: torch.device) -> "LocalModel":
        """Return the model that options name; errors are those of the class."""
        assert options.llm is not None
        return cls(
            options.llm,
            device=device,
            max_tokens=options.llm_tokens,
            timeout=options.llm_timeout,
        )

    @property
    @override
    def name(self) -> str:
        return str(self._identity["model"])

    @property
    @override
    def identity(self) -> Mapping[str, Any]:
        return self._identity

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        return {name: metadata.version(name) for name in ("torch", "transformers")}

    @override
    @torch.inference_mode()
    def reply(self, messages: Messages) -> str:
        ids = self._ids(messages)
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and ids.shape[1] + self._max_tokens > longest:
            raise NoReplyError("prompt too long")
        began = time.monotonic()
        with quiet():
            try:
                generated = self._model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=self._options,
                )
            except LIBRARY_ERRORS as error:  # of a device without memory among them
                raise NoReplyError(f"failed ({type(error).__name__})") from error
        new = generated[0, ids.shape[1] :]
        # what the clock cuts off would be another reply on a faster machine
        if time.monotonic() - began >= self._timeout and len(new) < self._max_tokens:
            raise NoReplyError("time-out")
        return spoken(self._tokenizer.decode(new, skip_special_tokens=True))

    def _ids(self, messages: Messages) -> torch.Tensor:
        """Return the tokens of messages, one row."""
        try:
            tokens = self._tokenizer(
                self._text(messages),
                add_special_tokens=not self._tokenizer.chat_template,  # the template has its own
                return_tensors="pt",
            )
        except LIBRARY_ERRORS as error:
            raise NoReplyError("prompt not readable") from error
        ids: torch.Tensor = tokens["input_ids"].to(self._device)
        if not ids.shape[1]:
            raise NoReplyError("prompt not readable")
        return ids

    def _text(self, messages: Messages) -> str:
        """Return messages as one text."""
        joined = "\n\n".join(message["content"] for message in messages)
        if not self._tokenizer.chat_template:
            return joined
        try:
            return self._in_chat(messages)
        except jinja2.TemplateError:  # of models that know no instruction: it comes first
            return self._in_chat([{"role": "user", "content": joined}])

    def _in_chat(self, messages: Messages) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text
