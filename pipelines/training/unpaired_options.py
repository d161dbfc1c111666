"""The `[unpaired]` table of a preset: how much is learnt from items without a partner, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from ...featcache.config import Table, build
from ...featcache.settings import Setting, check_settings

UNPAIRED = "unpaired"  # the table, and what a run calls its stores


@dataclass(frozen=True, kw_only=True)
class UnpairedOptions:
    """Options of the `[unpaired]` table of a preset; see `adapters.klot.Klot` for the first four.

    Attributes:
        batch_size: Of either side; all of a store that has fewer.
        features: Of the teacher's vectors.
        teacher: Linear solver with its options, as in `[fit]`. It is solved on the training pairs,
            on averaged tokens of length 1.
    """

    weight: Annotated[float, Setting("Of KLOT in the loss.", least=0)] = 1.0
    temperature: Annotated[float, Setting("Of the plan among embeddings.", above=0)] = 0.05
    teacher_temperature: Annotated[float, Setting("Of the teacher's plan.", above=0)] = 0.005
    iterations: Annotated[int, Setting("Of Sinkhorn.", least=1)] = 100
    batch_size: Annotated[
        int,
        Setting(
            "Unpaired images per step, and as many texts.",
            least=2,
            fits="at least 2 (one item takes all there is)",
        ),
    ] = 512
    features: Annotated[
        int, Setting("Of the teacher; 0: as many as the narrower side has.", least=0)
    ] = 0
    teacher: Mapping[str, Any] = field(default_factory=lambda: {"part": "cca"})

    def __post_init__(self) -> None:
        check_settings(self, where=f"[{UNPAIRED}] ")

    @property
    def klot(self) -> dict[str, Any]:
        """Return the options of the loss."""
        names = ("weight", "temperature", "teacher_temperature", "iterations")
        return {name: getattr(self, name) for name in names}

    def width(self, widths: Mapping[Any, int]) -> int:
        """Return the features of the teacher, by those of a token of each side."""
        return self.features or min(widths.values())


def unpaired_options(table: Table) -> UnpairedOptions:
    """Return the `[unpaired]` table of a preset that has one.

    Raises:
        SpecError: An option is unknown or out of its range.
    """
    return build(UnpairedOptions, table[UNPAIRED], where=f"[{UNPAIRED}]")
