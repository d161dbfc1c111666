"""Modules of a sentence-transformers directory and their folders; nothing here imports torch.

Its `modules.json` lists them. The first one, the model, lies in the directory itself, or as older
versions wrote it in a folder of its own, such as `0_Transformer` or `0_CLIPModel`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..documents import check, read_json
from ..errors import StoreCorruptError, WeightsMismatchError
from .card import EncoderCard

MODULES = "modules.json"
TRANSFORMER = "Transformer"
MODELS = (TRANSFORMER, "CLIPModel")  # modules that are a model of transformers
POOLING = "Pooling"
WEIGHTED_MODULES = ("Dense", "LayerNorm")  # behind or before the pooling
_CONFIGURED_MODULES = (POOLING, *WEIGHTED_MODULES)  # nothing of which has a default


def read_modules(card: EncoderCard, folder: Path) -> tuple[tuple[str, Path], ...] | None:
    """Return type and folder of each module, in order, or None of any other directory.

    Raises:
        WeightsMismatchError: They cannot be read, or one lies outside of the directory.
    """
    path = folder / MODULES
    if not path.is_file():
        return None
    try:
        entries = check(read_json(path), list[dict[str, Any]], where=path)
    except StoreCorruptError as error:
        raise WeightsMismatchError(f"encoder {card.name!r}: {error}") from error
    modules = []
    for entry in entries:
        place = Path(str(entry.get("path", "")))
        if place.is_absolute() or ".." in place.parts:
            raise WeightsMismatchError(
                f"encoder {card.name!r}: {path} names {str(place)!r:.80}, outside of its directory"
            )
        modules.append((str(entry.get("type", "")).rpartition(".")[2], folder / place))
    return tuple(modules)


def lacking_configurations(modules: Sequence[tuple[str, Path]]) -> list[Path]:
    """Return the configurations that modules cannot be built without, and that are not there."""
    paths = [place / "config.json" for kind, place in modules if kind in _CONFIGURED_MODULES]
    return [path for path in paths if not path.is_file()]


def model_place(card: EncoderCard, folder: Path) -> Path:
    """Return the folder of a hub directory that holds configuration and weights.

    Raises:
        WeightsMismatchError: It is one of sentence-transformers whose modules cannot be read.
    """
    modules = read_modules(card, folder)
    return modules[0][1] if modules and modules[0][0] in MODELS else folder
