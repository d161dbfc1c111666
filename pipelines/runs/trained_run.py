"""Finished run whose adapter takes part in an evaluation."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...adapters.adapter import Adapter
from ...adapters.checkpoint import load_adapter
from ...adapters.preset import DUAL
from ...adapters.without_bank import without_bank
from ...featcache.errors import SpecError, StoreCorruptError
from ...featcache.hardware import resolve_device
from ...featcache.types import Side, Sides
from ..inputs.store_selection import (
    DatasetQuery,
    SideQuery,
    by_stream,
    recorded_features,
    recorded_sides,
    recorded_streams,
)
from . import run_folder


class TrainedRun:
    """Finished run that is evaluated.

    `run` is its name or folder, or None for the newest.

    Raises:
        RunNotFoundError: There is no such finished run.
        StoreCorruptError: Its report does not say what it was trained on.
    """

    kind: ClassVar[str] = DUAL  # of the adapter

    def __init__(self, home: Path, run: str | None, *, device: str = "auto") -> None:
        folder = run_folder.find_run(home, run, kind=self.kind)
        self._settle(home, folder, run_folder.read_report(folder), device)

    @classmethod
    def unfinished(
        cls, home: Path, folder: Path, trained: Mapping[str, Any], *, device: str
    ) -> "TrainedRun":
        """Return a run that is measured before its report is written.

        `trained` is what its report will be.
        """
        # `__init__` looks for a finished run, which this one is not yet
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
            self.sides: Sides = recorded_sides(names)
            self._streams = {side: self._recorded(side) for side in self.sides}
        except (KeyError, TypeError) as error:
            raise StoreCorruptError(f"{self.folder / run_folder.REPORT} lacks {error}") from error

    def dataset_query(self, data: str | None, options: Mapping[str, Any] | None) -> DatasetQuery:
        """Return the dataset to evaluate: as named, or else the very data of the training.

        Raises:
            LightalignError: It cannot be opened.
        """
        return DatasetQuery.of_trained(
            data, self.stores["train"], home=self.home, options=options, splits=self.splits
        )

    @cached_property
    def device(self) -> torch.device:
        """Return where the adapter is."""
        return resolve_device(self._device)

    @cached_property
    def adapter(self) -> Adapter:
        """Return the trained adapter, on the device."""
        adapter, _, _ = load_adapter(self.folder)
        return adapter.to(self.device)

    @cached_property
    def plain_adapter(self) -> Adapter:
        """Return the adapter without what `[finish]` put behind its towers; see `without_bank`."""
        return without_bank(self.adapter)

    def _recorded(self, side: Side) -> list[SideQuery]:
        """Return the query for each stream of a side, as the run records it."""
        of_side = self.stores["train"][side.value], self.encoders.get(side.value)
        return [
            SideQuery(
                encoder=store["encoder"],
                key=store["encoder_key"],
                features=recorded_features(store, encoder),
            )
            for store, encoder in recorded_streams(*of_side)
        ]

    @property
    def queries(self) -> dict[Side, SideQuery]:
        """Return the query for each stream of all sides by its place; see `by_stream`."""
        return by_stream(self._streams)

    def queries_of(self, side: Side) -> dict[Side, SideQuery]:
        """Return the query for each stream that a side of the adapter reads, by its place.

        Raises:
            SpecError: The run has no such side.
        """
        if side not in self._streams:
            sides = [run_side.value for run_side in self.sides]
            raise SpecError(f"run {self.folder.name} has no side {side.value!r}, but {sides}")
        return by_stream({side: self._streams[side]})

    def query(self, side: Side) -> SideQuery:
        """Return the query for the stores that this side of the adapter reads, where it is one.

        Raises:
            SpecError: The run has no such side, or reads several streams there.
        """
        query, *further = self.queries_of(side).values()
        if further:
            raise SpecError(
                f"run {self.folder.name} reads {len(further) + 1} streams of {side.label}s, and "
                "this is of runs that read one: see `lightalign retrieve --help`"
            )
        return query
