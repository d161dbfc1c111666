"""The `[distil]` table of a preset: how much a student takes on of an ensemble."""

from dataclasses import dataclass
from typing import Annotated

from ...featcache.config import Table, build
from ...featcache.settings import Setting, check_settings

DISTIL = "distil"  # the table, and the way of `--ensemble` that it is of


@dataclass(frozen=True, kw_only=True)
class DistilOptions:
    """Options of the `[distil]` table of a preset; see `adapters.distillation.Distilled`."""

    weight: Annotated[float, Setting("Of the distillation in the loss.", least=0)] = 1.0
    temperature: Annotated[
        float, Setting("Of both softmaxes over cosines, in units of a cosine.", above=0)
    ] = 0.05

    def __post_init__(self) -> None:
        check_settings(self, where=f"[{DISTIL}] ")


def distil_of(table: Table) -> DistilOptions | None:
    """Return the `[distil]` table of a preset that has one."""
    if DISTIL not in table:
        return None
    return build(DistilOptions, table[DISTIL], where=f"[{DISTIL}]")
