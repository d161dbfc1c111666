"""Evaluate a run by retrieval across its two sides from stored features."""

from collections.abc import Mapping
from typing import Any

from ...featcache.errors import SpecError
from ...featcache.links import Links
from ...featcache.store.checked_shards import listing_command
from ...featcache.types import IMAGE_TEXT, Modality, Side, Sides, in_words
from ..common.byte_sizes import parse_bytes
from ..common.progress import SILENT, Progress
from ..inputs import same_text
from ..inputs.image_text import join_stores
from ..inputs.pairs import PairDataset
from ..inputs.same_text import NEGATIVE, check_same_text, require_marks
from ..inputs.store_selection import StorePair
from ..ranking import index_tuning, normalisation, ties
from ..ranking.embeddings import PairedEmbeddings
from ..ranking.folds import FoldedRetrieval
from ..ranking.normalisation import COSINE, DUAL_SOFTMAX, QUERYBANK, check_scoring
from ..ranking.ranking import both_directions
from ..ranking.recall import Retrieval
from ..ranking.ties import find_ties
from ..ranking.two_stage import ITM, SUM, TwoStageRetrieval
from ..runs.embed_stored import embed_pairs
from ..runs.evaluation import Evaluation
from ..runs.leakage import EvaluatedItems
from ..runs.trained_run import TrainedRun
from .matched_pairs import PairMatching
from .query_bank import BankRows, embed_bank, find_bank
from .retrieve_spec import RetrieveReport, RetrieveSpec
from .second_stage import SecondStage

_FEW_GROUPS = 20  # images; below, a bootstrap interval is too narrow to be believed


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
    check_scoring(spec.scoring)
    check_same_text(spec.same_text)
    # built for its checks: a wrong option is refused before anything is read
    _ = spec.normalisation
    budget = None if spec.memory is None else parse_bytes(spec.memory)
    evaluated = TrainedRun(spec.home, spec.run, device=spec.device)
    evaluation = Evaluation(
        kind="retrieval",
        home=spec.home,
        run=evaluated,
        data=evaluated.dataset_query(spec.data, spec.source),
        split=spec.split,
        progress=progress,
        options=spec.options(),
        variant=spec.variant,
    )
    stores = StorePair.of(evaluation.require(evaluated.queries))
    evaluation.stores = stores.stores
    evaluation.announce(f"run {evaluated.folder.name}")
    paired = join_stores(stores, home=spec.home, same_text=spec.same_text)
    if spec.same_text != NEGATIVE:
        _require_texts(stores.sides)
        require_marks(paired.pairs, paired.extraction)
    rows = paired.relations(paired.images).rows
    bank = None
    # its stores may be missing, which should be said before anything is embedded
    if spec.scoring == QUERYBANK:
        bank = find_bank(evaluated, paired, rows, home=spec.home, most=spec.bank)
    leakage = evaluation.check_leakage(EvaluatedItems.of(paired, rows), allow=spec.allow_leakage)
    second = None
    if spec.rerank is not None:
        second = SecondStage.open(spec, evaluation, stores, progress)
    embeddings = embed_pairs(evaluated.adapter, paired, device=evaluated.device, progress=progress)
    task = Retrieval(k=spec.k, index=spec.index, memory_budget=budget)
    metrics, failures = task.examine(embeddings)
    curves = [_curve("cosine", metrics)]
    if spec.folds:
        folded = FoldedRetrieval(task, spec.folds, links=paired.pairs)
        metrics["folds"] = folded.run(embeddings)
    if spec.scoring != COSINE:
        plain = embeddings
        if evaluated.plain_adapter is not evaluated.adapter:
            # what takes hubs away by itself would take them away twice
            adapter = evaluated.plain_adapter
            plain = embed_pairs(adapter, paired, device=evaluated.device, progress=progress)
        other = _scored(spec, evaluated, plain, bank, progress, links=paired.pairs)
        metrics[spec.scoring.replace("-", "_")] = other
        curves.append(_curve(spec.scoring, other))
    if second is not None:
        reranked = second.measure(embeddings, k=spec.k, progress=progress)
        metrics |= reranked
        curves += [_curve(name.replace("_", " "), reranked[name]) for name in (ITM, SUM)]
        evaluation.beside["rerank"] = second.table()
        evaluation.warn(*second.warnings_beside(leakage))
    usual_rule = spec.same_text == NEGATIVE
    ties = [
        find_ties(direction, usual_rule=usual_rule) for direction in both_directions(embeddings)
    ]
    evaluation.warn(
        *leakage.warnings,
        *filter(None, (result.warning for result in ties)),
        *_warnings(spec, paired, metrics),
    )
    # between two encoders of one modality both sides have the same ids, which count once
    evaluation.ids = list(dict.fromkeys([*embeddings.first_ids, *embeddings.second_ids]))
    evaluation.metrics = metrics
    evaluation.definitions = _definitions(spec, metrics)
    evaluation.curves = curves
    evaluation.failures = failures
    evaluation.beside |= {
        "num_links_lost": paired.num_links_lost,
        "ties": {direction.name: direction.table() for direction in ties},
    }
    path, report = evaluation.write()
    return RetrieveReport(folder=evaluated.folder, path=path, report=report)


def _require_texts(sides: Sides) -> None:
    if all(side.modality is not Modality.TEXT for side in sides):
        raise SpecError(f"--same-text is of texts: this run aligns {in_words(sides)}")


def _scored(
    spec: RetrieveSpec,
    evaluated: TrainedRun,
    embeddings: PairedEmbeddings,
    bank: Mapping[Side, BankRows] | None,
    progress: Progress,
    *,
    links: Links,
) -> dict[str, Any]:
    """Return the metrics by another scoring than the cosine."""
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
    definitions = {**Retrieval.definitions, COSINE: normalisation.DEFINITIONS[COSINE]}
    definitions["ties"] = ties.DEFINITION
    if spec.folds:
        definitions.update(FoldedRetrieval.definitions)
    if spec.same_text != NEGATIVE:
        definitions["same_text"] = same_text.DEFINITIONS[spec.same_text]
    if any("index" in table for table in metrics.values()):
        definitions.update(index_tuning.DEFINITIONS)
    if spec.rerank is not None:
        definitions.update({**TwoStageRetrieval.definitions, **PairMatching.definitions})
    if spec.scoring != COSINE:
        is_bank = spec.scoring == QUERYBANK
        definitions[spec.scoring.replace("-", "_")] = (
            spec.normalisation.definition if is_bank else normalisation.DEFINITIONS[spec.scoring]
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


def _nouns(sides: Sides) -> tuple[str, str]:
    """Return what pairs of two sides are called, and what is counted by them."""
    if sides == IMAGE_TEXT:
        return "image-caption pairs", "images"
    first, second = sides
    if first.modality is second.modality:
        return f"pairs of {first.modality}s", f"{first.modality}s"
    return f"pairs of {first.label}s and {second.label}s", f"{first.label}s"


def _warnings(spec: RetrieveSpec, paired: PairDataset, metrics: Mapping[str, Any]) -> list[str]:
    """Return the warnings to read before these numbers are believed, but those of leakage."""
    warnings = list(paired.warnings)
    linked, counted = _nouns(paired.pair.sides)
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
