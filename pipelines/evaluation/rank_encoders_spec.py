"""Settings and report of a ranking of encoders; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.bounds import MOST, MOST_SEED
from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Home, SourceOptions

FEWEST_FOR_LAYERS = 16  # items: see `inputs.layer_ranking`
USUAL_NEIGHBOURS = 10
FEWEST = 80  # items: of the 16 that are held out R@10 is 62.5 % by chance, and of 50 items 100 %


@dataclass(frozen=True, kw_only=True)
class RankSpec:
    """Settings of one ranking of encoders.

    Attributes:
        data: `NAME` of a dataset, for the newest stores; `NAME=PATH` for those of the dataset as it
            is there now.
        split: Its items are no longer unseen.
        layers: `all` ranks pairs of stores by mutual nearest neighbours alone.
        items: They bound memory and time.
        neighbours: The k of mutual nearest neighbours.
    """

    home: Home
    data: Annotated[str | None, Setting("Dataset; the newest stores if none.")] = None
    source: SourceOptions = None
    split: Annotated[str, Setting("Split whose features are compared.")] = "train"
    layers: Annotated[
        str | None,
        Setting("all: rank all stored layers and kinds, not encoders.", choices=("all",)),
    ] = None
    items: Annotated[int, Setting("Most images that are drawn.", least=1, most=MOST)] = 2000
    neighbours: Annotated[
        int | None,
        Setting(
            "Neighbours that two encoders may share; 10, of n items for layers 2 n^(1/3), if none.",
            least=1,
            most=MOST,
        ),
    ] = None
    seed: Annotated[int, Setting("Seed of the draw.", least=0, most=MOST_SEED)] = 0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.layers is not None:
            if self.items < FEWEST_FOR_LAYERS:
                raise SpecError(
                    f"items must be at least {FEWEST_FOR_LAYERS} for layers, found {self.items}: "
                    "of fewer, two layers share most neighbours by chance"
                )
        elif self.items < FEWEST:
            raise SpecError(
                f"items must be at least {FEWEST}, found {self.items}: a fifth is held out, and "
                "R@10 of few is high by chance"
            )


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """Report of one ranking of encoders.

    Attributes:
        path: The report file, or None where it may not be written.
        report: Its content; `metrics` has the most promising pair of encoders first.
    """

    path: Path | None
    report: Mapping[str, Any]
