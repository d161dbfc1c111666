"""Where a sentence-transformers directory has its modules; nothing here imports torch.

Its `modules.json` lists them. The first one, the model, lies in the directory itself, or as older
versions wrote it in a folder of its own, such as `0_Transformer` or `0_CLIPModel`.
"""

from pathlib import Path
from typing import Any

from .card import EncoderCard
from .documents import check, read_json
from .errors import StoreCorruptError, WeightsMismatchError

MODULES = "modules.json"
TRANSFORMER = "Transformer"
MODELS = (TRANSFORMER, "CLIPModel")  # modules that are a model of transformers
WEIGHTED_MODULES = ("Dense", "LayerNorm")  # behind or before the pooling


def read_modules(card: EncoderCard, folder: Path) -> tuple[tuple[str, Path], ...]:
    """Return type and folder of each module, in order.

    Raises:
        WeightsMismatchError: They cannot be read, or one lies outside of the directory.
        FileNotFoundError: The directory lists none.
    """
    path = folder / MODULES
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


def model_place(card: EncoderCard, folder: Path) -> Path:
    """Return the folder of a hub directory that holds configuration and weights.

    Raises:
        WeightsMismatchError: It is one of sentence-transformers whose modules cannot be read.
    """
    if not (folder / MODULES).is_file():
        return folder
    modules = read_modules(card, folder)
    return modules[0][1] if modules and modules[0][0] in MODELS else folder
