"""Text models of transformers: a tokenizer and a language model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor, nn

from ...errors import SpecError, UnreadableItemError, WeightsMismatchError
from ...tokens import Tokens, join_padded
from ..base import LAST, Content, without_mask
from ..card import EncoderCard
from ..exportable import ATTENTION_MASK, ExportableEncoder, ModelCall
from ..pooling import POOLED, LayerLayout
from ..vocabulary import Vocabulary
from ..weights import Weights
from ._checks import check_layout
from ._image_preprocessing import on_cpu
from ._sentence import SentencePooling, SentenceSettings, read_settings
from ._tokenizers import read_tokenizer
from ._towers import unused_positions
from ._transformers import asks_earlier, hidden_state, last_state
from ._transformers_encoder import TransformersEncoder

# Trained on texts that are padded to one length, the padding not masked.
_READ_PADDING = ("SiglipTextModel", "Siglip2TextModel")
_MOST_TOKENS = 2**30  # where nothing limits them
_SAME = 1e-5  # relative difference of features that are equal but for rounding


class TextEncoder(TransformersEncoder[list[int]]):
    """Read texts for `HuggingfaceEncoder`."""

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        assert weights.files is not None, "a transformers card names weights"
        assert card.layout.max_tokens is not None, "a text card has max_tokens"
        # read before the model, which takes longer
        sentence = read_settings(card, weights.files)
        super().__init__(card, weights, device=device)
        self._sentence = sentence or SentenceSettings(folder=self._folder)
        self._max_tokens = min(card.layout.max_tokens, self._sentence.max_tokens or _MOST_TOKENS)
        self._full_length = _check_positions(card, self._model, self._max_tokens)
        self._tokenizer = read_tokenizer(card, self._folder)
        if self._sentence.lower_case:
            self._tokenizer.lower_case()
        self._tokenizer_hash = self._tokenizer.hash()
        self._tokenizer.cut(self._max_tokens)
        self.companion_names = self._tokenizer.companion_names
        self._prompt_tokens = self._count_prompt(card)
        # of the prompt, where the directory pools the others only
        self._left_out = 0 if self._sentence.include_prompt else self._prompt_tokens
        self._reads_padding = self._model_name in _READ_PADDING
        self._takes_mask = _takes_mask(self._model) and not self._reads_padding
        self._num_words = _num_words(self._model)
        self._padding = self._choose_padding()
        self._last = LayerLayout(width=card.width, first_is_class=self._begins_with_class())
        self._mixes_padding = False  # until it is probed
        probe = self._probe()
        self._last = replace(self._last, constant_first=self._first_is_constant(probe, LAST))
        self._mixes_padding = self._padding_changes(probe, LAST)
        (tokens,) = self._encode(probe[:1], [LAST], "float32")
        check_layout(card, tokens=tokens.values.shape[1], width=tokens.width)

    def _reading_identity(self) -> dict[str, object]:
        return {
            "tokenizer": self._tokenizer_hash,
            "max_tokens": self._max_tokens,
            "final_norm": "norm",
            **({"prompt": self._sentence.prompt} if self._sentence.prompt else {}),
            **({"prompt_tokens": "left out"} if self._left_out else {}),
            **({"cut": "left"} if self._tokenizer.cuts_left else {}),
            **({"padded_to": self._full_length} if self._reads_padding else {}),
            **({"padding": "none"} if self._mixes_padding else {}),
        }

    def _pooled_identity(self) -> dict[str, object]:
        pooling = self._sentence_pooling or self._pooling
        return {**pooling.identity, **({"padding": "none"} if self._pooled_mixes else {})}

    @cached_property
    def _pooled_mixes(self) -> bool:
        """Return whether padding reaches the pooled vector, as where the largest id is looked for.

        Then texts of one length only are encoded together.
        """
        return self._padding_changes(self._probe(), POOLED)

    @cached_property
    def _sentence_pooling(self) -> SentencePooling | None:
        if not self._sentence.modules:
            return None
        return SentencePooling(self._places[0], self._sentence).to(self._device)

    def _count_prompt(self, card: EncoderCard) -> int:
        """Return the number of tokens that the prompt begins every text with."""
        if not self._sentence.prompt:
            return 0
        ids = self._tokenizer.ids(self._sentence.prompt)
        count = len(ids) - (ids[-1:] != [] and ids[-1] in self._tokenizer.named_ids())
        if len(ids) >= self._max_tokens:
            raise WeightsMismatchError(
                f"encoder {card.name!r}: the prompt of {self._sentence.folder} leaves none of "
                f"{self._max_tokens} tokens for a text"
            )
        return count

    def _choose_padding(self) -> int:
        """Return an id to pad with that the model has; what stands there is masked."""
        config = self._places[2]
        candidates = (self._tokenizer.padding, getattr(config, "pad_token_id", None), 0)
        return next(
            index for index in candidates if isinstance(index, int) and 0 <= index < self._num_words
        )

    def _probe(self) -> list[list[int]]:
        """Return two short texts of one length that begin alike, then differ.

        They are longer than a prompt whose tokens are left out.
        """
        ids = self._tokenizer.ids("a") or [0]
        special = self._tokenizer.special_ids() | {self._padding, *ids}
        limit = min(self._num_words, max(self._tokenizer.num_ids(), 1))
        plain = [index for index in range(min(limit, 4096)) if index not in special] or [0]
        words = plain[len(plain) // 3], plain[2 * len(plain) // 3]
        inside = 2 + self._left_out
        probe = [[ids[0], *[word] * inside, ids[-1]][: self._max_tokens] for word in words]
        return [[min(index, self._num_words - 1) for index in row] for row in probe]

    def _first_is_constant(self, probe: list[list[int]], layer: int) -> bool:
        """Return whether the first token knows nothing of those after it."""
        (tokens,) = self._encode(probe, [layer], "float32")
        first, second = tokens.values[:, 0]
        return len(probe[0]) > 2 + self._left_out and bool(
            (first - second).norm() <= _SAME * first.norm()
        )

    def _begins_with_class(self) -> bool:
        """Return whether a token that is no part of the text stands first among those kept.

        Where a prompt is left out, a directory that pools the first token takes the one after it.
        """
        added = self._tokenizer.companions("a")["special_tokens"]
        return self._left_out > 0 or (len(added) > 1 and bool(added[0]))

    def _padding_changes(self, probe: list[list[int]], layer: int) -> bool:
        """Return whether the features of a text depend on how far it is padded."""
        shortest = self._left_out + 1
        short = probe[0][: max(shortest, min(shortest + 1, len(probe[0]) - 1))]
        if len(short) == len(probe[0]):
            return False
        (alone,) = self._encode_padded([short], [layer], "float32")
        (beside,) = self._encode_padded([short, probe[1]], [layer], "float32")
        difference = beside.values[:1, : alone.values.shape[1]] - alone.values
        return bool(difference.norm() > _SAME * alone.values.norm())

    def preprocess(self, content: Content, *, item_id: str) -> list[int]:
        assert isinstance(content, str)
        try:
            ids = self._tokenizer.ids(self._sentence.prompt + content)
        except (TypeError, UnicodeEncodeError) as error:  # lone surrogates have no UTF-8
            raise UnreadableItemError(f"{item_id}: the text is not valid Unicode") from error
        if len(ids) <= self._left_out:
            raise UnreadableItemError(f"{item_id}: the text gives no tokens")
        return ids

    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        assert isinstance(content, str)
        arrays = self._tokenizer.companions(self._sentence.prompt + content)
        if self._sentence.prompt and "character_spans" in arrays:
            spans = arrays["character_spans"] - len(self._sentence.prompt)
            arrays["character_spans"] = np.maximum(spans, 0)  # the prompt is no part of the text
        return {name: array[self._left_out :] for name, array in arrays.items()}

    def vocabulary(self) -> Vocabulary:
        mask = self._tokenizer.mask
        ordinary = [index for index in self._tokenizer.ordinary_ids() if index < self._num_words]
        # a token that was added to the tokenizer alone is one that the model has never seen
        if mask is None or mask >= self._num_words or not ordinary:
            raise without_mask(self.name)
        return Vocabulary(
            mask_id=mask,
            ordinary_ids=np.array(ordinary, dtype=np.int64),
            num_fixed=self._prompt_tokens - self._left_out,
        )

    def with_token_ids(self, prepared: list[int], token_ids: Int32[np.ndarray, " _"]) -> list[int]:
        assert len(prepared) == self._left_out + len(token_ids)
        return [*prepared[: self._left_out], *token_ids.tolist()]

    def size(self, prepared: list[int]) -> int:
        return len(prepared)

    def _probed_layout(self, layer: int) -> LayerLayout:
        probe = self._probe()
        (tokens,) = self._encode(probe[:1], [layer], "float32")
        if layer == POOLED:
            return LayerLayout(width=tokens.width)
        constant = self._first_is_constant(probe, layer)
        return replace(self._last, width=tokens.width, constant_first=constant)

    def _encode(
        self, batch: Sequence[list[int]], layers: Sequence[int], precision: str
    ) -> list[Tokens]:
        lengths = np.array([len(ids) for ids in batch])
        alone = self._mixes_padding or (POOLED in layers and self._pooled_mixes)
        if not alone or len(set(lengths.tolist())) == 1:
            return self._encode_padded(batch, layers, precision)
        groups: list[list[Tokens]] = []
        order: list[int] = []
        for length in sorted(set(lengths.tolist())):
            rows = np.flatnonzero(lengths == length).tolist()
            order += rows
            groups.append(self._encode_padded([batch[row] for row in rows], layers, precision))
        places = torch.tensor(order).argsort()
        joined = [join_padded(parts) for parts in zip(*groups, strict=True)]
        return [Tokens(tokens.values[places], tokens.mask[places]) for tokens in joined]

    def _encode_padded(
        self, batch: Sequence[list[int]], layers: Sequence[int], precision: str
    ) -> list[Tokens]:
        ids, mask = self._padded(batch)
        # where all texts are padded to a full length, the tokens end with the longest
        longest = int(mask.sum(dim=1).max()) if len(mask) else 0
        positions = slice(self._left_out, longest)
        features = self._forward([ids, mask.long()], layers, precision)
        return [
            Tokens(on_cpu(values), mask[:, :1])
            if layer == POOLED
            else Tokens(on_cpu(values)[:, positions], mask[:, positions])
            for layer, values in zip(layers, features, strict=True)
        ]

    def portable(self, layer: int = LAST) -> ExportableEncoder:
        self.layout(layer)  # refuses a layer that is not there
        if self._sentence.prompt:
            raise SpecError("an export cannot put the prompt of the encoder before each text")
        mixes_padding = self._mixes_padding or (layer == POOLED and self._pooled_mixes)
        if mixes_padding or self._reads_padding:
            raise SpecError(f"in {self._model_name} padding takes part, which no export can mask")

        def collate(batch: Sequence[list[int]]) -> tuple[Tensor, ...]:
            ids, mask = self._padded(batch)
            return ids, mask.long()

        pooling: tuple[nn.Module, ...] = ()
        if layer == POOLED:
            pooling = (self._sentence_pooling or self._pooling.model,)
        tower = self._tower
        # transformers gives the same where nothing of ours is in between
        is_plain = layer == LAST and not (
            tower.in_pair or tower.in_decoder or tower.beside_decoder or self._sentence.lower_case
        )
        any_length = {0: "batch", 1: "tokens"}
        return ExportableEncoder(
            model=ModelCall(
                lambda ids, mask: self._features([layer], ids, mask)[0], self._model, *pooling
            ),
            axes={"input_ids": any_length, ATTENTION_MASK: any_length},
            collate=collate,
            files=self._tokenizer.files(self._padding),
            transformers_folder=self._folder if is_plain else None,
            max_tokens=self._max_tokens,
        )

    def _padded(
        self, batch: Sequence[list[int]]
    ) -> tuple[Int64[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
        longest = max((len(ids) for ids in batch), default=0)
        if self._reads_padding:
            longest = self._full_length
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

    def _features(
        self, layers: Sequence[int], *inputs: Int64[Tensor, "batch tokens"]
    ) -> list[Float[Tensor, "batch _ _"]]:
        ids, mask = inputs
        arguments: dict[str, Any] = {"input_ids": ids}
        if self._takes_mask:
            arguments["attention_mask"] = mask
        sentence = self._sentence_pooling if POOLED in layers else None
        run = self._pooling.run if POOLED in layers and sentence is None else self._model
        output = run(**arguments, output_hidden_states=asks_earlier(layers))
        features: dict[int, Tensor] = {LAST: last_state(output, self._model_name)}
        if sentence is not None:
            features[POOLED] = sentence(features[LAST], mask > 0, self._prompt_tokens)
        elif POOLED in layers:
            features[POOLED] = self._pooling.of(output)
        for layer in set(layers) - set(features):
            features[layer] = hidden_state(output, layer, self._model_name)
        return [features[layer] for layer in layers]


def _check_positions(card: EncoderCard, model: Any, max_tokens: int) -> int:
    """Return how many positions a model has; a large number where it counts none."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return _MOST_TOKENS
    positions -= unused_positions(model)
    if positions < max_tokens:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the card allows {max_tokens} tokens, this model has "
            f"{positions} positions; use the weights of {card.model}, or write a card for these"
        )
    return positions


def _takes_mask(model: Any) -> bool:
    parameters = signature(model.forward).parameters.values()
    return any(
        parameter.name == "attention_mask" or parameter.kind is Parameter.VAR_KEYWORD
        for parameter in parameters
    )


def _num_words(model: Any) -> int:
    """Return how many token ids a model has features for."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):  # of letters or bytes
        return int(getattr(model.config, "vocab_size", None) or _MOST_TOKENS)
