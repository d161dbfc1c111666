"""Vectors that a model of transformers itself pools from items, projected where it projects."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

from ...errors import SpecError
from ...types import Modality
from ..card import EncoderCard
from ..weights import Weights
from ._checks import hash_state
from ._towers import VERBS, Tower, is_pair
from ._transformers import LoadedModel, leave_out_other_half, load_model

_PROJECTED = {Modality.IMAGE: "image_embeds", Modality.TEXT: "text_embeds"}
_PROJECTING = "WithProjection"


@dataclass(frozen=True)
class Pooling:
    """Call of a model that returns the pooled vector of an item together with its tokens.

    Attributes:
        model: All that runs.
        run: Takes what the model takes, and returns an output with `vector` beside the tokens.
        vector: Attribute of the output that holds the vector.
    """

    model: Any
    run: Callable[..., Any]
    vector: str

    @cached_property
    def identity(self) -> dict[str, object]:
        """Return all that changes the vector but does not change the tokens, as JSON values."""
        return {
            "output": self.vector,
            "model": type(self.model).__name__,
            "weights": hash_state(self.model.state_dict()),
        }

    def of(self, output: Any) -> Float[Tensor, "batch one width"]:
        """Return the vector of each item as its only token.

        Raises:
            SpecError: There is none, or there are several.
        """
        vectors = getattr(output, self.vector, None)
        if not isinstance(vectors, Tensor):
            raise _without_pooled(self.model)
        if vectors[0].numel() != vectors.shape[1]:
            raise SpecError(
                f"features 'pooled' are one vector an item, but the {self.vector} of "
                f"{type(self.model).__name__} has shape {tuple(vectors.shape)}; take 'mean' or "
                "'tokens'"
            )
        return vectors.flatten(1).unsqueeze(1)


def find_pooling(
    card: EncoderCard, weights: Weights, config: Any, loaded: LoadedModel, device: torch.device
) -> Pooling:
    """Return what pools: the projection of a pair or of a tower that has one, else its pooler.

    The tower that gives the tokens is `loaded` from `weights`, a directory with `config`.

    Raises:
        SpecError: The model pools nothing, or its pooler was never trained.
        WeightsMismatchError: The files lack some of what pools.
    """
    if is_pair(config):
        model = loaded.pair
        if model is None:  # the tower has a class of its own, without the projection
            pair = Tower(model_class=transformers.AutoModel)
            model = load_model(pair, card, weights, with_pooler=True).model
            leave_out_other_half(model, card.modality)
        elif not loaded.has_pooler:
            raise _untrained(model)
        run = getattr(model, VERBS[card.modality], None)
        if run is None:
            raise _without_pooled(model)
        return Pooling(model.to(device), run, "pooler_output")
    class_name = next(iter(getattr(config, "architectures", None) or ()), "")
    if class_name.endswith(_PROJECTING) and hasattr(transformers, class_name):
        tower = Tower(model_class=getattr(transformers, class_name))
        model = load_model(tower, card, weights, with_pooler=True).model.to(device)
        return Pooling(model, model, _PROJECTED[card.modality])
    if not loaded.has_pooler:
        raise _untrained(loaded.model)
    return Pooling(loaded.model, loaded.model, "pooler_output")


def _untrained(model: Any) -> SpecError:
    return SpecError(
        f"features 'pooled': the files of {type(model).__name__} hold no weights of its pooler, so "
        "that it was never trained; take 'mean' or 'tokens'"
    )


def _without_pooled(model: Any) -> SpecError:
    return SpecError(
        f"{type(model).__name__} has no pooled output of its own; take 'mean' or 'tokens'"
    )
