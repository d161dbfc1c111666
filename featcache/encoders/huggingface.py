"""Vision and text models of transformers, from hub directories."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
import transformers
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..card import EncoderCard
from ..encoder import Encoder
from ..errors import UnreadableItemError, WeightsMismatchError, WeightsNotFoundError
from ..tokens import Tokens
from ..types import Item, Modality
from ..weights import TOKENIZER_VOCABULARIES, Weights
from ._checks import check_layout, hash_state
from ._images import (
    Preprocessing,
    ProcessorPreprocessing,
    TimmPreprocessing,
    all_real,
    exact_convolutions,
    final_tokens,
    prepare_image,
    probe_image,
)
from ._pretrained import (
    hash_config,
    load_model,
    model_folder,
    quiet,
    read_config,
    state_that_counts,
    unreadable,
)

Prepared: TypeAlias = Tensor | list[int]

# Directories of two-tower models hold more than the vision tower that an image card means.
_VISION_TOWERS = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
# These count positions from the padding id on, so that some of their table is never used.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


class _Half(ABC):
    """What an encoder of one modality does; vision and text share nothing else."""

    @abstractmethod
    def __init__(self, card: EncoderCard, weights: Weights, device: torch.device) -> None: ...

    @abstractmethod
    def prepare(self, item: Item) -> Any: ...

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> Tokens: ...

    @abstractmethod
    def identity(self) -> dict[str, object]: ...


class HuggingfaceEncoder(Encoder[Prepared]):
    """Encode images or texts with a transformers model: all tokens after its final norm.

    Vision models that normalise only their pooled vector (CLIP, BEiT) have that norm applied to
    every token. Texts keep their special tokens, are cut at the card's `max_tokens`, and padding
    is masked.

    Args:
        card: Card of the encoder, of this backend or of `timm` (the same model, converted).
        weights: Hub directory.
        device: Where the model runs.

    Raises:
        WeightsMismatchError: The files are not a complete model, or not that of the card.
        WeightsNotFoundError: The tokenizer or the image processor is missing.
    """

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        self.name = card.name
        self.modality = card.modality
        self.width = card.width
        self.tokens_per_item = card.layout.tokens_per_item
        half: type[_Half] = _Vision if card.modality is Modality.IMAGE else _Text
        self._half = half(card, weights, device)

    def identity(self) -> dict[str, object]:
        """Return ALL that changes the numbers, as JSON values."""
        return {
            "backend": "huggingface",
            **self._half.identity(),
            "kind": "tokens",
            "precision": "float32",
        }

    def prepare(self, item: Item) -> Prepared:
        """Preprocess one image (a tensor) or tokenise one text (token ids) on the CPU.

        Raises:
            UnreadableItemError: The image cannot be decoded, or the item holds no text.
        """
        prepared: Prepared = self._half.prepare(item)
        return prepared

    def encode(self, batch: Sequence[Prepared]) -> Tokens:
        """Return all tokens of `batch`, float32 on the CPU."""
        return self._half.encode(batch)


class _Vision(_Half):
    """The image half: an image processor, a vision tower and its final norm."""

    def __init__(self, card: EncoderCard, weights: Weights, device: torch.device) -> None:
        folder = model_folder(card, weights)
        config = read_config(card, folder)
        tower = _VISION_TOWERS.get(config.model_type, "AutoModel")
        pooler_counts = _normalises_in_pooler(config)
        model = load_model(getattr(transformers, tower), card, weights, with_pooler=pooler_counts)
        _check_input(card, model, "pixel_values")
        self._hash = hash_state(state_that_counts(model, with_pooler=pooler_counts))
        self._config_hash = hash_config(folder)
        self._model_name = type(model).__name__
        self._layer, norm = _norm_of_tokens(model, in_pooler=pooler_counts)
        self._preprocessing = _find_preprocessing(card, folder)
        self._device = device
        self._model: Any = model.to(device)
        self._norm = norm.to(device)
        probe = self._forward(probe_image(self._preprocessing))
        check_layout(card, tokens=probe.shape[1], width=probe.shape[2])

    def identity(self) -> dict[str, object]:
        return {
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            "preprocessing": self._preprocessing.identity(),
            "layer": self._layer,
        }

    def prepare(self, item: Item) -> Float[Tensor, "channels height width"]:
        return prepare_image(item, self._preprocessing)

    def encode(self, batch: Sequence[Float[Tensor, "channels height width"]]) -> Tokens:
        return all_real(self._forward(torch.stack(list(batch))))

    @torch.inference_mode()
    def _forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens features"]:
        with exact_convolutions():
            features: Tensor = self._model(pixel_values=images.to(self._device)).last_hidden_state
        return final_tokens(features, self._norm)


class _Text(_Half):
    """The text half: a tokenizer and a language model."""

    def __init__(self, card: EncoderCard, weights: Weights, device: torch.device) -> None:
        folder = model_folder(card, weights)
        assert card.layout.max_tokens is not None, "a text card has max_tokens"
        self._max_tokens = card.layout.max_tokens
        _check_positions(card, read_config(card, folder), self._max_tokens)
        model = load_model(transformers.AutoModel, card, weights)
        _check_input(card, model, "input_ids")
        self._tokenizer, self._padding = _read_tokenizer(card, folder)
        self._tokenizer_hash = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()
        self._tokenizer.enable_truncation(self._max_tokens)
        self._hash = hash_state(state_that_counts(model))
        self._config_hash = hash_config(folder)
        self._model_name = type(model).__name__
        self._device = device
        self._model: Any = model.to(device)
        probe = self.encode([self._tokenizer.encode("a").ids])
        check_layout(card, tokens=probe.values.shape[1], width=probe.width)

    def identity(self) -> dict[str, object]:
        return {
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            "tokenizer": self._tokenizer_hash,
            "max_tokens": self._max_tokens,
            "layer": "final-norm",
        }

    def prepare(self, item: Item) -> list[int]:
        if item.text is None:
            raise UnreadableItemError(f"{item.id}: holds no text")
        try:
            # The Rust tokenizer itself: the wrapper around it is not safe to share by threads.
            ids: list[int] = self._tokenizer.encode(item.text).ids
        except TypeError as error:  # lone surrogates have no UTF-8
            raise UnreadableItemError(f"{item.id}: the text is not valid Unicode") from error
        if not ids:
            raise UnreadableItemError(f"{item.id}: the text gives no tokens")
        return ids

    def encode(self, batch: Sequence[list[int]]) -> Tokens:
        longest = max((len(ids) for ids in batch), default=0)
        ids = torch.full((len(batch), longest), self._padding)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
        return Tokens(self._forward(ids, mask).cpu().clone(), mask)  # see `all_real`

    @torch.inference_mode()
    def _forward(
        self, ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens features"]:
        output = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.long().to(self._device)
        )
        values: Tensor = output.last_hidden_state
        return values


def _find_preprocessing(card: EncoderCard, folder: Path) -> Preprocessing:
    if (folder / "preprocessor_config.json").is_file():
        with quiet():
            try:
                return ProcessorPreprocessing(folder)
            except (OSError, ValueError, ImportError) as error:
                raise unreadable(card, f"the image processor in {folder}", error) from error
    if card.backend == "timm":  # the same model, converted: prepared as the card's own
        return TimmPreprocessing.of_architecture(card.model)
    raise WeightsNotFoundError(
        f"encoder {card.name!r}: {folder} has no preprocessor_config.json, which says how images "
        f"are resized and normalised; copy it from hub repository {card.weights.hub}"
    )


def _normalises_in_pooler(config: Any) -> bool:
    """Tell whether the final norm is part of the pooler (BEiT and its kin)."""
    return config.model_type in ("beit", "data2vec-vision") and bool(config.use_mean_pooling)


def _norm_of_tokens(model: nn.Module, *, in_pooler: bool) -> tuple[str, nn.Module]:
    """Return the norm that the model applies to its pooled vector only, and its name."""
    if in_pooler:
        return "pooler-norm on tokens", model.get_submodule("pooler.layernorm")
    if type(model).__name__ == "CLIPVisionModel":
        named = dict(model.named_modules())
        path = next(name for name in named if name.endswith("post_layernorm"))
        return "post-layernorm on tokens", named[path]
    return "final-norm", nn.Identity()


def _check_input(card: EncoderCard, model: Any, expected: str) -> None:
    found = str(model.main_input_name)
    is_pair = "vision_config" in vars(model.config)
    if found != expected or is_pair or model.config.is_encoder_decoder:
        raise WeightsMismatchError(
            f"encoder {card.name!r} reads {card.modality.value}s, but {type(model).__name__} is "
            "not a plain encoder of them; give the weights of " + card.model
        )


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
