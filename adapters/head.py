"""The contract of a head: vectors of what was read jointly in, logits out.

Axis names: `units` vectors, each of a row or of one of its tokens; `outputs` logits of a unit.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.registry import Registry
from ..featcache.types import Sides
from .options import construct, split_part

POOLED = "pooled"  # what a head reads that has one vector a row
# what the entries of a list are, and who has them, by the name of the list
LISTS = {
    "answers": ("answer", "questions with answers"),
    "tokens": ("token", "texts with masked variants"),
    "classes": ("class", "images with boxes of classes"),
}


@dataclass(frozen=True)
class HeadInputs:
    """Sizes and sides that a head is built for.

    Attributes:
        pooled_width: Features of the vector of a row.
        token_width: Features of a fused token.
        sides: The two sides, in the order that counts.
        listed: Entries of each list that heads tell apart, by its name, one of `LISTS`.
    """

    pooled_width: int
    token_width: int
    sides: Sides
    listed: Mapping[str, int] = field(default_factory=dict)


class Head(nn.Module, ABC):
    """Map vectors of what was read jointly to logits.

    A subclass takes `inputs` first and its own options keyword-only, with types and defaults in the
    signature: an entry of `[heads]` names `part` and any of them.

    Attributes:
        reads: What a vector is of: `POOLED`, a row, or the name of the side whose fused tokens it
            reads one by one.
        list_name: Name of the list of which it has an output for each entry, or None.
        num_outputs: Logits of a unit, which a subclass sets.
    """

    reads: ClassVar[str] = POOLED
    list_name: ClassVar[str | None] = None
    num_outputs: int

    @abstractmethod
    def forward(self, vectors: Float[Tensor, "units width"]) -> Float[Tensor, "units outputs"]:
        """Return the logits of each unit."""


HEADS: Registry[Head] = Registry(
    "head", f"{__package__}.heads", Path(__file__).parent / "heads", Head
)


def build_head(name: str, table: Any, inputs: HeadInputs) -> Head:
    """Build the head called `name`, which an entry of `[heads]` describes.

    Raises:
        SpecError: The entry names no part, an option is unknown, missing or wrong, or the head
            needs a list and there is none.
        UnknownNameError: No head has the name of the part.
    """
    where = f"[heads].{name}"
    part, options = split_part(table, where=where, example="itm")
    needed = HEADS.load(part).list_name
    if needed is not None and not inputs.listed.get(needed):
        entry, data_with_it = LISTS[needed]
        raise SpecError(
            f"{where} ({part}) has an output for each {entry} of a list, and the data have none: "
            f"take {data_with_it}"
        )
    return construct(HEADS, part, inputs, options=options, where=where)
