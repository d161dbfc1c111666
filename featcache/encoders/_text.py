"""Text models of transformers: a tokenizer and a language model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer
from torch import Tensor

from ..card import EncoderCard
from ..encoder import LAST, Content
from ..errors import UnreadableItemError, WeightsMismatchError, WeightsNotFoundError
from ..kinds import LayerLayout
from ..portable import ATTENTION_MASK, ModelCall, Portable
from ..tokens import Tokens
from ..weights import TOKENIZER_VOCABULARIES, Weights
from ._checks import check_layout, hash_state
from ._halves import Half, asks_earlier, check_input, hidden_state
from ._images import compute_precision
from ._pretrained import (
    hash_config,
    load_model,
    model_folder,
    quiet,
    read_config,
    state_that_counts,
    unreadable,
)

# These count positions from the padding id on, so that some of their table is never used.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


class Text(Half):
    """Read texts for a transformers encoder."""

    companion_names = ("token_ids", "special_tokens", "character_spans")

    def __init__(self, card: EncoderCard, weights: Weights, device: torch.device) -> None:
        folder = model_folder(card, weights)
        assert card.layout.max_tokens is not None, "a text card has max_tokens"
        self._max_tokens = card.layout.max_tokens
        _check_positions(card, read_config(card, folder), self._max_tokens)
        model = load_model(transformers.AutoModel, card, weights)
        check_input(card, model, "input_ids")
        self._tokenizer, self._padding = _read_tokenizer(card, folder)
        self._tokenizer_hash = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()
        self._tokenizer.enable_truncation(self._max_tokens)
        self._hash = hash_state(state_that_counts(model))
        self._config_hash = hash_config(card, folder)
        self._model_name = type(model).__name__
        self._folder = folder
        self._device = device
        self._model = model.to(device)
        words: Any = model.get_input_embeddings  # torch's types take it for a tensor
        self._num_words = int(words().weight.shape[0])
        self.last = LayerLayout(width=card.width)
        (probe,) = self.encode([self._tokenizer.encode("a").ids], [LAST], "float32")
        check_layout(card, tokens=probe.values.shape[1], width=probe.width)

    def identity(self) -> dict[str, object]:
        return {
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            "tokenizer": self._tokenizer_hash,
            "max_tokens": self._max_tokens,
            "final_norm": "norm",
        }

    def preprocess(self, content: Content, item_id: str) -> list[int]:
        assert isinstance(content, str)
        try:
            # The Rust tokenizer itself: the wrapper around it is not safe to share by threads.
            ids: list[int] = self._tokenizer.encode(content).ids
        except TypeError as error:  # lone surrogates have no UTF-8
            raise UnreadableItemError(f"{item_id}: the text is not valid Unicode") from error
        if not ids:
            raise UnreadableItemError(f"{item_id}: the text gives no tokens")
        return ids

    def companions(self, content: Content) -> dict[str, np.ndarray]:
        assert isinstance(content, str)
        found = self._tokenizer.encode(content)
        return {
            "token_ids": np.array(found.ids, dtype=np.int32),
            "special_tokens": np.array(found.special_tokens_mask, dtype=np.uint8),
            "character_spans": np.array(found.offsets, dtype=np.int32).reshape(-1, 2),
        }

    def layout(self, layer: int) -> LayerLayout:
        (tokens,) = self.encode([self._tokenizer.encode("a").ids], [layer], "float32")
        return LayerLayout(width=tokens.width)

    def encode(
        self, batch: Sequence[list[int]], layers: Sequence[int], precision: str
    ) -> list[Tokens]:
        ids, mask = self._padded(batch)
        found = self._forward(ids, mask, layers, precision)
        return [Tokens(values.float().cpu().clone(), mask) for values in found]  # see `all_real`

    def portable(self, layer: int) -> Portable:
        any_length = {0: "batch", 1: "tokens"}
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.enable_padding(
            pad_id=self._padding, pad_token=tokenizer.id_to_token(self._padding) or ""
        )

        def collate(batch: Sequence[list[int]]) -> tuple[Tensor, ...]:
            ids, mask = self._padded(batch)
            return ids, mask.long()

        return Portable(
            model=ModelCall(lambda ids, mask: self._features(ids, mask, [layer])[0], self._model),
            axes={"input_ids": any_length, ATTENTION_MASK: any_length},
            collate=collate,
            files={"tokenizer.json": tokenizer.to_str(pretty=True)},
            transformers_folder=self._folder if layer == LAST else None,
        )

    def _padded(
        self, batch: Sequence[list[int]]
    ) -> tuple[Int64[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
        longest = max((len(ids) for ids in batch), default=0)
        ids = torch.full((len(batch), longest), self._padding)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
        if ids.numel() and int(ids.max()) >= self._num_words:
            raise WeightsMismatchError(
                f"the tokenizer in {self._folder} gives token {int(ids.max())}, its model has "
                f"embeddings for {self._num_words}: the files are not of one model"
            )
        return ids, mask

    @torch.inference_mode()
    def _forward(
        self,
        ids: Int64[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
        layers: Sequence[int],
        precision: str,
    ) -> list[Float[Tensor, "batch tokens features"]]:
        with compute_precision(self._device, precision):
            return self._features(ids.to(self._device), mask.long().to(self._device), layers)

    def _features(
        self,
        ids: Int64[Tensor, "batch tokens"],
        attention_mask: Int64[Tensor, "batch tokens"],
        layers: Sequence[int],
    ) -> list[Float[Tensor, "batch tokens features"]]:
        output = self._model(
            input_ids=ids,
            attention_mask=attention_mask,
            output_hidden_states=asks_earlier(layers),
        )
        return [
            output.last_hidden_state
            if layer == LAST
            else hidden_state(output, layer, self._model_name)
            for layer in layers
        ]


def _check_positions(card: EncoderCard, config: Any, max_tokens: int) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return
    if config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= config.pad_token_id + 1
    if positions < max_tokens:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the card allows {max_tokens} tokens, this model has "
            f"{positions} positions; use the weights of {card.model}, or write a card for these"
        )


def _read_tokenizer(card: EncoderCard, folder: Path) -> tuple[Tokenizer, int]:
    """Return the tokenizer of `folder`, neither padding nor cutting, and its padding id."""
    if not any((folder / name).is_file() for name in TOKENIZER_VOCABULARIES):
        # transformers would build an empty vocabulary without a word
        raise WeightsNotFoundError(
            f"encoder {card.name!r}: {folder} has no tokenizer (one of "
            f"{', '.join(TOKENIZER_VOCABULARIES)}); save it beside the model"
        )
    with quiet():
        try:
            wrapper = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, ImportError) as error:
            hint = " (SentencePiece files need `pip install sentencepiece protobuf`)"
            sentencepiece = any(folder.glob("*.model"))
            what = f"the tokenizer in {folder}{hint if sentencepiece else ''}"
            raise unreadable(card, what, error) from error
    tokenizer = Tokenizer.from_str(wrapper.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, wrapper.pad_token_id or 0
