"""A linear map from embeddings to scores of classes, and how it is kept on disk."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import TypedDict

from ..featcache.atomic_files import write_bytes
from ..featcache.config import canonical_json
from ..featcache.documents import check
from ..featcache.errors import RunNotFoundError, SpecError, StoreCorruptError
from .checkpoint import HASHES, check_shapes, read_tensors, tensor_hash


class _Entry(TypedDict):
    """Our entry of the metadata of a saved head."""

    classes: list[str]
    tensors: str


class ClassHead(nn.Module):
    """Score classes: W s (x - m) + b, or W_2 (W_1 s (x - m) + b_1) + b_2 with `hidden` features.

    m and s are a vector and a number that are set once and not trained: embeddings have a length
    of one and a common mean, and steps of a plain gradient would crawl. There is no non-linearity
    between two matrices, as published: they are one matrix of a lower rank.

    Source: lightweightCRL, commit e3421ad, the linear classification and "fine-tuning" notebooks;
    there m = 0 and s = 1, on embeddings that are not normalised.

    Args:
        width: Features of an embedding.
        num_classes: Classes, at least 2.
        hidden: Features between two matrices, or 0 for one matrix.

    Raises:
        SpecError: A size is out of range.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, num_classes: int, *, hidden: int = 0) -> None:
        super().__init__()
        if width < 1 or num_classes < 2 or hidden < 0:
            raise SpecError(
                "a head of classes needs a positive width, two classes and hidden of at least 0, "
                f"found {width}, {num_classes}, {hidden}"
            )
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
        sizes = [width, hidden, num_classes] if hidden else [width, num_classes]
        self.layers = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(sizes)))

    def set_scaling(self, mean: Float[Tensor, " width"], scale: float) -> None:
        """Set the mean that is subtracted from embeddings, and the factor that comes after."""
        with torch.no_grad():
            self.mean.copy_(mean)
            self.scale.fill_(scale)

    def forward(self, embeddings: Float[Tensor, "batch width"]) -> Float[Tensor, "batch classes"]:
        """Return a score of each class, in logits."""
        scores: Tensor = self.layers((embeddings - self.mean) * self.scale)
        return scores


def save_head(path: Path, head: ClassHead, names: Sequence[str]) -> None:
    """Save a head with the names of its classes, atomically."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in head.state_dict().items()}
    entry = {"classes": list(names), "tensors": tensor_hash(tensors)}
    write_bytes(path, safetensors.torch.save(tensors, {HASHES: canonical_json(entry)}))


def load_head(path: Path) -> tuple[ClassHead, tuple[str, ...]]:
    """Load a head, on the CPU and in evaluation mode, and the names of its classes.

    Raises:
        RunNotFoundError: The file is not there.
        StoreCorruptError: It is damaged.
    """
    if not path.is_file():
        raise RunNotFoundError(f"no head of classes: {path} is not there; run `fine-tune` first")
    tensors, entry = read_tensors(path)
    if entry.get("tensors") != tensor_hash(tensors):
        raise StoreCorruptError(f"{path} is damaged: its tensors do not match their checksum")
    names = tuple(check(entry, _Entry, where=f"{path}: metadata")["classes"])
    first, mean = tensors.get("layers.0.weight"), tensors.get("mean")
    if first is None or mean is None or 0 in (first.numel(), mean.numel()):
        raise StoreCorruptError(f"{path} holds no head of classes")
    hidden = first.shape[0] if "layers.1.weight" in tensors else 0
    with torch.device("meta"):
        outline = ClassHead(mean.numel(), len(names), hidden=hidden)
    check_shapes(outline.state_dict(), tensors, where=path)
    head = ClassHead(mean.numel(), len(names), hidden=hidden)
    head.load_state_dict(tensors)
    return head.eval(), names
