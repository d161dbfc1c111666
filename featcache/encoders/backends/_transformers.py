"""Load a transformers model from a directory: quietly, completely, and never with remote code."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ... import config as spec
from ...errors import SpecError, WeightsMismatchError
from ...types import Modality
from .. import weights as weight_files
from ..base import LAST
from ..card import EncoderCard
from ..pooling import POOLED
from ..sentence_modules import model_place
from ..weights import ADAPTER, Weights
from ._checks import LIBRARY_ERRORS, check_keys, unreadable
from ._towers import HALVES, OTHER, Tower, not_plain

_library_logging: Any = transformers.utils.logging  # Any: these functions carry no types

# Keys that files carry beside the encoder: heads of the training task, and the other tower.
_HEADS = re.compile(
    r"^(cls|lm_head|lm_predictions|mask_predictions|predictions|generator_\w+|discriminator_\w+"
    r"|head|fc|classifier|pre_classifier|cls_classifier|distillation_classifier|sop_classifier"
    r"|qa_outputs|vocab_\w+|visual_projection|text_projection|logit_scale|logit_bias)\b"
)
_BUFFERS = re.compile(r"position_ids$")  # written by older versions, computed by newer ones
_POOLER = re.compile(r"(^|\.)pooler\.")  # makes one vector of the tokens; its output is not read
# Entries of config.json that never change a number.
_CONFIG_NOISE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


def model_folder(card: EncoderCard, weights: Weights) -> Path:
    """Return the directory that holds configuration and weights.

    Raises:
        WeightsMismatchError: The weights are a bare file, or the modules beside cannot be read.
    """
    assert weights.files is not None, "a transformers card names weights"
    if not weights.files.is_dir():
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {weights.files} is one file, but transformers needs its "
            "directory with config.json beside it; give that directory"
        )
    return model_place(card, weights.files)


def read_config(card: EncoderCard, folder: Path) -> Any:
    """Read the model's configuration, without remote code.

    Raises:
        WeightsMismatchError: This version of transformers does not know the model, or its weights
            are quantised or changed by an adapter.
    """
    if (folder / ADAPTER).is_file():  # without PEFT the library passes over it
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {folder / ADAPTER} is of an adapter, which is not read here; "
            "merge it into its model by `merge_and_unload()` of PEFT, and give the merged model"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except LIBRARY_ERRORS as error:
        raise unreadable(card, f"the configuration in {folder}", error) from error
    if getattr(config, "quantization_config", None) is not None:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the weights in {folder} are quantised, as the "
            "quantization_config of its config.json says; give those that are not"
        )
    return config


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """Model of a directory, in float32 and evaluation mode.

    Attributes:
        pair: The model of two towers of which it is one, the other left out, or None.
        has_pooler: Whether its files hold every weight of its pooler, or it has none.
    """

    model: Any
    has_pooler: bool
    pair: Any = None


def load_model(
    tower: Tower, card: EncoderCard, weights: Weights, *, with_pooler: bool = False
) -> LoadedModel:
    """Load one tower of a directory in float32 and evaluation mode.

    The pooler has to be in the files if it is read, `with_pooler`.

    Raises:
        WeightsMismatchError: The files cannot be read, or some of the model's weights are missing
            from them or left over.
    """
    folder = model_folder(card, weights)
    with quiet():
        try:
            model, report = tower.model_class.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                ignore_mismatched_sizes=True,  # reported below, in one line
                output_loading_info=True,
                **tower.options,
            )
        except LIBRARY_ERRORS as error:
            raise unreadable(card, f"the model in {folder}", error) from error
    for name, actual, expected in sorted(report["mismatched_keys"]):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {name} must have shape {tuple(expected)} by config.json, "
            f"found {tuple(actual)}"
        )
    unused = ("decoder.",) if tower.in_decoder or tower.beside_decoder else ()
    others = tuple(f"{half}." for half in HALVES[OTHER[card.modality]])
    missing = [key for key in report["missing_keys"] if not key.startswith(unused)]
    unexpected = [
        key
        for key in report["unexpected_keys"]
        if not key.startswith((*unused, *others))
        and not any(pattern.search(key) for pattern in (_HEADS, _BUFFERS, _POOLER))
    ]
    if unexpected:
        written = _keys_of_writer(read_config(card, folder))
        unexpected = [key for key in unexpected if key not in written]
    check_keys(
        card,
        weights.origin,
        missing=[key for key in missing if with_pooler or not _POOLER.search(key)],
        unexpected=unexpected,
    )
    model = model.eval().requires_grad_(False)
    has_pooler = not any(_POOLER.search(key) for key in missing)
    if not tower.halves:
        return LoadedModel(model=model, has_pooler=has_pooler)
    leave_out_other_half(model, card.modality)
    half = next((getattr(model, name) for name in tower.halves if hasattr(model, name)), None)
    if half is None:
        raise not_plain(card, type(model).__name__)
    return LoadedModel(model=half, has_pooler=has_pooler, pair=model)


def leave_out_other_half(pair: nn.Module, modality: Modality) -> None:
    """Take the tower of the other modality out of a model of two, for half of the memory."""
    for name in HALVES[OTHER[modality]]:
        if hasattr(pair, name):
            setattr(pair, name, None)


def state_that_counts(model: nn.Module, *, with_pooler: bool = False) -> dict[str, torch.Tensor]:
    """Return the state of `model` without the pooler, which a file may lack and no token sees."""
    state = model.state_dict()
    return {name: state[name] for name in state if with_pooler or not _POOLER.search(name)}


def hash_config(card: EncoderCard, folder: Path) -> str:
    """Return the SHA-256 of config.json, without entries that change no number.

    The number of heads or an epsilon changes features and is in no tensor.
    """
    config = weight_files.read_config(card, folder / "config.json")
    return spec.fingerprint({key: config[key] for key in config if key not in _CONFIG_NOISE})


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the reports and progress bars of transformers, and restore them after."""
    verbosity = _library_logging.get_verbosity()
    bars = _library_logging.is_progress_bar_enabled()
    _library_logging.set_verbosity(logging.CRITICAL)
    _library_logging.disable_progress_bar()
    try:
        yield
    finally:
        _library_logging.set_verbosity(verbosity)
        if bars:
            _library_logging.enable_progress_bar()


def _keys_of_writer(config: Any) -> set[str]:
    """Return the keys of the class that wrote the files, such as one with a head for a task."""
    class_name = next(iter(getattr(config, "architectures", None) or ()), "")
    model_class: Any = getattr(transformers, str(class_name), None)
    if model_class is None:
        return set()
    try:
        with torch.device("meta"), quiet():  # without memory for the weights
            return set(model_class(config).state_dict())
    except LIBRARY_ERRORS:  # then nothing excuses what is left over
        return set()


def asks_earlier(layers: Sequence[int]) -> bool:
    """Return whether any of `layers` stands before the last."""
    return any(layer not in (LAST, POOLED) for layer in layers)


def last_state(output: Any, model: str) -> Tensor:
    """Return the tokens of the last layer.

    Raises:
        SpecError: The model gives none.
    """
    tokens = getattr(output, "last_hidden_state", None)
    if not isinstance(tokens, Tensor):
        raise SpecError(f"{model} gives no last hidden state, so that it has no tokens to store")
    return tokens


def hidden_state(output: Any, layer: int, model: str) -> Tensor:
    """Return the output of a block; hidden states begin with the embeddings.

    Raises:
        SpecError: The model has no such layer.
    """
    states = output.hidden_states
    if not -len(states) <= layer < 0:
        raise SpecError(f"{model} has layers -1 to {-len(states)}, found {layer}")
    state: Tensor = states[layer]
    return state
