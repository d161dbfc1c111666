"""Text models of transformers: a tokenizer and a language model."""

from collections.abc import Sequence
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ...errors import SpecError, UnreadableItemError, WeightsMismatchError
from ...tokens import Tokens
from ..base import LAST, Content
from ..card import EncoderCard
from ..exportable import ATTENTION_MASK, ExportableEncoder, ModelCall
from ..pooling import POOLED, LayerLayout
from ..weights import Weights
from ._checks import check_layout, hash_state
from ._image_preprocessing import compute_precision
from ._pooled import Pooling, find_pooling
from ._sentence import SentencePooling, SentenceSettings, read_settings
from ._tokenizers import read_tokenizer
from ._towers import check_input, encoder_of, find_tower, unused_positions
from ._transformers import (
    Half,
    asks_earlier,
    hash_config,
    hidden_state,
    last_state,
    load_model,
    model_folder,
    read_config,
    state_that_counts,
)

# Trained on texts that are padded to one length, the padding not masked.
_READ_PADDING = ("SiglipTextModel", "Siglip2TextModel")
_MOST_TOKENS = 2**30  # where nothing limits them
_SAME = 1e-5  # relative difference of features that are equal but for rounding


class Text(Half):
    """Read texts for a transformers encoder."""

    def __init__(self, card: EncoderCard, weights: Weights, device: torch.device) -> None:
        folder = model_folder(card, weights)
        root = weights.files or folder  # of sentence-transformers, whose model lies below
        assert card.layout.max_tokens is not None, "a text card has max_tokens"
        config = read_config(card, folder)
        self._sentence = read_settings(card, root) or SentenceSettings(folder=folder)
        self._max_tokens = min(card.layout.max_tokens, self._sentence.max_tokens or _MOST_TOKENS)
        tower = find_tower(card, config)
        self._loaded = load_model(tower, card, weights)
        self._places = card, weights, config
        self._pooling: Pooling | None = None
        self._sentence_pooling: SentencePooling | None = None
        if tower.in_decoder:
            self._loaded = replace(self._loaded, model=encoder_of(card, self._loaded.model))
        model = self._loaded.model
        check_input(card, model, of_pair=self._loaded.pair is not None or tower.in_decoder)
        self._full_length = _check_positions(card, model, self._max_tokens)
        self._tokenizer = read_tokenizer(card, folder)
        if self._sentence.lower_case:
            self._tokenizer.lower_case()
        self._tokenizer_hash = self._tokenizer.hash()
        self._tokenizer.cut(self._max_tokens)
        self.companion_names = self._tokenizer.companion_names
        self._prompt_tokens = self._count_prompt(card)
        self._hash = hash_state(state_that_counts(model))
        self._config_hash = hash_config(card, folder)
        self._model_name = type(model).__name__
        self._folder = folder
        part = tower.in_pair or tower.in_decoder or tower.beside_decoder
        self._is_plain = not part and not self._sentence.lower_case
        self._device = device
        self._model = model.to(device)
        self._takes_mask = _takes_mask(model) and self._model_name not in _READ_PADDING
        self._num_words = _num_words(model)
        self._padding = self._choose_padding(config)
        self._first_is_class = self._begins_with_class()
        self.last = LayerLayout(width=card.width, first_is_class=self._first_is_class)
        self._mixes_padding = False
        self._pooled_mixes: bool | None = None
        probe = self._probe()
        self.last = replace(self.last, constant_first=self._first_is_constant(probe, LAST))
        self._mixes_padding = self._padding_changes(probe, LAST)
        (tokens,) = self.encode(probe[:1], [LAST], "float32")
        check_layout(card, tokens=tokens.values.shape[1], width=tokens.width)

    def identity(self) -> dict[str, object]:
        sentence = self._sentence
        return {
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            "tokenizer": self._tokenizer_hash,
            "max_tokens": self._max_tokens,
            "final_norm": "norm",
            **({"prompt": sentence.prompt} if sentence.prompt else {}),
            **({"prompt_tokens": "left out"} if self._left_out else {}),
            **({"cut": "left"} if self._tokenizer.cuts_left else {}),
            **({"padded_to": self._full_length} if self._reads_padding else {}),
            **({"padding": "none"} if self._mixes_padding else {}),
        }

    def pooled_identity(self) -> dict[str, object]:
        alone = {"padding": "none"} if self._pooled_alone() else {}
        if self._sentence.modules:
            return {**self._pool_sentence().identity, **alone}
        return {**self._pool().identity, **alone}

    def _pooled_alone(self) -> bool:
        """Return whether padding reaches the pooled vector, as where the largest id is looked for.

        Then texts of one length only are encoded together.
        """
        if self._pooled_mixes is None:
            self._pooled_mixes = self._padding_changes(self._probe(), POOLED)
        return self._pooled_mixes

    @property
    def _reads_padding(self) -> bool:
        return self._model_name in _READ_PADDING

    @property
    def _left_out(self) -> int:
        """Return how many tokens of the prompt are not stored."""
        return 0 if self._sentence.include_prompt else self._prompt_tokens

    def _pool(self) -> Pooling:
        if self._pooling is None:
            self._pooling = find_pooling(*self._places, self._loaded, self._device)
        return self._pooling

    def _pool_sentence(self) -> SentencePooling:
        if self._sentence_pooling is None:
            pooling = SentencePooling(self._places[0], self._sentence)
            self._sentence_pooling = pooling.to(self._device)
        return self._sentence_pooling

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

    def _choose_padding(self, config: Any) -> int:
        """Return an id to pad with that the model has; what stands there is masked."""
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
        (tokens,) = self.encode(probe, [layer], "float32")
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

    def preprocess(self, content: Content, item_id: str) -> list[int]:
        assert isinstance(content, str)
        try:
            ids = self._tokenizer.ids(self._sentence.prompt + content)
        except (TypeError, UnicodeEncodeError) as error:  # lone surrogates have no UTF-8
            raise UnreadableItemError(f"{item_id}: the text is not valid Unicode") from error
        if len(ids) <= self._left_out:
            raise UnreadableItemError(f"{item_id}: the text gives no tokens")
        return ids

    def companions(self, content: Content) -> dict[str, np.ndarray]:
        assert isinstance(content, str)
        arrays = self._tokenizer.companions(self._sentence.prompt + content)
        if self._sentence.prompt and "character_spans" in arrays:
            spans = arrays["character_spans"] - len(self._sentence.prompt)
            arrays["character_spans"] = np.maximum(spans, 0)  # the prompt is no part of the text
        return {name: array[self._left_out :] for name, array in arrays.items()}

    def layout(self, layer: int) -> LayerLayout:
        probe = self._probe()
        (tokens,) = self.encode(probe[:1], [layer], "float32")
        if layer == POOLED:
            return LayerLayout(width=tokens.width)
        constant = self._first_is_constant(probe, layer)
        return LayerLayout(
            width=tokens.width, constant_first=constant, first_is_class=self._first_is_class
        )

    def encode(
        self, batch: Sequence[list[int]], layers: Sequence[int], precision: str
    ) -> list[Tokens]:
        lengths = np.array([len(ids) for ids in batch])
        alone = self._mixes_padding or (POOLED in layers and self._pooled_alone())
        if not alone or len(set(lengths.tolist())) == 1:
            return self._encode_padded(batch, layers, precision)
        groups: list[list[Tokens]] = []
        order: list[int] = []
        for length in sorted(set(lengths.tolist())):
            rows = np.flatnonzero(lengths == length).tolist()
            order += rows
            groups.append(self._encode_padded([batch[row] for row in rows], layers, precision))
        places = torch.tensor(order).argsort()
        return [_joined(list(parts), places) for parts in zip(*groups, strict=True)]

    def _encode_padded(
        self, batch: Sequence[list[int]], layers: Sequence[int], precision: str
    ) -> list[Tokens]:
        ids, mask = self._padded(batch)
        features = self._forward(ids, mask, layers, precision)
        return [
            self._kept(values.float().cpu().clone(), mask)  # see `all_real`
            if layer != POOLED
            else Tokens(values.float().cpu().clone(), mask[:, :1])
            for layer, values in zip(layers, features, strict=True)
        ]

    def _kept(
        self,
        values: Float[Tensor, "batch tokens features"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Tokens:
        longest = int(mask.sum(dim=1).max()) if len(mask) else 0
        positions = slice(self._left_out, longest)
        return Tokens(values[:, positions], mask[:, positions])

    def portable(self, layer: int) -> ExportableEncoder:
        self._check_portable()
        any_length = {0: "batch", 1: "tokens"}

        def collate(batch: Sequence[list[int]]) -> tuple[Tensor, ...]:
            ids, mask = self._padded(batch)
            return ids, mask.long()

        pooling: tuple[nn.Module, ...] = ()
        if layer == POOLED:
            sentence = bool(self._sentence.modules)
            pooling = (self._pool_sentence(),) if sentence else self._pool().models
        return ExportableEncoder(
            model=ModelCall(
                lambda ids, mask: self._features(ids, mask, [layer])[0], self._model, *pooling
            ),
            axes={"input_ids": any_length, ATTENTION_MASK: any_length},
            collate=collate,
            files=self._tokenizer.files(self._padding),
            transformers_folder=self._folder if self._is_plain and layer == LAST else None,
            max_tokens=self._max_tokens,
        )

    def _check_portable(self) -> None:
        """Refuse to export what an exported tokenizer and model would not do.

        Raises:
            SpecError: Texts have a prompt, or padding takes part.
        """
        if self._sentence.prompt:
            raise SpecError("an export cannot put the prompt of the encoder before each text")
        if self._mixes_padding or self._pooled_mixes or self._reads_padding:
            raise SpecError(f"in {self._model_name} padding takes part, which no export can mask")

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

    @torch.inference_mode()
    def _forward(
        self,
        ids: Int64[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
        layers: Sequence[int],
        precision: str,
    ) -> list[Float[Tensor, "batch _ _"]]:
        with compute_precision(self._device, precision):
            return self._features(ids.to(self._device), mask.long().to(self._device), layers)

    def _features(
        self,
        ids: Int64[Tensor, "batch tokens"],
        attention_mask: Int64[Tensor, "batch tokens"],
        layers: Sequence[int],
    ) -> list[Float[Tensor, "batch _ _"]]:
        inputs: dict[str, Any] = {"input_ids": ids}
        if self._takes_mask:
            inputs["attention_mask"] = attention_mask
        pools = POOLED in layers and not self._sentence.modules
        run = self._pool().run if pools else self._model
        output = run(**inputs, output_hidden_states=asks_earlier(layers))
        features: dict[int, Tensor] = {LAST: last_state(output, self._model_name)}
        if POOLED in layers:
            features[POOLED] = self._pooled(output, attention_mask > 0)
        for layer in set(layers) - set(features):
            features[layer] = hidden_state(output, layer, self._model_name)
        return [features[layer] for layer in layers]

    def _pooled(
        self, output: Any, mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch one width"]:
        if not self._sentence.modules:
            return self._pool().of(output)
        pooled: Tensor = self._pool_sentence()(output.last_hidden_state, mask, self._prompt_tokens)
        return pooled


def _check_positions(card: EncoderCard, model: Any, max_tokens: int) -> int:
    """Return how many positions a model has; a large number where it counts none.

    Raises:
        WeightsMismatchError: They are fewer than the card allows tokens.
    """
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


def _joined(parts: Sequence[Tokens], places: Int64[Tensor, " n"]) -> Tokens:
    """Return batches of several lengths as one, its rows in the order of `places`."""
    longest = max(part.mask.shape[1] for part in parts)
    values, masks = [], []
    for part in parts:
        missing = longest - part.mask.shape[1]
        values.append(nn.functional.pad(part.values, (0, 0, 0, missing)))
        masks.append(nn.functional.pad(part.mask, (0, missing)))
    return Tokens(torch.cat(values)[places], torch.cat(masks)[places])
