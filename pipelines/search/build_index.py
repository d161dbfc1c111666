"""Build and save an index of the embeddings of a split."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from ...featcache import atomic_files
from ...featcache.errors import (
    DatasetChangedError,
    DatasetFormatError,
    DatasetNotFoundError,
)
from ...featcache.known_datasets import version_of
from ...featcache.registry import unknown_name
from ...featcache.sources.base import Source
from ...featcache.sources.opening import absolute_data, parse_data
from ...featcache.store.catalog import StoreEntry
from ...featcache.store.manifest import read_whole_manifest
from ...featcache.types import Side
from ..common.byte_sizes import parse_bytes
from ..common.progress import SILENT, Progress
from ..inputs.original_dataset import open_as_extracted
from ..inputs.store_selection import SideQuery, choose_stores
from ..metrics.number import written
from ..ranking.faiss_index import BuiltIndex, build
from ..ranking.index_plan import plan_index
from ..ranking.index_tuning import DEFINITIONS
from ..runs import run_folder
from ..runs.embed_stored import Embeddings, embed_store
from ..runs.evaluation import Evaluation
from ..runs.trained_run import TrainedRun
from .build_index_spec import BOTH, IndexReport, IndexSpec
from .original_items import content_of
from .saved_index import index_folder, write_index

_QUERIES = 1000  # half of them to tune an index and half to measure it


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Split that is indexed, with its stores and embeddings.

    Attributes:
        evaluation: What is said of its approximate indexes, side by side.
        data: The dataset as `NAME` or `NAME=PATH`.
        opened: The dataset, or None where it was not found as it was extracted.
        stores: Store of each indexed side, and of the other one where there is one.
        embeddings: Ids and embeddings of each indexed side.
    """

    evaluated: TrainedRun
    evaluation: Evaluation
    data: str
    options: Mapping[str, Any]
    opened: Source | None
    stores: Mapping[Side, StoreEntry]  # of each stream, by its place
    embeddings: Mapping[Side, Embeddings]

    def entries(self, side: Side) -> list[StoreEntry]:
        """Return the stores of all streams of a side."""
        return [self.stores[place] for place in self.evaluated.queries_of(side)]

    def contents(self, side: Side) -> list[str]:
        """Return the path of each image, or each text; empty strings where nobody knows."""
        ids = self.embeddings[side].ids
        if self.opened is None:
            return [""] * len(ids)
        items = self.opened.items(self.evaluation.split, side.modality)
        by_id = {item.id: content_of(item) for item in items}
        return [by_id[item_id] for item_id in ids]

    def build(self, side: Side, kind: str, budget: int | None) -> BuiltIndex:
        """Return the index of one side."""
        vectors = self.embeddings[side].vectors
        num, width = vectors.shape
        plan = plan_index(kind, num=num, width=width, memory_budget=budget)
        return build(
            vectors,
            plan.asked,
            queries=self._queries(side) if plan.approximate else vectors[:1],
            memory_budget=plan.memory_budget,
        )

    def _queries(self, side: Side) -> Float32[np.ndarray, "q embed"]:
        """Return a sample of what will be asked: of the other side, if it has a store."""
        others = [other for other in self.evaluated.sides if other is not side]
        others = [other for other in others if other in self.stores]
        if not others:
            return self.embeddings[side].vectors
        if others[0] in self.embeddings:
            return self.embeddings[others[0]].vectors
        return embed_store(
            self.evaluated.adapter,
            self.entries(others[0]),
            side=others[0],
            sample=_QUERIES,
            device=self.evaluated.device,
            progress=self.evaluation.progress,
        ).vectors

    def described(self, side: Side) -> dict[str, Any]:
        """Return what the manifest of an index says of its origin."""
        return {
            "run": self.evaluated.folder.name,
            "adapter_sha256": atomic_files.sha256_file(self.evaluated.folder / run_folder.WEIGHTS),
            "dataset": self.stores[side].description.dataset,
            "split": self.evaluation.split,
            "side": side.value,
            "source": self.stores[side].description.source,
            "store": self.stores[side].key,
            "encoder_key": self.stores[side].encoder_key,
            "data": self.data,
            "source_options": dict(self.options),
            "knows_dataset": self.opened is not None,
        }


def run(spec: IndexSpec, progress: Progress = SILENT) -> IndexReport:
    """Embed a split through the run's adapter, and save an index of one side or of both.

    Raises:
        RunNotFoundError: There is no such finished run.
        LockError: The file system of the run has no locks.
        StoreNotFoundError: The split has not been extracted with the run's encoders.
        StoreCorruptError: The run's or the store's files contradict one another.
        UnknownNameError: The run has no such side, or the dataset no such split.
        SpecError: There is no such index, or it does not fit the memory.
    """
    folder = run_folder.find_run(spec.home, spec.run)
    # held throughout, so that nobody removes the run that the index is written into
    with run_folder.owning(folder, wait=True, tell=progress.note):
        return _run(replace(spec, run=str(folder)), progress)


def _run(spec: IndexSpec, progress: Progress) -> IndexReport:
    """Index what is asked for of a run whose lock is held."""
    began = time.perf_counter()
    evaluated = TrainedRun(spec.home, spec.run, device=spec.device)
    sides = _sides(evaluated, spec.side)
    budget = None if spec.memory is None else parse_bytes(spec.memory)
    split = _opened(evaluated, spec, sides, progress)

    folders, manifests, paths = {}, {}, {}
    for side in sides:
        folder = index_folder(
            evaluated.folder,
            dataset=split.stores[side].description.dataset,
            split=spec.split,
            side=side,
            source=split.stores[side].description.source,
        )
        folders[side.value] = folder
        built, contents = split.build(side, spec.index, budget), split.contents(side)
        evaluation = replace(
            split.evaluation,
            ids=split.embeddings[side].ids,
            stores={side.value: split.stores[side]},
            options={"index": spec.index, "memory": spec.memory, "side": side.value},
            metrics={side.value: written(built.metrics)},
            definitions=dict(DEFINITIONS),
            variant=side.value,
            warnings=list(built.warnings),
            seconds=built.seconds,
        )
        # before the index: stopped between the two, no report of another one lies beside it
        evaluation.path().unlink(missing_ok=True)
        manifests[side.value] = write_index(
            folder,
            built,
            ids=split.embeddings[side].ids,
            contents=contents,
            described=split.described(side),
        )
        # an exact index finds everything: it has no metrics and no report
        if built.metrics:
            path, _ = evaluation.write(owned=True)
            assert path is not None, "the lock of the run is held, so that it can be written"
            paths[side.value] = path
    warnings = tuple(
        f"{name}: {warning}" for name, made in manifests.items() for warning in made["warnings"]
    )
    return IndexReport(
        run=evaluated.folder,
        folders=folders,
        manifests=manifests,
        paths=paths,
        warnings=warnings,
        seconds=time.perf_counter() - began,
    )


def side_named(evaluated: TrainedRun, name: str | None) -> Side:
    """Return the side of a run that is called so; the first if None.

    Raises:
        UnknownNameError: The run has no such side.
    """
    by_name = {side.value: side for side in evaluated.sides}
    if name is None:
        return evaluated.sides[0]
    if name not in by_name:
        raise unknown_name("side", name, by_name)
    return by_name[name]


def _sides(evaluated: TrainedRun, name: str | None) -> Sequence[Side]:
    if name == BOTH:
        return evaluated.sides
    if name is not None and name not in {side.value for side in evaluated.sides}:
        raise unknown_name("side", name, [*(side.value for side in evaluated.sides), BOTH])
    return (side_named(evaluated, name),)


def _opened(
    evaluated: TrainedRun, spec: IndexSpec, sides: Sequence[Side], progress: Progress
) -> _Split:
    """Find the stores and the dataset, and embed the stores."""
    asked = evaluated.dataset_query(spec.data, spec.source)
    evaluation = Evaluation(
        kind="index",
        home=spec.home,
        run=evaluated,
        data=asked,
        split=spec.split,
        progress=progress,
    )
    queries: dict[Side, SideQuery] = {}
    for side in sides:
        queries |= evaluated.queries_of(side)
    stores = evaluation.require(queries)
    description = stores[sides[0]].description
    for side in evaluated.sides:
        # items of the other side stand for the queries that a search will bring
        if side not in stores:
            query = evaluation.query(evaluated.queries_of(side))
            same_items = replace(query, dataset=description.dataset, source=description.source)
            stores |= choose_stores(spec.home, same_items) or {}
    evaluation.announce(f"run {evaluated.folder.name}")
    if asked.opened is None or asked.asked is None:
        data, options = _place(evaluated, spec, stores[sides[0]])
        opened = _dataset(data, options, spec, description.source, progress)
    else:  # the stores were chosen by it
        data, options, opened = asked.asked.data, asked.asked.options, asked.opened
    return _Split(
        evaluated=evaluated,
        evaluation=evaluation,
        data=data,
        options=options,
        opened=opened,
        stores=stores,
        embeddings={
            side: embed_store(
                evaluated.adapter,
                [stores[place] for place in evaluated.queries_of(side)],
                side=side,
                device=evaluated.device,
                progress=progress,
            )
            for side in sides
        },
    )


def _place(
    evaluated: TrainedRun, spec: IndexSpec, store: StoreEntry
) -> tuple[str, Mapping[str, Any]]:
    """Return the dataset as `NAME` or `NAME=PATH`, and its options, of one named without a place.

    Both are as the home remembers them of what was extracted; else the place is as trained on, and
    the options, too, or as extracted with.
    """
    described = store.description
    version = version_of(spec.home, described.dataset, described.split, described.source)
    if version is not None:
        return version.data, version.options
    # the home has forgotten the dataset: the place of the training is the best guess
    command = evaluated.trained["spec"].get("command", {})
    trained = command.get("data") or described.dataset
    same = parse_data(trained)[0] == described.dataset
    options = (command.get("source") if same else None) or _options_of(store)
    return absolute_data(trained if same else described.dataset), options


def _options_of(store: StoreEntry) -> Mapping[str, Any]:
    """Return the options of its dataset that a store was extracted with; early ones have none."""
    options = read_whole_manifest(store.folder)["settings"].get("source", {})
    return options if isinstance(options, Mapping) else {}


def _dataset(
    data: str, options: Mapping[str, Any], spec: IndexSpec, fingerprint: str, progress: Progress
) -> Source | None:
    """Open the dataset, or say why paths and texts are left out."""
    try:
        return open_as_extracted(
            data, options=options, home=spec.home, split=spec.split, fingerprint=fingerprint
        )
    except (DatasetNotFoundError, DatasetFormatError, DatasetChangedError) as error:
        progress.note(f"the index holds ids, and neither paths nor texts: {error}")
        return None
