"""Settings and report of a page about runs; nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ...featcache.bounds import MOST
from ...featcache.settings import Setting, check_settings
from ..common.destinations import check_file
from ..common.shared_settings import Home


@dataclass(frozen=True, kw_only=True)
class ReportSpec:
    """Settings of one page about runs.

    Attributes:
        runs: Names or folders of runs, and JSON files of evaluations in which no run took part.
        out: File to write, or None for `report.html` in the only run or the HTML file beside the
            only evaluation, or `report-NAMES.html` in `home/evaluations` of several.
    """

    home: Home
    runs: Annotated[
        tuple[str, ...],
        Setting(
            "Runs, and JSON files of evaluations; the newest run if none.",
            argument=True,
            flag="run",
        ),
    ] = ()
    out: Annotated[
        Path | None, Setting("HTML file to write; one in the run or beside the file if none.")
    ] = None
    data: Annotated[
        tuple[str, ...],
        Setting("NAME=PATH of a dataset that has moved, for its pictures; repeatable."),
    ] = ()
    failures: Annotated[
        int, Setting("Worst answers that are shown of each evaluation.", least=0, most=MOST)
    ] = 24
    force: Annotated[bool, Setting("Replace a file at --out that is no page of ours.")] = False

    def __post_init__(self) -> None:
        check_settings(self, where="--")
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
