"""Vision and text models of transformers, from hub directories."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float, Int64
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..card import EncoderCard
from ..encoder import LAST, Content, Encoder
from ..errors import SpecError, UnreadableItemError, WeightsMismatchError, WeightsNotFoundError
from ..kinds import LayerLayout
from ..tokens import Tokens
from ..types import Modality
from ..weights import TOKENIZER_VOCABULARIES, Weights
from ._checks import check_layout, hash_state
from ._images import (
    Preprocessing,
    ProcessorPreprocessing,
    TimmPreprocessing,
    all_real,
    compute_precision,
    final_tokens,
    probe_image,
    scaled_layout,
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

TEXT_COMPANIONS = ("token_ids", "special_tokens", "character_spans")

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

    last: LayerLayout

    @abstractmethod
    def preprocess(self, content: Content, item_id: str) -> Any: ...

    @abstractmethod
    def encode(
        self, batch: Sequence[Any], layers: Sequence[int], precision: str
    ) -> list[Tokens]: ...

    @abstractmethod
    def layout(self, layer: int) -> LayerLayout: ...

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
        self.companion_names = TEXT_COMPANIONS if card.modality is Modality.TEXT else ()

    def identity(self) -> dict[str, object]:
        """Return ALL that changes the numbers, as JSON values."""
        return {
            "backend": "huggingface",
            **self._half.identity(),
            "precision": self.precision,
        }

    def preprocess(self, content: Content, *, item_id: str) -> Prepared:
        """Preprocess one decoded image (a tensor) or tokenise one text (token ids).

        Raises:
            UnreadableItemError: The text gives no tokens or is not valid Unicode.
        """
        prepared: Prepared = self._half.preprocess(content, item_id)
        return prepared

    def encode(self, batch: Sequence[Prepared]) -> Tokens:
        """Return all tokens of `batch`, float32 on the CPU."""
        return self.encode_layers(batch, [LAST])[0]

    def encode_layers(self, batch: Sequence[Prepared], layers: Sequence[int]) -> list[Tokens]:
        """Return all tokens of several layers; -1 is after the final norm.

        Raises:
            SpecError: The model has no such layer.
        """
        return self._half.encode(batch, layers, self.precision)

    def layout(self, layer: int = LAST) -> LayerLayout:
        """Return which tokens `layer` returns, from one forward pass for layers before the last.

        Raises:
            SpecError: The model has no such layer, or its tokens form no grid.
        """
        return self._half.last if layer == LAST else self._half.layout(layer)

    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        """Return token ids, special-token flags and character spans of a text."""
        return self._half.companions(content) if isinstance(self._half, _Text) else {}

    def size(self, prepared: Prepared) -> int:
        """Return the number of tokens of a text; images are all one."""
        return len(prepared) if isinstance(prepared, list) else 1


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
        grid = card.layout.grid
        assert grid is not None, "an image card has a grid"
        self.last = LayerLayout(
            width=card.width, prefix_tokens=card.layout.prefix_tokens, grid=(grid[0], grid[1])
        )
        (probe,) = self._forward(probe_image(self._preprocessing), [LAST], "float32")
        check_layout(card, tokens=probe.shape[1], width=probe.shape[2])

    def identity(self) -> dict[str, object]:
        return {
            "model": self._model_name,
            "config": self._config_hash,
            "weights": self._hash,
            "preprocessing": self._preprocessing.identity(),
            "layer": self._layer,
        }

    def preprocess(self, content: Content, item_id: str) -> Float[Tensor, "channels height width"]:
        assert isinstance(content, Image.Image)
        return self._preprocessing(content)

    def encode(
        self,
        batch: Sequence[Float[Tensor, "channels height width"]],
        layers: Sequence[int],
        precision: str,
    ) -> list[Tokens]:
        found = self._forward(torch.stack(list(batch)), layers, precision)
        return [all_real(values) for values in found]

    def layout(self, layer: int) -> LayerLayout:
        (values,) = self._forward(probe_image(self._preprocessing), [layer], "float32")
        return scaled_layout(values, self.last)

    @torch.inference_mode()
    def _forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        layers: Sequence[int],
        precision: str,
    ) -> list[Float[Tensor, "batch tokens features"]]:
        with compute_precision(self._device, precision):
            output = self._model(
                pixel_values=images.to(self._device), output_hidden_states=_earlier(layers)
            )
            last = final_tokens(output.last_hidden_state, self._norm)
        same = nn.Identity()
        return [
            last if layer == LAST else final_tokens(_hidden(output, layer, self._model_name), same)
            for layer in layers
        ]


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
        longest = max((len(ids) for ids in batch), default=0)
        ids = torch.full((len(batch), longest), self._padding)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
        found = self._forward(ids, mask, layers, precision)
        return [Tokens(values.float().cpu().clone(), mask) for values in found]  # see `all_real`

    @torch.inference_mode()
    def _forward(
        self,
        ids: Int64[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
        layers: Sequence[int],
        precision: str,
    ) -> list[Float[Tensor, "batch tokens features"]]:
        with compute_precision(self._device, precision):
            output = self._model(
                input_ids=ids.to(self._device),
                attention_mask=mask.long().to(self._device),
                output_hidden_states=_earlier(layers),
            )
        return [
            output.last_hidden_state if layer == LAST else _hidden(output, layer, self._model_name)
            for layer in layers
        ]


def _earlier(layers: Sequence[int]) -> bool:
    return any(layer != LAST for layer in layers)


def _hidden(output: Any, layer: int, model: str) -> Tensor:
    """Return the output of a block; hidden states begin with the embeddings."""
    states = output.hidden_states
    if not -len(states) <= layer < 0:
        raise SpecError(f"{model} has layers -1 to {-len(states)}, found {layer}")
    found: Tensor = states[layer]
    return found


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
