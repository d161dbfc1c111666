"""The contract of one part of a tower."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.tokens import Tokens
from ..featcache.types import IMAGE_TEXT, Side, Sides

# of one kind in one part, each several objects; the deepest nets have hundreds
_MOST_MODULES = 1000


def check_repeats(name: str, count: int) -> None:
    """Check how many modules of a kind a part has, one after the other or side by side.

    Raises:
        SpecError: They are so many that building them would not come to an end.
    """
    if count > _MOST_MODULES:
        raise SpecError(f"{name} must be at most {_MOST_MODULES:,}, found {count}")


def start_alike(layers: nn.ModuleList) -> None:
    """Copy the weights of the first layer to all, as PyTorch's stacks of layers start."""
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict())


class Step(nn.Module, ABC):
    """Map tokens to tokens; a tower is a sequence of steps.

    A subclass takes `width` (features of one input token) first and its own options keyword-only,
    with types and defaults in the signature: a preset table names `part` and any of them.

    Args:
        width: Features of one output token, which a subclass hands up.

    Attributes:
        out_width: Features of one output token.
        exact: Whether a tower with it takes features as they are under autocast, where they would
            be rounded at its entry: differences of features lose more by that than products.
        fixed: Whether a row's result is the same at every step of a training: nothing is trained,
            fitted or drawn in it, and it depends on neither other rows nor padding.
        mixes: Whether a token of the result depends on other tokens of its row.
        sides: What both sides of the adapter are.
    """

    exact: ClassVar[bool] = False
    fixed: bool = False
    mixes: ClassVar[bool] = False
    sides: Sides = IMAGE_TEXT

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_width = width

    @abstractmethod
    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the transformed tokens; a pooling step returns one token a row.

        A row's result never depends on the other rows of the batch nor on padding, except where
        an option that repeats a published system says so (`masked = false`).
        """


class FittedStep(Step):
    """Step that looks at the training rows once, before the first step of a training.

    What it takes from them it holds in buffers. Until then it may do anything that has its shapes.
    """

    exact = True

    @abstractmethod
    def fit(self, mean: Float[Tensor, " width"], variance: Float[Tensor, " width"]) -> None:
        """Fit to mean and variance of each input feature over the training rows of its side.

        A row is the one token that a step after a pool reads.
        """


class BankStep(Step):
    """Step behind both towers that looks at what they make of training rows once, after a training.

    `[finish]` of a preset adds it. What it takes it holds in buffers; until then it may do anything
    that has its shapes.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Return how many rows of the other side it takes at most."""

    @abstractmethod
    def fill(
        self,
        rows: Float[Tensor, "n width"],
        other_rows: Float[Tensor, "m width"],
    ) -> None:
        """Take what the towers make of training rows of the step's side and of the other one."""
