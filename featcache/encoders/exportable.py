"""Frozen encoders for use elsewhere: a model on tensors alone, and the files beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

ATTENTION_MASK = "attention_mask"  # the input that says which tokens of a text are real


class ModelCall(nn.Module):
    """Run a function of tensors, which gives [batch, tokens, width], and own the models in it."""

    def __init__(self, call: Callable[..., Tensor], *models: nn.Module) -> None:
        super().__init__()
        self._call = call
        self.models = nn.ModuleList(models)
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the features."""
        return self._call(*inputs)


@dataclass(frozen=True, kw_only=True)
class ExportableEncoder:
    """One layer of a frozen encoder, on the CPU in float32, with the files that it needs elsewhere.

    Attributes:
        model: Takes the inputs in order and returns the features, [batch, tokens, width]. An input
            called `attention_mask` is 1 where a token is real, else all tokens are.
        axes: By name of an input, in order, the names of its axes that may have any length.
        collate: Returns the inputs of what the encoder has prepared, in order.
        files: Texts that are needed beside the model, by file name, such as `tokenizer.json`.
        transformers_folder: Hub directory in which transformers finds the same model, so that its
            last hidden state is the features, or None.
        max_tokens: Tokens that a text is cut to; None for images.
    """

    model: nn.Module
    axes: Mapping[str, Mapping[int, str]]
    collate: Callable[[Sequence[Any]], tuple[Tensor, ...]]
    files: Mapping[str, str] = field(default_factory=dict)
    transformers_folder: Path | None = None
    max_tokens: int | None = None
