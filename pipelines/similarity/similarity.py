"""Compare cosines of texts with people's judgement, through an adapter and without one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...featcache.encoders.references import card_name
from ...featcache.store.catalog import StoreEntry
from ...featcache.types import Modality, Side
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import DatasetQuery, SideQuery, usual_split
from ..metrics.bootstrap import DRAWS
from ..runs.evaluation import Evaluation
from ..runs.trained_run import TrainedRun
from .evaluate_pairs import DEFINITIONS, PairEvaluator, evaluate_pairs
from .graded_split import GradedSplit
from .scorers import make_scorers
from .similarity_spec import PUBLISHED_THRESHOLD, SimilarityReport, SimilaritySpec
from .text_overlap import GradedTexts
from .text_stores import RawEncoder, TextStores, queries_of

_FITTED_ON = "train"  # split that a threshold is fitted on


def run(spec: SimilaritySpec, progress: Progress = SILENT) -> SimilarityReport:
    """Measure how far cosines of pairs of texts agree with their grades.

    Raises:
        RunNotFoundError: There is no such finished run.
        StoreNotFoundError: The texts have not been extracted with an encoder.
        SpecError: The dataset has no graded pairs, or none of some grade.
        StoreCorruptError: The files of the run or of a store contradict one another.
    """
    data = DatasetQuery.of(spec.data, home=spec.home, options=spec.source)
    of_run = spec.run is not None or not spec.encoders
    evaluated = TrainedRun(spec.home, spec.run, device=spec.device) if of_run else None
    asked = SideQuery.of(spec.encoders[0] if spec.encoders else None)
    split = spec.split or usual_split(spec.home, data, asked, ("val", "test"))
    spec = replace(spec, split=split)
    evaluation = Evaluation(
        kind="similarity",
        home=spec.home,
        run=evaluated,
        data=data,
        split=split,
        progress=progress,
        options={
            "data": spec.data,
            "encoders": list(spec.encoders),
            "threshold": spec.threshold,
            "draws": DRAWS,
            "device": spec.device,
        },
        definitions=DEFINITIONS,
    )
    chosen = _choose(spec, TextStores(spec.home, data, split, progress), evaluated)
    evaluation.announce(", ".join([f"run {evaluated.folder.name}"] if evaluated else spec.encoders))
    pairs = GradedSplit(spec.home, chosen.stores)
    fitting, fit_warnings = (
        _fitting_stores(spec, chosen, data, progress) if pairs.scale.binary else ({}, [])
    )
    train = GradedSplit(spec.home, fitting) if fitting else None
    scorers, raw_warnings = make_scorers(chosen.sides, chosen.raws, pairs, evaluated)
    judge = PairEvaluator(pairs, train, threshold=spec.threshold, progress=progress)
    evaluation.stores = _named(chosen.stores) | _named(fitting, " that thresholds are fitted on")
    evaluation.ids = sorted({name for pair in pairs.ids for name in pair})
    evaluation.variant = _variant(spec, binary=pairs.scale.binary)
    evaluation.warn(*fit_warnings, *raw_warnings)
    evaluate_pairs(judge, scorers, GradedTexts(data, spec.home), evaluation)
    path, report = evaluation.write()
    return SimilarityReport(path=path, report=report)


def _variant(spec: SimilaritySpec, *, binary: bool) -> str:
    """Return what is measured in another way than usual, or nothing.

    A run's report is replaced with or without further encoders; a threshold is of two grades only.
    """
    unusual = [] if spec.run is not None else [card_name(encoder) for encoder in spec.encoders]
    if binary and spec.threshold != PUBLISHED_THRESHOLD:
        unusual.append(f"threshold-{spec.threshold}")
    return "-".join(unusual)


def _named(stores: Mapping[SideQuery, StoreEntry], what: str = "") -> dict[str, StoreEntry]:
    return {f"{entry.folder.name}{what}": entry for entry in stores.values()}


@dataclass(frozen=True)
class _Chosen:
    """Towers and encoders to compare, and the store of each of their queries in the split."""

    sides: Mapping[Side, SideQuery]
    raws: list[RawEncoder]
    stores: Mapping[SideQuery, StoreEntry]


def _choose(spec: SimilaritySpec, texts: TextStores, evaluated: TrainedRun | None) -> _Chosen:
    """Find the store of each side of the run that reads texts, and those of the raw encoders."""
    sides: dict[Side, SideQuery] = {}
    read: list[StoreEntry] = []
    for side in evaluated.sides if evaluated else ():
        if evaluated is not None and side.modality is Modality.TEXT:
            sides[side] = evaluated.query(side)
            read.append(texts.require(sides[side]))
    raws = [texts.raw_encoder(entry) for entry in read]
    for encoder in spec.encoders:
        newest = texts.require(SideQuery.of(encoder))
        raws += [texts.raw_encoder(entry) for entry in texts.layers_of(newest)]
    by_label: dict[str, RawEncoder] = {}
    for raw in raws:
        # an encoder that is named and the run's, too, is read from the store of the run
        by_label.setdefault(raw.label, raw)
    raws = list(by_label.values())
    stores = {query: texts.require(query) for query in queries_of(raws)}
    stores |= dict(zip(sides.values(), read, strict=True))
    return _Chosen(sides, raws, stores)


def _fitting_stores(
    spec: SimilaritySpec, chosen: _Chosen, data: DatasetQuery, progress: Progress
) -> tuple[dict[SideQuery, StoreEntry], list[str]]:
    """Return the stores that a threshold is fitted on, none if one is missing, and warnings."""
    if spec.split == _FITTED_ON:
        line = "thresholds are fitted on the very pairs that are measured: take another split"
        return dict(chosen.stores), [line]
    if not data.has_split(_FITTED_ON):
        return {}, [f"no threshold is fitted: {data.name} has no split {_FITTED_ON!r}"]
    fitting = TextStores(spec.home, data, _FITTED_ON, progress)
    fitted: dict[SideQuery, StoreEntry] = {}
    for query, entry in chosen.stores.items():
        other = fitting.find(query)
        if other is None:
            command = SideQuery.like(entry).extraction(data.words, home=spec.home)
            line = f"no threshold is fitted: no texts of split {_FITTED_ON!r}; run `{command}`"
            return {}, [line]
        fitted[query] = other
    return fitted, []
