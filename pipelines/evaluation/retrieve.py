"""Evaluate a run by retrieval across its two sides from stored features."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...featcache.config import check_counts
from ...featcache.errors import SpecError
from ...featcache.store.checked_shards import listing_command
from ..common.byte_sizes import parse_bytes
from ..common.progress import SILENT, Progress
from ..inputs.store_selection import StoreQuery, require_pair
from ..ranking.index_plan import EXACT
from ..runs.trained_run import EvaluationReport, TrainedRun

if TYPE_CHECKING:
    from ...featcache.types import Side
    from ..inputs.pairs import BatchRows, PairDataset
    from ..inputs.store_selection import StorePair
    from ..ranking.embeddings import PairedEmbeddings
    from ..ranking.hubness import Normalisation
    from .query_bank import BankRows

BANK = 10_000  # items of a side; the QB-Norm paper has gains from some thousands on
_USUAL_K = 100
_FEW_GROUPS = 20  # images; below, a bootstrap interval is too narrow to be believed
_TEXT, _TEXT_OR_NONE = (str, "a text"), (str | None, "a text or None")
_KINDS: Mapping[str, tuple[Any, str]] = {
    "home": (Path, "a Path"),
    "run": _TEXT_OR_NONE,
    "data": _TEXT_OR_NONE,
    "source": (Mapping | None, "options by name or None"),
    "split": _TEXT,
    "scoring": _TEXT,
    "qb_rule": _TEXT_OR_NONE,
    "qb_sharpness": (float | int | None, "a number or None"),
    "index": _TEXT,
    "memory": _TEXT_OR_NONE,
    "same_text": _TEXT,
    "allow_leakage": (bool, "True or False"),
    "device": _TEXT,
}


@dataclass(frozen=True, kw_only=True)
class RetrieveSpec:
    """Settings of one retrieval evaluation.

    Attributes:
        home: Folder of everything lightalign keeps.
        run: Name or folder of a run, or None for the newest.
        data: `NAME` of a dataset, or None for the run's own, for the newest stores;
            `NAME=PATH` for those of the dataset as it is there now.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        split: Split to evaluate on.
        k: Largest rank of the recall curve.
        scoring: `cosine`, or `qb-norm` or `dual-softmax` beside it.
        bank: Training items of each side that `qb-norm` is normalised by, at most.
        qb_rule: `dynamic` or `static`, see `hubness.Normalisation`; None for its default.
        qb_sharpness: Factor on cosines there, above 0; None for its default.
        index: `flat`, which is exact; another of `index_plan.KINDS`, or a FAISS factory string.
        memory: Size that an index may have, such as `2GB`, or None for half of the free memory.
        same_text: What becomes of texts that say the same under several ids: `negative`, each is
            right for its own images alone; `positive`, right for those of all; or `drop`, all but
            the first are left out.
        folds: Into how many folds of consecutive images the split is cut, whose recalls are
            averaged beside those of the whole, as the COCO protocol has it; 0 for none.
        allow_leakage: Whether to measure what is found to have taken part in the training, too.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    run: str | None = None
    data: str | None = None
    source: Mapping[str, Any] | None = None
    split: str = "test"
    k: int = _USUAL_K
    scoring: str = "cosine"
    bank: int = BANK
    qb_rule: str | None = None
    qb_sharpness: float | None = None
    index: str = EXACT
    memory: str | None = None
    same_text: str = "negative"
    folds: int = 0
    allow_leakage: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, (kind, called) in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise SpecError(f"{name} must be {called}, found {value!r}")
        for name in ("k", "bank"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpecError(f"{name} must be a whole number, at least 1, found {value!r}")
        check_counts(self, {"k": 1, "bank": 1, "folds": 0})
        if self.folds == 1:
            raise SpecError("--folds must be at least 2, found 1")
        if self.scoring != "qb-norm" and (self.qb_rule, self.qb_sharpness) != (None, None):
            raise SpecError("--qb-rule and --qb-sharpness are those of --scoring qb-norm: name it")
        if self.scoring != "cosine" and self.index.lower() != EXACT:
            raise SpecError(
                f"--index {self.index} finds what is near by the cosine: leave out --scoring, or it"
            )

    @property
    def normalisation(self) -> "Normalisation":
        """Return how `qb-norm` normalises.

        Raises:
            UnknownNameError: There is no such rule.
            SpecError: The sharpness is out of its range.
        """
        from ..ranking.hubness import Normalisation

        usual = Normalisation()
        return Normalisation(
            rule=usual.rule if self.qb_rule is None else self.qb_rule,
            sharpness=usual.sharpness if self.qb_sharpness is None else float(self.qb_sharpness),
        )

    @property
    def variant(self) -> str:
        """Return what is measured in another way than usual, or nothing."""
        unusual = [self.scoring] if self.scoring != "cosine" else []
        unusual += [f"same-text-{self.same_text}"] if self.same_text != "negative" else []
        if self.scoring == "qb-norm":
            unusual += self._unusual_normalisation()
        unusual += [f"folds-{self.folds}"] if self.folds else []
        if self.index.lower() != EXACT:
            unusual.append(self.index)
            if self.k != _USUAL_K:  # as many are looked for, and some of an index find more then
                unusual.append(f"k-{self.k}")
            if self.index == "auto" and self.memory is not None:
                unusual.append(f"memory-{self.memory}")
        return "-".join(unusual)

    def _unusual_normalisation(self) -> list[str]:
        """Return what is another than when there was one rule, whose reports had no more name."""
        from ..ranking.hubness import PUBLISHED

        chosen = self.normalisation
        unusual = [] if chosen == PUBLISHED else [chosen.rule, f"{chosen.sharpness:g}"]
        return [*unusual, *([] if self.bank == BANK else [f"bank-{self.bank}"])]

    def options(self) -> dict[str, Any]:
        """Return all that the numbers depend on beside the run and the stores, as JSON values."""
        return {
            "data": self.data,
            "source": None if self.source is None else dict(self.source),
            "k": self.k,
            "scoring": self.scoring,
            "bank": self.bank,
            "qb_rule": self.normalisation.rule if self.scoring == "qb-norm" else None,
            "qb_sharpness": self.normalisation.sharpness if self.scoring == "qb-norm" else None,
            "index": self.index,
            "memory": self.memory,
            "same_text": self.same_text,
            "folds": self.folds,
            "allow_leakage": self.allow_leakage,
            "device": self.device,
        }


@dataclass(frozen=True, kw_only=True)
class RetrieveReport:
    """Report of one retrieval evaluation.

    Attributes:
        folder: The run folder.
        path: The report file, or None where it may not be written.
        report: Its content.
    """

    folder: Path
    path: Path | None
    report: Mapping[str, Any]


def run(spec: RetrieveSpec, progress: Progress = SILENT) -> RetrieveReport:
    """Embed both sides of a split through the run's adapter and measure retrieval.

    Raises:
        RunNotFoundError: There is no such finished run.
        StoreNotFoundError: The split has not been extracted with the run's encoders, or `qb-norm`
            lacks the stores that were trained on.
        StoreCorruptError: The run's or the store's files contradict one another.
        UnknownNameError: There is no such scoring.
        SpecError: There is no such index, or it is larger than the memory it may take.
        LeakageError: Evaluated items took part in the training, and that is not allowed.
    """
    from ..inputs.same_text import NEGATIVE, check_same_text
    from ..ranking.hubness import COSINE, check_scoring

    check_scoring(spec.scoring)
    check_same_text(spec.same_text)
    _ = spec.normalisation  # what is wrong with it is said before anything is read
    budget = None if spec.memory is None else parse_bytes(spec.memory)
    evaluated = TrainedRun(spec.home, spec.run, device=spec.device)
    stores = require_pair(spec.home, _query(evaluated, spec), progress)
    progress.note(f"run {evaluated.folder.name}, split {spec.split!r} of {stores.dataset}")
    from ..ranking.folds import FoldedRetrieval
    from ..ranking.ranking import both_directions
    from ..ranking.recall import Retrieval
    from ..ranking.ties import find_ties
    from ..runs.embed_stored import embed_pairs  # imports torch, as all below do
    from ..runs.leakage import EvaluatedItems, find_leakage

    began = time.perf_counter()
    paired = _joined(spec, stores)
    rows = paired.relations(paired.images).rows
    bank = _bank(spec, evaluated, paired, rows)  # before anything is embedded: it may be missing
    leakage = find_leakage(evaluated, EvaluatedItems.of(paired, rows), progress)
    leakage.refuse(allow=spec.allow_leakage)
    embeddings = embed_pairs(evaluated.adapter, paired, device=evaluated.device, progress=progress)
    task = Retrieval(k=spec.k, index=spec.index, memory_budget=budget)
    metrics, failures = task.examine(embeddings)
    curves = [_curve("cosine", metrics)]
    if spec.folds:
        folded = FoldedRetrieval(task, spec.folds, links=paired.pairs.links)
        metrics["folds"] = folded.run(embeddings)
    if spec.scoring != COSINE:
        other = _scored(spec, evaluated, embeddings, bank, progress, links=paired.pairs.links)
        metrics[spec.scoring.replace("-", "_")] = other
        curves.append(_curve(spec.scoring, other))
    usual_rule = spec.same_text == NEGATIVE
    ties = [
        find_ties(direction, usual_rule=usual_rule) for direction in both_directions(embeddings)
    ]
    warnings = [
        *leakage.warnings,
        *filter(None, (result.warning for result in ties)),
        *_warnings(spec, paired, metrics),
    ]
    for warning in warnings:
        progress.note(warning)
    result = EvaluationReport(
        kind="retrieval",
        dataset=stores.dataset,
        split=spec.split,
        ids=list(dict.fromkeys([*embeddings.image_ids, *embeddings.text_ids])),
        stores={side.value: entry for side, entry in stores.entries.items()},
        options=spec.options(),
        metrics=metrics,
        definitions=_definitions(spec, metrics),
        curves=curves,
        failures=failures,
        warnings=warnings,
        variant=spec.variant,
        seconds=time.perf_counter() - began,
        beside={
            "leakage": leakage.table(),
            "num_links_lost": paired.num_links_lost,
            "ties": {direction.name: direction.table() for direction in ties},
        },
    )
    path, report = result.write(evaluated, home=spec.home)
    return RetrieveReport(folder=evaluated.folder, path=path, report=report)


def _joined(spec: RetrieveSpec, stores: "StorePair") -> "PairDataset":
    """Return the stores, joined; refuse a rule for same texts that these stores cannot tell."""
    from ..inputs.image_text import join_stores
    from ..inputs.same_text import NEGATIVE, require_marks

    paired = join_stores(stores, home=spec.home, same_text=spec.same_text)
    if spec.same_text != NEGATIVE:
        require_marks(paired.pairs, paired.extraction)
    return paired


def _bank(
    spec: RetrieveSpec, evaluated: TrainedRun, paired: "PairDataset", rows: "BatchRows"
) -> "Mapping[Side, BankRows] | None":
    """Return the training items of qb-norm, None for another scoring."""
    from ..ranking.hubness import QUERYBANK
    from .query_bank import find_bank

    if spec.scoring != QUERYBANK:
        return None
    return find_bank(evaluated, paired, rows, home=spec.home, most=spec.bank)


def _query(evaluated: TrainedRun, spec: RetrieveSpec) -> StoreQuery:
    wanted = evaluated.wanted(spec.data, spec.source)
    return StoreQuery.of(wanted, spec.split, evaluated.queries)


def _scored(
    spec: RetrieveSpec,
    evaluated: TrainedRun,
    embeddings: "PairedEmbeddings",
    bank: "Mapping[Side, BankRows] | None",
    progress: Progress,
    *,
    links: Collection[tuple[str, str]],
) -> dict[str, Any]:
    """Return the metrics by another scoring than the cosine."""
    from ..ranking.folds import FoldedRetrieval
    from ..ranking.recall import Retrieval
    from .query_bank import embed_bank

    embedded = None if bank is None else embed_bank(evaluated, bank, progress)
    task = Retrieval(
        k=spec.k, scoring=spec.scoring, bank=embedded, normalisation=spec.normalisation
    )
    metrics = task.run(embeddings)
    if spec.folds:
        metrics["folds"] = FoldedRetrieval(task, spec.folds, links=links).run(embeddings)
    return metrics


def _definitions(spec: RetrieveSpec, metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return what each name in the report means."""
    from ..inputs import same_text
    from ..ranking import hubness as scoring
    from ..ranking import index_tuning, ties
    from ..ranking.folds import FoldedRetrieval
    from ..ranking.recall import Retrieval

    definitions = {**Retrieval.definitions, scoring.COSINE: scoring.DEFINITIONS[scoring.COSINE]}
    definitions["ties"] = ties.DEFINITION
    if spec.folds:
        definitions.update(FoldedRetrieval.definitions)
    if spec.same_text != same_text.NEGATIVE:
        definitions["same_text"] = same_text.DEFINITIONS[spec.same_text]
    if any("index" in table for table in metrics.values()):
        definitions.update(index_tuning.DEFINITIONS)
    if spec.scoring != scoring.COSINE:
        is_bank = spec.scoring == scoring.QUERYBANK
        definitions[spec.scoring.replace("-", "_")] = (
            spec.normalisation.definition if is_bank else scoring.DEFINITIONS[spec.scoring]
        )
    return definitions


def _curve(scoring: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plot of R@k of both directions, with chance."""
    lines: dict[str, Any] = {}
    for name, numbers in metrics.items():
        if "curve" not in numbers:
            continue
        label, curve = name.replace("_", " "), numbers["curve"]
        lines[label] = {
            "x": curve["k"],
            "y": curve["recall"],
            "low": curve["low"],
            "high": curve["high"],
        }
        lines[f"chance, {label}"] = {"x": curve["k"], "y": curve["chance"]}
    title = "R@k" if scoring == "cosine" else f"R@k by {scoring}"
    return {"title": title, "x_label": "k", "y_label": "queries, %", "lines": lines}


def _warnings(spec: RetrieveSpec, paired: "PairDataset", metrics: Mapping[str, Any]) -> list[str]:
    """Return the warnings to read before these numbers are believed, but those of leakage."""
    from ...featcache.types import TEXT_TEXT
    from ..ranking.hubness import DUAL_SOFTMAX

    warnings = list(paired.warnings)
    is_texts = paired.pair.sides == TEXT_TEXT
    linked, counted = ("pairs of texts", "texts") if is_texts else ("image-caption pairs", "images")
    if paired.num_links_lost:
        readers = {reader.store.folder: reader for reader in (paired.first, paired.second)}
        commands = " and ".join(
            f"`{listing_command(folder, spec.home)}`"
            for folder, reader in readers.items()
            if len(reader) < reader.description.num_items
        )
        warnings.append(
            f"{paired.num_links_lost} {linked} are left out: an item of theirs could "
            f"not be read ({commands} lists them)"
        )
    for name, numbers in metrics.items():
        of_index = numbers.get("index", {}).get("warnings", ())
        warnings += [f"{name.replace('_', ' ')}: {warning}" for warning in of_index]
    groups = min(numbers["num_groups"] for numbers in metrics.values() if "num_groups" in numbers)
    if groups < _FEW_GROUPS:
        warnings.append(
            f"the intervals rest on {groups} {counted} whose items belong together: that is too few"
        )
    if spec.scoring == DUAL_SOFTMAX:
        warnings.append(
            "dual-softmax is transductive: each query's answer depends on all other test queries, "
            "which a search does not have"
        )
    return warnings
