"""Cards derived from the configuration of a transformers model."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ..card import EncoderCard, Layout, WeightsCard
from ..errors import SpecError, WeightsMismatchError, WeightsNotFoundError
from ..home import expanded
from ..references import split_half
from ..types import Modality
from ..weights import PROCESSOR_FILES, find_hub_file
from ._checks import NO_CLASS_TOKEN, has_class_token
from ._images import ProcessorPreprocessing, probe_image
from ._pretrained import quiet, read_config, unreadable
from ._timm_tokens import FeatureShape, find_shape

_POOLING = "1_Pooling/config.json"  # of sentence-transformers
_USUAL_TOKENS = 512  # where neither tokenizer nor model has a longest text
_UNLIMITED = 1_000_000  # tokenizers write 10^30 for "no limit"
# These count positions from the padding id on, so that some of their table is never used.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


def derive_huggingface_card(model: str, *, name: str, weights: Path | None = None) -> EncoderCard:
    """Return the card of a transformers model: its modality, width, tokens and longest text.

    Args:
        model: Hub repository or folder; of a model that reads images and texts followed by
            `#image` or `#text`.
        name: Name of the card.
        weights: Hub directory that is used instead of the model's own.

    Raises:
        SpecError: The model reads images and texts, and the half is not named.
        WeightsNotFoundError: No configuration is there.
        WeightsMismatchError: transformers does not know the model, or it reads neither.
    """
    model, half = split_half(model)
    folder = expanded(Path(model))
    is_folder = folder.is_dir()
    files = _Files(model if weights is None and not is_folder else None, weights or folder)
    card = EncoderCard(
        name=name,
        title=f"{model} of transformers",
        modality=Modality.IMAGE,
        backend="huggingface",
        model=folder.name if is_folder else model,
        width=1,
        layout=Layout(grid=(1, 1)),
        licence="not stated",
        source="transformers",
        weights=WeightsCard(
            hub=None if is_folder else model, path=str(folder.absolute()) if is_folder else None
        ),
    )
    place = files.find("config.json")
    if place is None:
        raise WeightsNotFoundError(f"encoder {name!r}: {files.folder} has no config.json")
    config = read_config(card, place.parent)
    modality = _modality(card, config, half, reference=model)
    if modality is Modality.IMAGE:
        shape, has_class = _vision_shape(card, getattr(config, "vision_config", config), files)
        layout = Layout(prefix_tokens=shape.prefix_tokens, grid=shape.grid)
        note = "" if shape.prefix_tokens and has_class else NO_CLASS_TOKEN
        return replace(card, width=shape.width, layout=layout, note=note)
    config = getattr(config, "text_config", config)
    layout = Layout(ragged=True, max_tokens=_max_tokens(config, files))
    return replace(
        card,
        modality=modality,
        width=int(config.hidden_size),
        layout=layout,
        note=_note_of_pooling(files.table(_POOLING)),
    )


class _Files:
    """The small files of a model, in a folder or in a hub repository."""

    def __init__(self, hub: str | None, folder: Path) -> None:
        self._hub = hub
        self.folder = expanded(folder)

    def find(self, name: str) -> Path | None:
        if self._hub is None:
            path = self.folder / name
            return path if path.is_file() else None
        return find_hub_file(self._hub, name, required=name == "config.json")

    def table(self, name: str) -> dict[str, Any]:
        path = self.find(name)
        if path is None:
            return {}
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # what opens the tokenizer says what is wrong with it
            return {}
        return table if isinstance(table, dict) else {}


def _modality(card: EncoderCard, config: Any, half: str | None, *, reference: str) -> Modality:
    entries = config.to_dict()
    if "vision_config" in entries and "text_config" in entries:
        if half is None:
            raise SpecError(
                f"{reference} reads images and texts: say which half, by --encoder "
                f"'hf:{reference}#image' or --encoder 'hf:{reference}#text'"
            )
        return Modality(half)
    found = None
    if {"image_size", "num_channels", "vision_config"} & set(entries):
        found = Modality.IMAGE
    elif "vocab_size" in entries or "text_config" in entries:
        found = Modality.TEXT
    if found is None:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {type(config).__name__} is of a model that reads neither "
            "images nor texts"
        )
    if half is not None and half != found.value:
        raise SpecError(f"{reference} reads {found.value}s, not {half}s")
    return found


def _note_of_pooling(table: Mapping[str, Any]) -> str:
    """Return which features are the published vector, where a sentence encoder says it."""
    modes = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    kinds = [kind for mode, kind in modes.items() if table.get(mode) is True]
    if len(kinds) != 1:
        return ""
    return f"Its published vector of a text is `--features {kinds[0]}`, before any normalisation."


def _vision_shape(card: EncoderCard, config: Any, files: _Files) -> tuple[FeatureShape, bool]:
    """Return where the tokens lie, and whether one of them is a class token.

    The model is built without memory for its weights.
    """
    size = _input_size(card, config, files)
    model: Any
    try:
        with torch.device("meta"), quiet():
            models: Any = transformers.AutoModel  # Any: its methods carry no types
            model = models.from_config(config, trust_remote_code=False).eval()
        with torch.inference_mode():
            pixels = torch.zeros(1, 3, *size, device="meta")
            features = model(pixel_values=pixels).last_hidden_state
    except (ValueError, TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise unreadable(card, f"what tokens {type(config).__name__} gives", error) from error
    what = f"encoder {card.name!r} ({type(model).__name__})"
    if features.ndim == 3:
        prefix = _prefix_tokens(config, size, int(features.shape[1]))
        if prefix is not None:
            patch = int(config.patch_size)
            grid = (size[0] // patch, size[1] // patch)
            shape = FeatureShape(prefix_tokens=prefix, grid=grid, width=int(features.shape[2]))
            return shape, has_class_token(model)
    config.num_features = config.hidden_sizes[-1] if hasattr(config, "hidden_sizes") else 0
    return find_shape(config, features, image=size, what=what), has_class_token(model)


def _prefix_tokens(config: Any, size: tuple[int, int], num_tokens: int) -> int | None:
    """Return the tokens before the patches, where the configuration tells the patches."""
    patch = getattr(config, "patch_size", None)
    if not isinstance(patch, int) or patch < 1:
        return None
    prefix = num_tokens - (size[0] // patch) * (size[1] // patch)
    return (
        prefix if 0 <= prefix <= 1 + int(getattr(config, "num_register_tokens", 0) or 1) else None
    )


def _input_size(card: EncoderCard, config: Any, files: _Files) -> tuple[int, int]:
    """Return height and width of what the image processor gives, or else of the configuration."""
    places = (files.find(name) for name in PROCESSOR_FILES)
    processor = next((place for place in places if place is not None), None)
    if processor is not None:
        with quiet():
            try:
                pixels = probe_image(ProcessorPreprocessing(processor.parent))
            except (OSError, ValueError, ImportError) as error:
                raise unreadable(card, f"the image processor in {processor}", error) from error
        return int(pixels.shape[2]), int(pixels.shape[3])
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _max_tokens(config: Any, files: _Files) -> int:
    """Return the longest text: what the tokenizer, the sentence encoder or the model allows."""
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= int(config.pad_token_id or 0) + 1
    limits = (
        positions,
        files.table("tokenizer_config.json").get("model_max_length"),
        files.table("sentence_bert_config.json").get("max_seq_length"),
    )
    known = [int(limit) for limit in limits if isinstance(limit, int) and 0 < limit < _UNLIMITED]
    return min(known, default=_USUAL_TOKENS)
