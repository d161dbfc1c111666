"""The frame of an evaluation, from the data that is asked for to the report that is written.

Every verb that measures something fills it: `require` chooses the stores, `check_leakage` compares
them with the training of the run, and `write` makes the report of what the verb has set.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...featcache import atomic_files
from ...featcache.config import fingerprint
from ...featcache.errors import StoreCorruptError
from ...featcache.sources.opening import absolute_data
from ...featcache.store import trust
from ...featcache.store.catalog import StoreEntry
from ...featcache.types import Side
from ..common.progress import SILENT, Progress
from ..common.versions import library_versions
from ..inputs.store_selection import DatasetQuery, SideQuery, StoreQuery, require_stores
from ..metrics.number import SCHEMA, split_hash, written
from . import run_folder
from .leakage import EvaluatedItems, Leakage, find_leakage
from .trained_run import TrainedRun


@dataclass(kw_only=True)
class Evaluation:
    """One evaluation of a split: what is asked for, and what the verb measures.

    Attributes:
        kind: Name of the evaluation.
        run: The run, or None where no adapter takes part.
        stores: Store of each part that was read, by a name such as `image`; the first is of the
            dataset and the split.
        ids: Ids of all items that the numbers are of.
        options: All options of the evaluation, as JSON values.
        metrics: Tables of tables of numbers.
        definitions: What each name in `metrics` means.
        curves: Plots, as `metrics.number` describes them.
        warnings: What to know before the numbers are believed.
        variant: What sets it apart from others of its kind and split, such as a scoring, if any.
        beside: Further parts of the report, by name.
        seconds: Time it took, or None for that since it began.
    """

    kind: str
    home: Path
    data: DatasetQuery
    split: str
    run: TrainedRun | None = None
    progress: Progress = SILENT
    stores: Mapping[str, StoreEntry] = field(default_factory=dict)
    ids: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    curves: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[Mapping[str, Any]] = ()
    warnings: list[str] = field(default_factory=list)
    variant: str = ""
    beside: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    _began: float = field(default_factory=time.perf_counter)

    def query(self, by_side: Mapping[Side, SideQuery], split: str | None = None) -> StoreQuery:
        """Return the query for stores of the dataset, of the evaluated split if none is named."""
        return StoreQuery.of(self.data, self.split if split is None else split, by_side)

    def require(
        self, by_side: Mapping[Side, SideQuery], split: str | None = None
    ) -> dict[Side, StoreEntry]:
        """Return the stores that answer `query`.

        Raises:
            LightalignError: See `require_stores`.
        """
        return require_stores(self.home, self.query(by_side, split), self.progress)

    def announce(self, subject: str) -> None:
        """Tell what is measured where: `subject` is a run or encoders."""
        self.progress.note(f"{subject}, split {self.split!r} of {self.data.name}")

    def warn(self, *lines: str) -> None:
        """Add warnings, and tell them now."""
        self.warnings += lines
        for line in lines:
            self.progress.note(line)

    def check_leakage(self, examined: EvaluatedItems, *, allow: bool | None = None) -> Leakage:
        """Return what the evaluated items have in common with the training of the run.

        `allow` says whether it is measured all the same; None where nobody can allow it.

        Raises:
            LeakageError: They took part in the training, and that is not allowed.
        """
        assert self.run is not None, "what was trained is a run"
        leakage = find_leakage(self.run, examined, self.progress)
        leakage.refuse(allow=allow)
        self.beside["leakage"] = leakage.table()
        return leakage

    @property
    def source(self) -> str:
        """Return the fingerprint of what is evaluated, or nothing where it has several.

        What a classifier was trained on stands beside it, and is of another split.
        """
        described = (entry.description for entry in self.stores.values())
        sources = {store.source for store in described if store.split == self.split}
        return sources.pop() if len(sources) == 1 else ""

    @property
    def dataset(self) -> str:
        """Return the name of the dataset, as its stores have it."""
        return next(iter(self.stores.values())).description.dataset

    def report(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        options = dict(self.options)
        if options.get("data") is not None:
            options["data"] = absolute_data(options["data"])
        # an index reports the time of its building alone, which it has measured itself
        seconds = time.perf_counter() - self._began if self.seconds is None else self.seconds
        table = {
            "schema": SCHEMA,
            "kind": self.kind,
            "dataset": self.dataset,
            "split": self.split,
            "split_hash": split_hash(self.ids),
            "variant": self.variant,
            "options": options,
            "stores": {name: entry.key for name, entry in self.stores.items()},
            "encoders": {name: entry.description.encoder for name, entry in self.stores.items()},
            "metrics": written(self.metrics),
            "definitions": dict(self.definitions),
            "curves": [dict(curve) for curve in self.curves],
            "failures": [dict(failure) for failure in self.failures],
            "warnings": [*self.warnings, *trust.warnings()],
            "seconds": seconds,
            "versions": library_versions(),
            **self.beside,
        }
        if self.source:
            table["source"] = self.source
        if self.run is not None:
            table["run"] = self.run.folder.name
            table["adapter_sha256"] = atomic_files.sha256_file(self.run.folder / run_folder.WEIGHTS)
            table["training"] = self.run.trained["spec"]
        return table

    def path(self) -> Path:
        """Return where the report is, or will be.

        One of another dataset or of other items with the same names lies beside it: ids may be
        counters, and the ids of two datasets the same.
        """
        folder = self.home / "evaluations" if self.run is None else self.run.folder
        name = "-".join(filter(None, (self.kind, self.dataset, self.split, _plain(self.variant))))
        plain = folder / f"{name}.json"
        identity = {"split_hash": split_hash(self.ids), "source": self.source}
        marks = [f"--{mark[:8]}" for mark in identity.values() if mark]
        if (_report_at(plain) or {}).get("source", self.source) != self.source:
            # a mark that tells the two datasets apart comes before that of the items
            marks.reverse()
        places = [plain, *(folder / f"{name}{mark}.json" for mark in (*marks, "".join(marks)))]
        reports = {place: _report_at(place) for place in places}
        for place, report in reports.items():
            if report is not None and identity.items() <= {**identity, **report}.items():
                return place
        # its own before a free one, which may have become free since
        return next((place for place, report in reports.items() if report is None), places[-1])

    def write(self, *, owned: bool = False) -> tuple[Path | None, dict[str, Any]]:
        """Write the report into the run, or below `home/evaluations`; return path and content.

        Where the folder may not be written, the path is None and a warning says so: the numbers
        were asked for, and are printed.
        `owned` says that the caller holds the lock of the run.

        Raises:
            RunNotFoundError: The run was removed meanwhile.
        """
        # made before the lock is taken: the checksum of the weights takes a while
        report = self.report()
        try:
            with nullcontext() if owned else _folder_of_reports(self.run, home=self.home):
                path = self.path()
                atomic_files.write_report(path, report)
        except OSError as error:
            if owned or error.errno not in atomic_files.NOT_ALLOWED:
                raise
            report["warnings"].append(
                f"the report could not be written to {self.path()}: {error.strerror}"
            )
            return None, report
        return path, report


@contextmanager
def _folder_of_reports(run: TrainedRun | None, *, home: Path) -> Iterator[None]:
    """Lock the folder that reports of evaluations are written to."""
    if run is not None:
        with run_folder.owning(run.folder, wait=True):
            yield
        return
    folder = home / "evaluations"
    with atomic_files.making(folder):
        atomic_files.clear_abandoned(folder)
        yield


def _plain(variant: str) -> str:
    """Return a variant as a part of a file name, with a hash where letters of it are lost."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", variant).strip("-")
    # the comma of a FAISS factory string and of a list is none that tells two apart
    if plain == variant.replace(",", "-"):
        return plain
    return "-".join(filter(None, (plain, fingerprint(variant)[:8])))


def _report_at(path: Path) -> Mapping[str, Any] | None:
    """Return the report in a file, or None if none can be read there: nothing is lost with it."""
    try:
        there = atomic_files.read_report(path)
    except (FileNotFoundError, StoreCorruptError):
        return None
    return there if isinstance(there, Mapping) else None
