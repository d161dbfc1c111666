"""The contract of a head: rows that were read jointly in, logits out.

Axis names: `batch` rows, `outputs` logits of a row.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.registry import Registry
from ..featcache.types import Sides
from .joint_tokens import Joint
from .options import construct, split_part


@dataclass(frozen=True)
class HeadInputs:
    """Sizes and sides that a head is built for.

    Attributes:
        pooled_width: Features of the vector of a row.
        token_width: Features of a fused token.
        sides: The two sides, in the order that counts.
        num_answers: Answers of the list that questions are answered from, or None without one.
    """

    pooled_width: int
    token_width: int
    sides: Sides
    num_answers: int | None = None


class Head(nn.Module, ABC):
    """Map rows that were read jointly to logits.

    A subclass takes `inputs` first and its own options keyword-only, with types and defaults in the
    signature: an entry of `[heads]` names `part` and any of them.

    Attributes:
        needs_answers: Whether it has an output for each answer of a list.
        num_outputs: Logits of a row, which a subclass sets.
    """

    needs_answers: ClassVar[bool] = False
    num_outputs: int

    @abstractmethod
    def forward(self, joint: Joint) -> Float[Tensor, "batch outputs"]:
        """Return the logits of each row."""


HEADS: Registry[Head] = Registry(
    "head", f"{__package__}.heads", Path(__file__).parent / "heads", Head
)


def build_head(name: str, table: Any, inputs: HeadInputs) -> Head:
    """Build the head called `name`, which an entry of `[heads]` describes.

    Raises:
        SpecError: The entry names no part, an option is unknown, missing or wrong, or the head
            needs a list of answers and there is none.
        UnknownNameError: No head has the name of the part.
    """
    where = f"[heads].{name}"
    part, options = split_part(table, where=where, example="itm")
    if HEADS.load(part).needs_answers and not inputs.num_answers:
        raise SpecError(
            f"{where} ({part}) has an output for each answer of a list, and the data have none: "
            "take questions with answers"
        )
    return construct(HEADS, part, inputs, options=options, where=where)
