"""Prompt, length, case and pooling that a sentence-transformers directory adds to its model."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from typing_extensions import TypeIs

from ...documents import check
from ...errors import SpecError, StoreCorruptError, WeightsMismatchError
from .. import weights as weight_files
from ..card import EncoderCard
from ..sentence_modules import (
    MODELS,
    MODULES,
    POOLING,
    TRANSFORMER,
    WEIGHTED_MODULES,
    lacking_configurations,
    read_modules,
)
from ._checks import LIBRARY_ERRORS, hash_state, unreadable

PROMPTS = "config_sentence_transformers.json"
SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_OF_PROCESSOR = {"model_max_length", "padding_side", "use_fast", "clean_up_tokenization_spaces"}
_OF_MODEL = {"add_pooling_layer", "attn_implementation", "dtype", "torch_dtype", "use_safetensors"}
_OF_CONFIGURATION = {"use_cache"}
# Options of a model's module that change no number here, by their table; older names, too.
_INERT_OPTIONS = {
    "processor_kwargs": _OF_PROCESSOR,
    "tokenizer_args": _OF_PROCESSOR,
    "model_kwargs": _OF_MODEL,
    "model_args": _OF_MODEL,
    "config_kwargs": _OF_CONFIGURATION,
    "config_args": _OF_CONFIGURATION,
}
_INERT_EVERYWHERE = {"trust_remote_code", "local_files_only", "cache_dir", "token", "revision"}
_INERT_PROCESSING = {"padding", "return_tensors", "pad_to_multiple_of"}  # where a text is tokenised
_OUTPUT = {"method": "forward", "method_output_name": "last_hidden_state"}  # what is pooled
_INPUT = {False: "token_embeddings", True: "sentence_embedding"}  # of modules, by whether behind
_LONGEST = 1_000_000  # tokens; a tokenizer without a limit of its own states a larger number
_ACTIVATIONS = ("GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SiLU", "Sigmoid", "Tanh")
KNOWN_MODULES = {*WEIGHTED_MODULES, "Normalize", "Dropout"}
MODES = {  # by the flags of older directories, in the order in which they are joined
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, kw_only=True)
class SentenceSettings:
    """Settings of a sentence-transformers directory, for each text and then for its tokens.

    Attributes:
        prompt: What stands before every text.
        include_prompt: Whether the prompt's own tokens are pooled.
        max_tokens: Tokens to which a text is cut, or None.
        modules: Type and folder of each module behind the model, in order.
    """

    folder: Path
    prompt: str = ""
    include_prompt: bool = True
    lower_case: bool = False
    max_tokens: int | None = None
    modules: tuple[tuple[str, Path], ...] = ()


def read_settings(card: EncoderCard, folder: Path) -> SentenceSettings | None:
    """Return the settings of a sentence-transformers directory, or None of any other.

    Raises:
        WeightsMismatchError: They cannot be read, its first module is no model, or the card names a
            prompt that is not there.
    """
    modules = read_modules(card, folder)
    if modules is None:
        if card.prompt is None:
            return None
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the card names prompt {card.prompt!r:.80}, but {folder} is no "
            f"directory of sentence-transformers, which keeps prompts beside its {MODULES}"
        )
    first, model = modules[0] if modules else ("none", folder)
    if first not in MODELS:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {folder / MODULES} begins with module {first!r:.60}; only "
            f"those that begin with a {TRANSFORMER} can be read"
        )
    check_configurations(card, folder, modules)
    settings = next(filter(None, (_read(card, model / file) for file in SETTINGS)), {})
    pooling = next((place for kind, place in modules[1:] if kind == POOLING), None)
    _check_options(card, model, settings, pools=pooling is not None)
    pooled = {} if pooling is None else _read(card, pooling / "config.json")
    return SentenceSettings(
        folder=folder,
        prompt=_prompt(card, folder),
        include_prompt=bool(pooled.get("include_prompt", True)),
        lower_case=bool(settings.get("do_lower_case", False)),
        max_tokens=_max_tokens(card, model, settings),
        modules=modules[1:],
    )


def check_configurations(
    card: EncoderCard, folder: Path, modules: Sequence[tuple[str, Path]]
) -> None:
    """Refuse a directory that lacks the configuration of a module that makes its vector."""
    for path in lacking_configurations(modules):
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {path} is not there, which {folder / MODULES} needs to make "
            "one vector of a text; copy the whole directory"
        )


class SentencePooling(nn.Module):
    """Make one vector of the tokens of a text, by the modules of a sentence-transformers directory.

    Attributes:
        identity: All that changes the vector but does not change the tokens, as JSON values.

    Raises:
        SpecError: The directory pools by a module that is not known here.
        WeightsMismatchError: The weights of a module cannot be read.
    """

    def __init__(self, card: EncoderCard, settings: SentenceSettings) -> None:
        super().__init__()
        kinds = [kind for kind, _ in settings.modules]
        if kinds.count(POOLING) != 1:
            raise SpecError(
                f"features 'pooled': the modules of {settings.folder} are Transformer, "
                f"{', '.join(kinds) or 'and no other'}: one of them must be Pooling"
            )
        self.modes: tuple[str, ...] = ()
        self.include_prompt = settings.include_prompt
        self.before = nn.ModuleList()
        self.after = nn.ModuleList()
        described: list[object] = []
        for kind, place in settings.modules:
            config = _read(card, place / "config.json")
            described.append([kind, config])
            if kind == POOLING:
                self.modes = pooling_modes(config)
                continue
            behind = bool(self.modes)
            _check_names(card, kind, config, behind=behind)
            (self.after if behind else self.before).append(_build(card, kind, place, config))
        self.eval().requires_grad_(False)
        self.identity = {"modules": described, "weights": hash_state(self.state_dict())}

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        mask: Bool[Tensor, "batch tokens"],
        prompt_tokens: int = 0,
    ) -> Float[Tensor, "batch one out"]:
        """Return the vector of each text as its only token; padding is on the right.

        The first `prompt_tokens`, special ones included, are those of the prompt.
        """
        for module in self.before:
            tokens = module(tokens)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        pooled = mask if self.include_prompt else mask & (places >= prompt_tokens)
        vectors = torch.cat([_pool(mode, tokens, pooled) for mode in self.modes], dim=1)
        for module in self.after:
            vectors = module(vectors)
        return vectors[:, None]


def _check_names(card: EncoderCard, kind: str, config: Mapping[str, Any], *, behind: bool) -> None:
    """Refuse a module that reads or writes what the next one would not read."""
    read = config.get("module_input_name", _INPUT[True])
    written = config.get("module_output_name") or read
    if not (read == written == _INPUT[behind]):
        raise SpecError(
            f"features 'pooled' of encoder {card.name!r}: module {kind:.60} reads {read!r:.60} and "
            f"writes {written!r:.60}; {'behind' if behind else 'before'} the pooling only one of "
            f"{_INPUT[behind]!r} is known here; take 'mean', 'cls' or 'last'"
        )


def _pool(
    mode: str, tokens: Float[Tensor, "batch tokens width"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch width"]:
    real = mask[:, :, None]
    places = torch.arange(tokens.shape[1], device=tokens.device)
    if mode in ("cls", "lasttoken"):
        ends = mask.int().argmax(dim=1) if mode == "cls" else (mask * places).amax(dim=1)
        return tokens[torch.arange(tokens.shape[0], device=ends.device), ends]
    if mode == "max":
        return tokens.masked_fill(~real, float("-inf")).amax(dim=1)
    if mode == "weightedmean":
        weights = (mask * (places + 1)).to(tokens.dtype)[:, :, None]
        return (torch.where(real, tokens, 0) * weights).sum(dim=1) / weights.sum(dim=1)
    counts = real.sum(dim=1).to(tokens.dtype)
    divisor = counts if mode == "mean" else counts.sqrt()
    return torch.where(real, tokens, 0).sum(dim=1) / divisor


class _Normalize(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1)


class _Dense(nn.Module):
    def __init__(self, config: Mapping[str, Any], activation: nn.Module) -> None:
        super().__init__()
        width, out = int(config["in_features"]), int(config["out_features"])
        self.linear = nn.Linear(width, out, bias=bool(config.get("bias", True)))
        self.activation = activation
        self.use_residual = bool(config.get("use_residual", False))
        if self.use_residual and width != out:
            self.residual = nn.Linear(width, out, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.activation(self.linear(vectors))
        if not self.use_residual:
            return out
        return out + (self.residual(vectors) if hasattr(self, "residual") else vectors)


def _build(card: EncoderCard, kind: str, place: Path, config: Mapping[str, Any]) -> nn.Module:
    if kind == "Normalize":
        return _Normalize()
    if kind == "Dropout":
        return nn.Identity()  # nothing is dropped outside training
    if kind not in WEIGHTED_MODULES:
        raise SpecError(
            f"features 'pooled' of encoder {card.name!r}: sentence-transformers module {kind:.60} "
            "is not known here; take 'mean', 'cls' or 'last'"
        )
    try:
        module: nn.Module
        if kind == "LayerNorm":
            module = nn.Sequential(OrderedDict(norm=nn.LayerNorm(int(config["dimension"]))))
        else:
            module = _Dense(config, _activation(config))
        path = place / "model.safetensors"
        module.load_state_dict(
            load_file(path)
            if path.is_file()
            else torch.load(place / "pytorch_model.bin", map_location="cpu", weights_only=True)
        )
    except LIBRARY_ERRORS as error:
        raise unreadable(card, f"module {kind} in {place}", error) from error
    return module


def _activation(config: Mapping[str, Any]) -> nn.Module:
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    package, _, last = str(name).rpartition(".")
    if not package.startswith("torch.nn") or last not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r:.80} is not one of {', '.join(_ACTIVATIONS)}")
    activation: nn.Module = getattr(nn, last)()
    return activation


def pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return by what modes a module pools, in the order in which their vectors are joined.

    Raises:
        SpecError: One of them is not known here.
    """
    mode = config.get("pooling_mode")
    if mode is None:
        return tuple(name for flag, name in MODES.items() if config.get(flag)) or ("mean",)
    modes: Sequence[str] = [mode] if isinstance(mode, str) else mode
    if not modes:
        raise SpecError(f"the pooling names no mode; known are {sorted(MODES.values())}")
    unknown = sorted({str(name) for name in modes} - set(MODES.values()))
    if unknown:
        raise SpecError(f"pooling mode {unknown[0]!r:.60} is none of {sorted(MODES.values())}")
    return tuple(modes)


def _prompt(card: EncoderCard, folder: Path) -> str:
    """Return what stands before every text: the prompt that the card names, or the default one."""
    path = folder / PROMPTS
    table = _read(card, path)
    try:
        prompts = check(
            table.get("prompts") or {}, dict[str, str | None], where=f"prompts in {path}"
        )
    except StoreCorruptError as error:
        raise WeightsMismatchError(f"encoder {card.name!r}: {error}") from error
    name = card.prompt if card.prompt is not None else table.get("default_prompt_name")
    if name is None:
        return ""
    if name not in prompts:
        whose = "its default prompt" if card.prompt is None else "the prompt of the card"
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {path} has no prompt {name!r:.80}, {whose}; it has "
            f"{sorted(prompts) or 'none'}"
        )
    return prompts[name] or ""


def _max_tokens(card: EncoderCard, folder: Path, settings: Mapping[str, Any]) -> int | None:
    """Return the length to which sentence-transformers cuts a text, or None."""
    stated = length_of_settings(settings)
    if stated is None:
        stated = _read(card, folder / "tokenizer_config.json").get("model_max_length")
    if is_length(stated):
        return int(stated)
    if isinstance(stated, int | float) and stated < 1:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: {folder} cuts texts at {stated} tokens, fewer than one"
        )
    return None


def length_of_settings(settings: Mapping[str, Any]) -> Any:
    """Return the longest text that the settings of a model's module state, or None."""
    options = settings.get("processor_kwargs") or settings.get("tokenizer_args") or {}
    return options.get("model_max_length") or settings.get("max_seq_length")


def is_length(stated: Any) -> TypeIs[int | float]:
    """Return whether a file states a longest text, and not that it has no limit."""
    return (
        isinstance(stated, int | float) and not isinstance(stated, bool) and 1 <= stated <= _LONGEST
    )


def _check_options(
    card: EncoderCard, model: Path, settings: Mapping[str, Any], *, pools: bool
) -> None:
    """Refuse options by which sentence-transformers reads other tokens, or runs another model."""
    odd = [
        f"{name}.{option}"
        for name, inert in _INERT_OPTIONS.items()
        for option in settings.get(name) or {}
        if option not in inert | _INERT_EVERYWHERE
    ]
    processing = settings.get("processing_kwargs") or {}
    odd += [
        f"processing_kwargs.{name}.{option}"
        for name in ("common", "text")
        for option in processing.get(name) or {}
        if option not in _INERT_PROCESSING
    ]
    odd += ["tokenizer_name_or_path"] if settings.get("tokenizer_name_or_path") else []
    inputs = settings.get("modality_config")
    if inputs is not None and "text" not in inputs:
        odd.append("modality_config without text")
    elif inputs is not None and pools and inputs["text"] != _OUTPUT:
        odd.append("modality_config.text")
    if odd:
        raise WeightsMismatchError(
            f"encoder {card.name!r}: the settings of sentence-transformers in {model} have "
            f"{odd[0]:.80}, which is not known here and would change the features"
        )


def _read(card: EncoderCard, path: Path) -> dict[str, Any]:
    return weight_files.read_config(card, path) if path.is_file() else {}
