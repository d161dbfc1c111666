"""Cards derived from the configuration of a transformers model."""

import copy
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ...errors import SpecError, WeightsMismatchError, WeightsNotFoundError
from ...home import expanded
from ...modalities.base import PROCESSOR_FILES
from ...types import Modality
from ..card import EncoderCard, Layout, WeightsCard, split_half
from ..sentence_modules import MODELS, MODULES, POOLING, model_place, read_modules
from ..weights import ADAPTER, OF_TIMM, find_hub_file
from ._checks import LIBRARY_ERRORS, NO_CLASS_TOKEN, has_class_token, unreadable
from ._image_preprocessing import ProcessorPreprocessing, probe_image
from ._sentence import (
    KNOWN_MODULES,
    PROMPTS,
    SETTINGS,
    check_configurations,
    is_length,
    length_of_settings,
    pooling_modes,
)
from ._timm_tokens import FeatureShape, find_shape
from ._towers import CONFIGS, MASKING, Tower, encoder_of, find_tower, is_pair, unused_positions
from ._transformers import quiet, read_config

_POOLING = "1_Pooling"  # of sentence-transformers, where no list of modules is there
_KINDS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}  # by mode of pooling
_PLAIN_MODULES = {*MODELS, POOLING, "Normalize", "Dropout"}
_USUAL_TOKENS = 512  # where neither tokenizer nor model has a longest text
_STREAMS = {"reformer": 2}  # joined in each token, each as wide as the configuration says


def derive_huggingface_card(model: str, *, name: str, weights: Path | None = None) -> EncoderCard:
    """Return the card of a transformers model: its modality, width, tokens and longest text.

    Args:
        model: Hub repository or folder; of a model that reads images and texts followed by
            `#image` or `#text`.
        name: Name of the card.
        weights: Hub directory that is used instead of the model's own.

    Raises:
        SpecError: The model reads images and texts, and the half is not named, or it is of timm.
        WeightsNotFoundError: No configuration is there.
        WeightsMismatchError: transformers does not know the model, or it reads neither.
    """
    model, half = split_half(model)
    folder = expanded(Path(model))
    path = str(folder.absolute()) if folder.is_dir() else None
    card = EncoderCard(
        name=name,
        title=f"{model} of transformers",
        modality=Modality.IMAGE,
        backend="huggingface",
        model=model if path is None else folder.name,
        width=1,
        layout=Layout(grid=(1, 1)),
        licence="not stated",
        source="transformers",
        weights=WeightsCard(hub=model if path is None else None, path=path),
    )
    hub = model if weights is None and path is None else None
    files = _Files(card, hub, weights or folder)
    place = files.find(files.model / "config.json")
    if place is None:
        is_adapter = (files.folder / ADAPTER).is_file()
        adapter = f", but an adapter ({ADAPTER}): merge it into its model" if is_adapter else ""
        raise WeightsNotFoundError(f"encoder {name!r}: {files.folder} has no config.json{adapter}")
    config = read_config(card, place.parent)
    if config.model_type == OF_TIMM:
        raise SpecError(
            f"{model} is a model of timm: take --encoder {shlex.quote(f'timm:{model}')}"
        )
    card = replace(card, modality=_modality(card, config, half, reference=model))
    if card.modality is Modality.IMAGE:
        shape, has_class = _vision_shape(card, config, files)
        width = shape.width
        layout = Layout(prefix_tokens=shape.prefix_tokens, grid=shape.grid)
        notes = ["" if shape.prefix_tokens and has_class else NO_CLASS_TOKEN]
    else:
        width, positions = _text_shape(card, config)
        layout = Layout(ragged=True, max_tokens=_max_tokens(positions, files))
        notes = _notes_of_sentences(files)
    note = " ".join(filter(None, (*notes, _note_of_code(config))))
    return replace(card, width=width, layout=layout, note=note)


class _Files:
    """The small files of a model, in a folder or in a hub repository.

    Attributes:
        folder: The folder, where there is one.
        model: Folder of the model within it, as a sentence encoder may keep it.
        pooling: Folder of the module that pools within it.
        is_listed: Whether a list says which modules of sentence-transformers it has.
        makers: Types of those that make another vector of it, but for its length.
    """

    def __init__(self, card: EncoderCard, hub: str | None, folder: Path) -> None:
        self._hub = hub
        self.folder = expanded(folder)
        self.model = Path()
        self.pooling = Path(_POOLING)
        self.makers: frozenset[str] = frozenset()
        listed = self.find(MODULES)
        self.is_listed = listed is not None
        if listed is None:
            return
        root = listed.parent
        self.model = model_place(card, root).relative_to(root)
        modules = read_modules(card, root) or ()
        if hub is None:  # else they are fetched with the weights
            check_configurations(card, root, modules)
        kinds = [kind for kind, _ in modules]
        before = kinds[1 : kinds.index(POOLING)] if POOLING in kinds[1:] else []
        self.makers = frozenset(kinds) - _PLAIN_MODULES | frozenset(before)
        places = [place for kind, place in modules if kind == POOLING]
        self.pooling = places[0].relative_to(root) if places else self.pooling

    def find(self, path: Path | str) -> Path | None:
        """Return a file by its place in the directory; without a configuration there is no model.

        Raises:
            WeightsNotFoundError: The hub has no configuration of the model.
        """
        if self._hub is None:
            return self.folder / path if (self.folder / path).is_file() else None
        required = Path(path) == self.model / "config.json"
        return find_hub_file(self._hub, Path(path).as_posix(), required=required)

    def table(self, path: Path | str) -> dict[str, Any]:
        """Return what a JSON file holds; nothing where there is none."""
        place = self.find(path)
        if place is None:
            return {}
        try:
            table = json.loads(place.read_text(encoding="utf-8"))
        except ValueError:  # what opens the model says what is wrong with it
            return {}
        return table if isinstance(table, dict) else {}


def _modality(card: EncoderCard, config: Any, half: str | None, *, reference: str) -> Modality:
    entries = config.to_dict()
    if is_pair(config):
        if half is None:
            raise SpecError(
                f"{reference} reads images and texts: say which half, by --encoder "
                f"'hf:{reference}#image' or --encoder 'hf:{reference}#text'"
            )
        return Modality(half)
    modality = None
    if {"image_size", "num_channels", "vision_config"} & set(entries):
        modality = Modality.IMAGE
    elif {"vocab_size", "src_vocab_size", "text_config"} & set(entries):
        modality = Modality.TEXT
    if modality is None:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {type(config).__name__} is of a model that reads neither "
            "images nor texts"
        )
    if half is not None and half != modality.value:
        raise SpecError(f"{reference} reads {modality.value}s, not {half}s")
    return modality


def _note_of_code(config: Any) -> str:
    """Return a warning where the model was published with code of its own, which is never run."""
    code = (getattr(config, "auto_map", None) or {}).get("AutoModel")
    if code is None:
        return ""
    return (
        f"Its config.json names code of its own ({code!s:.80}), which is not run: the features "
        f"are those of transformers' own {config.model_type}."
    )


def _notes_of_sentences(files: _Files) -> list[str]:
    """Return which features are the published vector, and which prompts a card may name."""
    prompts = files.table(PROMPTS).get("prompts")
    notes = [_note_of_vector(files)]
    if isinstance(prompts, dict) and any(prompts.values()):
        notes.append(f"A card's `prompt` is one of {sorted(prompts)}.")
    return notes


def _note_of_vector(files: _Files) -> str:
    """Return which features are the published vector, or nothing where none of ours is."""
    table = files.table(files.pooling / "config.json")
    if not table:
        return ""
    try:
        modes = pooling_modes(table)
    except SpecError:  # the message of whoever asks for `pooled`
        return ""
    kind = _KINDS.get(modes[0]) if len(modes) == 1 else None
    if kind is not None and not files.makers:
        return f"Its published vector of a text is `--features {kind}`, before any normalisation."
    if files.is_listed and files.makers <= KNOWN_MODULES:
        return "Its published vector of a text is `--features pooled`."
    return ""


def _text_shape(card: EncoderCard, whole: Any) -> tuple[int, int | None]:
    """Return the width of a token, and for how many there are positions, if they are counted.

    The model is built without memory for its weights: the width that a configuration names is not
    that of the tokens where a model projects them, as AltCLIP does, or joins several streams, as
    Reformer does.
    """
    config = getattr(whole, "text_config", whole)
    what = f"what tokens {type(config).__name__} gives"
    tower = find_tower(card, whole)
    try:
        with torch.device("meta"), quiet():
            model = _text_model(tower, whole, config).eval()
    except LIBRARY_ERRORS as error:
        raise unreadable(card, what, error) from error
    if tower.in_decoder:
        model = encoder_of(card, model)
    positions = getattr(config, "max_position_embeddings", None)
    positions = positions - unused_positions(model) if isinstance(positions, int) else None
    ids = torch.zeros(1, 2, dtype=torch.long, device="meta")
    try:
        with torch.inference_mode(), quiet():
            width = model(input_ids=ids).last_hidden_state.shape[2]
    except LIBRARY_ERRORS as error:  # some look at values, which are not there
        width = getattr(config, "hidden_size", None)
        if width is None:
            raise unreadable(card, what, error) from error
        width *= _STREAMS.get(config.model_type, 1)
    return int(width), positions


def _text_model(tower: Tower, whole: Any, config: Any) -> Any:
    """Return the model of texts: alone, one half of a pair, or one that has a decoder, too."""
    model_class: Any = tower.model_class  # Any: its methods carry no types
    if model_class is not transformers.AutoModel:
        config = copy.deepcopy(config)
        for name, value in tower.options.items():  # as `from_pretrained` has them
            setattr(config, name, value)
        return model_class(config)
    models: Any = transformers.AutoModel
    return _half_of(models.from_config(whole, trust_remote_code=False), tower)


def _half_of(model: Any, tower: Tower) -> Any:
    return next((getattr(model, name) for name in tower.halves if hasattr(model, name)), model)


def _vision_shape(card: EncoderCard, config: Any, files: _Files) -> tuple[FeatureShape, bool]:
    """Return where the tokens lie, and whether one of them is a class token.

    The model is built without memory for its weights.
    """
    whole = config
    parts = (vars(config)[name] for name in CONFIGS[Modality.IMAGE] if name in vars(config))
    config = next(parts, config)
    size = _input_size(card, config, files)
    model: Any
    try:
        with torch.device("meta"), quiet():
            model = _vision_model(card, whole, config).eval()
        with torch.inference_mode():
            pixels = torch.zeros(1, 3, *size, device="meta")
            features = model(pixel_values=pixels).last_hidden_state
    except LIBRARY_ERRORS as error:
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


def _vision_model(card: EncoderCard, whole: Any, config: Any) -> Any:
    """Return the model of images: alone, or the half of a pair that has no class of its own."""
    if config.model_type in MASKING:
        config.mask_ratio = 0.0
    models: Any = transformers.AutoModel  # Any: its methods carry no types
    tower = find_tower(card, whole)
    if not tower.halves:
        return models.from_config(config, trust_remote_code=False)
    return _half_of(models.from_config(whole, trust_remote_code=False), tower)


def _prefix_tokens(config: Any, size: tuple[int, int], num_tokens: int) -> int | None:
    """Return the tokens before the patches, where the configuration tells the patches."""
    patch = getattr(config, "patch_size", None)
    if not isinstance(patch, int) or patch < 1:
        return None
    prefix = num_tokens - (size[0] // patch) * (size[1] // patch)
    most = int(getattr(config, "n_cls_tokens", 1))
    most += int(getattr(config, "num_register_tokens", 0) or 1)
    return prefix if 0 <= prefix <= most else None


def _input_size(card: EncoderCard, config: Any, files: _Files) -> tuple[int, int]:
    """Return height and width of what the image processor gives, or else of the configuration."""
    places = (files.find(files.model / name) for name in PROCESSOR_FILES)
    processor = next((place for place in places if place is not None), None)
    if processor is not None:
        with quiet():
            try:
                pixels = probe_image(ProcessorPreprocessing(processor.parent))
            except LIBRARY_ERRORS as error:
                raise unreadable(card, f"the image processor in {processor}", error) from error
        return int(pixels.shape[2]), int(pixels.shape[3])
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _max_tokens(positions: int | None, files: _Files) -> int:
    """Return the longest text: what the sentence encoder or else the tokenizer says, and the model.

    The length of a sentence encoder takes the place of its tokenizer's, as sentence-transformers
    has it, also where it is the longer one.
    """
    names = SETTINGS if files.is_listed else SETTINGS[:1]  # each is a question to the hub
    settings = next(filter(None, (files.table(files.model / name) for name in names)), {})
    length = length_of_settings(settings)
    if not is_length(length):
        length = files.table(files.model / "tokenizer_config.json").get("model_max_length")
    limits = (positions, length)
    return min((int(limit) for limit in limits if is_length(limit)), default=_USUAL_TOKENS)
