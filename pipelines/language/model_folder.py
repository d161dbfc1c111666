"""Folder of a transformers model that generates text: found, recognised and loaded."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from ...featcache.encoders.backends._checks import LIBRARY_ERRORS
from ...featcache.encoders.backends._transformers import quiet
from ...featcache.encoders.weights import ADAPTER, find_hub_folder
from ...featcache.errors import WeightsMismatchError, WeightsNotFoundError, one_line
from ...featcache.home import expanded
from ...featcache.regular_files import is_regular

_FETCHED = ("*.json", "*.txt", "*.jinja", "*.model", "*.safetensors")  # nothing that is unpickled
_MOST_BYTES = 2**26  # of a file that is no weights; large vocabularies have 20 MB
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def find_model(name: str, *, option: str) -> Path:
    """Return the folder of a model: as it is named, else of the hub cache or the hub.

    Args:
        name: A folder, or the name of a hub repository.
        option: Option that names it, for messages.

    Raises:
        WeightsNotFoundError: It is nowhere, or holds no configuration.
    """
    folder = expanded(Path(name))
    try:
        place = folder if folder.is_dir() else find_hub_folder(name, _FETCHED)
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{option}: {error}") from error
    if not is_regular(place / "config.json"):
        raise WeightsNotFoundError(f"{option} {name}: {place} holds no config.json of a model")
    if (place / ADAPTER).exists():
        raise WeightsMismatchError(
            f"{option} {name}: {place / ADAPTER} is of an adapter, which is not read here; merge "
            "it into its model, and give the merged model"
        )
    return place


def recorded_name(name: str, folder: Path) -> str:
    """Return what a report calls a model: the name of its repository, or of its folder alone."""
    return folder.absolute().name if expanded(Path(name)) == folder else name


def hash_of_folder(folder: Path) -> str:
    """Return a hash of the files of a model: of weights their sizes and times, else their content.

    Weights of a language model take minutes to read, which here only decides on what is asked
    again.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if not is_regular(path):
            continue
        state = path.stat()
        if path.suffix in _WEIGHTS or state.st_size > _MOST_BYTES:
            content = f"{state.st_size} {state.st_mtime_ns}".encode()
        else:
            content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def load_generator(auto_class: Any, folder: Path, *, option: str, device: torch.device) -> Any:
    """Return a model that generates, in evaluation mode, without remote code.

    On a GPU it has the precision of its files, else float32.

    Raises:
        WeightsMismatchError: The files are no such model, or some of its weights are not there.
    """

    def load() -> Any:
        return auto_class.from_pretrained(
            folder,
            dtype="auto" if device.type == "cuda" else torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
        )

    model, report = read(load, folder, option=option)
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsMismatchError(
            f"{option}: the weights in {folder} lack {len(missing)} of the model's, such as "
            f"{missing[0]}"
        )
    return model.eval().requires_grad_(False).to(device)


def read(load: Callable[[], Any], folder: Path, *, option: str) -> Any:
    """Return what a library reads from a folder, quietly.

    Raises:
        WeightsMismatchError: It cannot; the reason is in one line.
    """
    with quiet():
        try:
            return load()
        except LIBRARY_ERRORS as error:
            raise WeightsMismatchError(
                f"{option}: cannot read the model in {folder}: {one_line(error)}"
            ) from error


def greedy(model: Any, *, max_tokens: int, seconds: float | None = None) -> Any:
    """Return the options by which a model always generates the same text.

    Args:
        model: The model, whose own options name its first, last and padding tokens.
        max_tokens: New tokens, at most.
        seconds: Time after which it stops, or None for none.
    """
    own = model.generation_config
    ends = own.eos_token_id
    last = ends[0] if isinstance(ends, list) else ends
    generation: Any = transformers.GenerationConfig  # not typed
    return generation(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_tokens,
        max_time=seconds,
        bos_token_id=own.bos_token_id,
        eos_token_id=ends,
        decoder_start_token_id=own.decoder_start_token_id,
        pad_token_id=last if own.pad_token_id is None else own.pad_token_id,
    )
