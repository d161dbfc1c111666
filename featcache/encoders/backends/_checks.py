"""Checks of pretrained weights in every backend: their hash, and comparison with the card."""

import hashlib
import pickle
import re
from collections.abc import Collection, Mapping

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...errors import WeightsMismatchError
from ..card import EncoderCard

NO_CLASS_TOKEN = "No class token: one vector an image is its mean."  # note of derived cards
# As timm and transformers call them; `cls_token_0` where a model has several.
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")

# What libraries raise of files that they cannot read, and of models that they cannot build or run.
LIBRARY_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    LookupError,
    AssertionError,
    ImportError,
    SafetensorError,
    pickle.PickleError,
)
_LONGEST_REASON = 300  # letters of a library's message; some list every model there is
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # bold letters in messages of torch


def hash_state(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the sorted names, dtypes, shapes and bytes of `state`.

    The same values have the same hash in whatever file they came.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_keys(
    card: EncoderCard, origin: str, *, missing: Collection[str], unexpected: Collection[str]
) -> None:
    """Refuse weights that would leave part of the model random or belong to another model."""
    if missing or unexpected:
        raise WeightsMismatchError(
            f"encoder {card.name!r} ({card.model}): the weights from {origin} are not those of "
            f"this model: missing {_first(missing)}, unexpected {_first(unexpected)}"
        )


def check_layout(card: EncoderCard, *, tokens: int, width: int) -> None:
    """Compare the tokens that the model returns for one item, number and width, with its card.

    Raises:
        WeightsMismatchError: Width or number of tokens differ; the message states both. Where the
            card's rows are ragged only the width does.
    """
    expected = card.layout.tokens_per_item
    if width != card.width or (expected is not None and tokens != expected):
        promised = f"{expected} tokens x {card.width}" if expected is not None else card.width
        actual = f"{tokens} tokens x {width}" if expected is not None else width
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the card promises {promised} features, these weights give "
            f"{actual}; use the weights of {card.model}, or write a card for these"
        )


def check_grid(card: EncoderCard, *, prefix_tokens: int, grid: tuple[int, int]) -> None:
    """Compare the model's prefix tokens and grid with its card; their total is already the same."""
    if (card.layout.prefix_tokens, card.layout.grid) != (prefix_tokens, grid):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the card promises prefix_tokens = "
            f"{card.layout.prefix_tokens} and grid = {list(card.layout.grid or ())}, {card.model} "
            f"gives prefix_tokens = {prefix_tokens} and grid = {list(grid)}; correct the card"
        )


def unreadable(card: EncoderCard, what: str, error: Exception) -> WeightsMismatchError:
    """Build the error for a file that a library cannot read, with the reason in one line."""
    reason = " ".join(_ESCAPES.sub("", str(error)).split()) or type(error).__name__
    if reason.startswith("Weights only load failed"):  # what follows advises to run its code
        reason = "it holds more than tensors, which only code inside it could read"
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}..."
    return WeightsMismatchError(f"encoder {card.name!r}: cannot read {what}: {reason}")


def has_class_token(model: nn.Module) -> bool:
    """Return whether a vision model has learnt a token that stands for the whole image.

    Registers are learnt, too, and stand before the patches as well, but nothing is read from them.
    """
    names = (name.rpartition(".")[2] for name, _ in model.named_parameters())
    return any(name.startswith(_CLASS_TOKENS) for name in names)


def _first(keys: Collection[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{sorted(keys)[:3]}{more}" if keys else "none"
