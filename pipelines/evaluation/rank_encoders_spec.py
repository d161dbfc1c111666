"""Settings and report of a ranking of encoders; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.config import check_counts, check_seed
from ...featcache.errors import SpecError

FEWEST = 80  # items: of the 16 that are held out R@10 is 62.5 % by chance, and of 50 items 100 %


@dataclass(frozen=True, kw_only=True)
class RankSpec:
    """Settings of one ranking of encoders.

    Attributes:
        home: Folder of everything lightalign keeps.
        data: `NAME` of a dataset, or None, for the newest stores; `NAME=PATH` for those of the
            dataset as it is there now.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        split: Split whose features are compared; its items are no longer unseen.
        items: Most images that are drawn, which bounds memory and time.
        neighbours: The k of mutual nearest neighbours.
        seed: Seed of the draw.
    """

    home: Path
    data: str | None = None
    source: Mapping[str, Any] | None = None
    split: str = "train"
    items: int = 2000
    neighbours: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.items < FEWEST:
            raise SpecError(
                f"items must be at least {FEWEST}, found {self.items}: a fifth is held out, and "
                "R@10 of few is high by chance"
            )
        check_counts(self, {"items": FEWEST, "neighbours": 1})
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """Report of one ranking of encoders.

    Attributes:
        path: The report file, or None where it may not be written.
        report: Its content; `metrics` has the most promising pair of encoders first.
    """

    path: Path | None
    report: Mapping[str, Any]
