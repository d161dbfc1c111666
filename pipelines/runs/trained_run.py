"""Open the run that is evaluated, and write what was found."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...featcache import atomic_files
from ...featcache.config import fingerprint
from ...featcache.errors import SpecError, StoreCorruptError
from ...featcache.hardware import resolve_device
from ...featcache.sources.opening import absolute_data
from ...featcache.store import trust
from ...featcache.store.catalog import StoreEntry
from ...featcache.types import IMAGE_TEXT, TEXT_TEXT, Side, Sides, TextSide
from ..common.versions import library_versions
from ..inputs.store_selection import DatasetQuery, SideQuery, recorded_features
from ..metrics.number import SCHEMA, split_hash, written
from . import run_folder

if TYPE_CHECKING:
    import torch

    from ...adapters.adapter import Adapter


class TrainedRun:
    """Finished run that is evaluated.

    Args:
        home: Folder of everything lightalign keeps.
        run: Name or folder of the run, or None for the newest.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        RunNotFoundError: There is no such finished run.
        StoreCorruptError: Its report does not say what it was trained on.
    """

    def __init__(self, home: Path, run: str | None, *, device: str = "auto") -> None:
        folder = run_folder.find_run(home, run)
        self._settle(home, folder, run_folder.read_report(folder), device)

    @classmethod
    def unfinished(
        cls, home: Path, folder: Path, trained: Mapping[str, Any], *, device: str
    ) -> "TrainedRun":
        """Return a run that is measured before its report is written.

        Args:
            home: Folder of everything lightalign keeps.
            folder: The run folder.
            trained: What its report will be.
            device: `auto`, `cpu` or `cuda`.
        """
        run = cls.__new__(cls)
        run._settle(home, folder, trained, device)
        return run

    def _settle(self, home: Path, folder: Path, trained: Mapping[str, Any], device: str) -> None:
        self.home = home
        self.folder = folder
        self.trained = trained
        self._device = device
        try:
            self.stores: Mapping[str, Any] = self.trained["spec"]["stores"]
            self.splits: Mapping[str, str] = self.trained["spec"].get("splits", {})
            self.dataset: str = self.stores["train"]["dataset"]
            names = self.stores["train"]
            self.encoders: Mapping[str, Any] = self.trained["spec"].get("encoders", {})
            self.sides: Sides = TEXT_TEXT if TextSide.FIRST.value in names else IMAGE_TEXT
            self.queries = {
                side: SideQuery(
                    encoder=names[side.value]["encoder"],
                    key=names[side.value]["encoder_key"],
                    features=recorded_features(
                        names[side.value], self.encoders.get(side.value, {})
                    ),
                )
                for side in self.sides
            }
        except (KeyError, TypeError) as error:
            raise StoreCorruptError(f"{self.folder / run_folder.REPORT} lacks {error}") from error

    def wanted(self, data: str | None, options: Mapping[str, Any] | None) -> DatasetQuery:
        """Return the dataset to evaluate: as named, or else the very data of the training.

        Raises:
            LightalignError: It cannot be opened.
        """
        return DatasetQuery.of_trained(
            data, self.stores["train"], home=self.home, options=options, splits=self.splits
        )

    @cached_property
    def device(self) -> "torch.device":
        """Return where the adapter is."""
        return resolve_device(self._device)

    @cached_property
    def adapter(self) -> "Adapter":
        """Return the trained adapter, on the device."""
        from ...adapters.checkpoint import load_adapter

        adapter, _, _ = load_adapter(self.folder)
        return adapter.to(self.device)

    def query(self, side: Side) -> SideQuery:
        """Return which stores hold what this side of the adapter reads.

        Raises:
            SpecError: The run has no such side.
        """
        if side not in self.queries:
            sides = [run_side.value for run_side in self.sides]
            raise SpecError(f"run {self.folder.name} has no side {side.value!r}, but {sides}")
        return self.queries[side]


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Results of one evaluation, and the report that they make.

    Attributes:
        kind: Name of the evaluation.
        dataset: Name of the dataset.
        split: Name of the split.
        ids: Ids of all items that the numbers are of.
        stores: Store of each part that was read, by a name such as `image`.
        options: All options of the evaluation, as JSON values.
        metrics: Tables of tables of numbers.
        definitions: What each name in `metrics` means.
        curves: Plots, as `evaluation` describes them.
        failures: The worst items.
        warnings: What to know before the numbers are believed.
        variant: What sets it apart from others of its kind and split, such as a scoring, if any.
        seconds: Time it took.
        beside: Further parts of the report, by name.
    """

    kind: str
    dataset: str
    split: str
    ids: Sequence[str]
    stores: Mapping[str, StoreEntry]
    options: Mapping[str, Any]
    metrics: Mapping[str, Any]
    definitions: Mapping[str, str]
    curves: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    variant: str = ""
    seconds: float = 0.0
    beside: Mapping[str, Any] = field(default_factory=dict)

    def report(self, run: TrainedRun | None) -> dict[str, Any]:
        """Return the report of it; `run` is None where no adapter took part."""
        table = {
            "schema": SCHEMA,
            "kind": self.kind,
            "dataset": self.dataset,
            "split": self.split,
            "split_hash": self._ids_hash,
            "variant": self.variant,
            "options": self._options(),
            "stores": {name: entry.key for name, entry in self.stores.items()},
            "encoders": {name: entry.description.encoder for name, entry in self.stores.items()},
            "metrics": written(self.metrics),
            "definitions": dict(self.definitions),
            "curves": [dict(curve) for curve in self.curves],
            "failures": [dict(failure) for failure in self.failures],
            "warnings": [*self.warnings, *trust.warnings()],
            "seconds": self.seconds,
            "versions": library_versions(),
            **self.beside,
        }
        if self.source:
            table["source"] = self.source
        if run is not None:
            table["run"] = run.folder.name
            table["adapter_sha256"] = atomic_files.sha256_file(run.folder / run_folder.WEIGHTS)
            table["training"] = run.trained["spec"]
        return table

    @cached_property
    def source(self) -> str:
        """Return the fingerprint of what is evaluated, or nothing where it has several.

        What a classifier was trained on stands beside it, and is of another split.
        """
        described = [entry.description for entry in self.stores.values()]
        sources = {
            description.source for description in described if description.split == self.split
        }
        return sources.pop() if len(sources) == 1 else ""

    @cached_property
    def _ids_hash(self) -> str:
        return split_hash(self.ids)

    def _options(self) -> dict[str, Any]:
        options = dict(self.options)
        if options.get("data") is not None:
            options["data"] = absolute_data(options["data"])
        return options

    def path(self, run: TrainedRun | None, *, home: Path) -> Path:
        """Return where the report of it is, or will be.

        One of another dataset or of other items with the same names lies beside it: ids may be
        counters, and the ids of two datasets the same.
        """
        folder = home / "evaluations" if run is None else run.folder
        name = "-".join(filter(None, (self.kind, self.dataset, self.split, _plain(self.variant))))
        plain = folder / f"{name}.json"
        marks = [f"--{mark[:8]}" for mark in (self._ids_hash, self.source) if mark]
        if (_report_at(plain) or {}).get("source", self.source) != self.source:
            marks.reverse()  # what differs comes first
        places = [plain, *(folder / f"{name}{mark}.json" for mark in (*marks, "".join(marks)))]
        owned = [self._owns(place) for place in places]
        for wanted in (True, None):  # its own before a free one, which may have become free since
            if wanted in owned:
                return places[owned.index(wanted)]
        return places[-1]

    def _owns(self, path: Path) -> bool | None:
        """Return whether a file is a report of the same dataset and items; None if it is free."""
        there = _report_at(path)
        if there is None:
            return None
        identity = {"split_hash": self._ids_hash, "source": self.source}
        return all(there.get(key, value) == value for key, value in identity.items())

    def write(
        self, run: TrainedRun | None, *, home: Path, owned: bool = False
    ) -> tuple[Path | None, dict[str, Any]]:
        """Write the report into the run, or below `home/evaluations`; return path and content.

        Where the folder may not be written, the path is None and a warning says so: the numbers
        were asked for, and are printed.

        Args:
            run: The run, or None where no adapter took part.
            home: Folder of everything lightalign keeps.
            owned: Whether the caller holds the lock of the run.

        Raises:
            RunNotFoundError: The run was removed meanwhile.
        """
        report = self.report(run)
        try:
            with nullcontext() if owned else _folder_of_reports(run, home=home):
                path = self.path(run, home=home)
                atomic_files.write_report(path, report)
        except OSError as error:
            if owned or error.errno not in atomic_files.NOT_ALLOWED:
                raise
            place = self.path(run, home=home)
            report["warnings"].append(_not_written(place, error))
            return None, report
        return path, report


def _not_written(path: Path, error: OSError) -> str:
    return f"the report could not be written to {path}: {error.strerror}"


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
    """Return a variant as a part of a file name, with a hash where letters of it are lost.

    The comma of a FAISS factory string and of a list is none that tells two apart.
    """
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", variant).strip("-")
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
