"""Settings and report of a page about runs; nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path

from ...featcache.config import check_counts
from ..common.destinations import check_file


@dataclass(frozen=True, kw_only=True)
class ReportSpec:
    """Settings of one page about runs.

    Attributes:
        home: Folder of everything lightalign keeps.
        runs: Names or folders of runs, and JSON files of evaluations in which no run took part;
            none is the newest run.
        out: File to write, or None for `report.html` in the only run or the HTML file beside the
            only evaluation, or `report-NAMES.html` in `home/evaluations` of several.
        data: `NAME=PATH` of each dataset whose pictures and texts have moved.
        failures: Worst answers of each evaluation that are shown, at most.
        force: Replace a file at `out` that is no page of ours.
    """

    home: Path
    runs: tuple[str, ...] = ()
    out: Path | None = None
    data: tuple[str, ...] = ()
    failures: int = 24
    force: bool = False

    def __post_init__(self) -> None:
        check_counts(self, {"failures": 0}, where="--")
        if self.out is not None:
            check_file(self.out, option="--out", force=self.force)


@dataclass(frozen=True, kw_only=True)
class ReportReport:
    """Report of one written page.

    Attributes:
        path: The page.
        bytes: Its size.
        runs: Names of the runs, and of the files of evaluations.
        evaluations: How many evaluations it shows.
        notes: What it could not show.
    """

    path: Path
    bytes: int
    runs: tuple[str, ...]
    evaluations: int
    notes: tuple[str, ...]
