"""Classify images by the nearest text: no image of any class is trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...featcache import atomic_files
from ...featcache.config import fingerprint, to_table
from ...featcache.errors import SpecError
from ...featcache.known_datasets import kind_of, version_of
from ...featcache.store.checked_shards import listing_command
from ...featcache.types import Modality
from ..common.plots import draw_confusion
from ..common.printable import for_page
from ..common.progress import SILENT, Progress
from ..inputs.labelled_images import LabelledImages
from ..inputs.text_notes import class_warnings
from ..metrics.accuracy import DEFINITIONS as ACCURACY
from ..metrics.accuracy import accuracy_numbers
from ..metrics.class_scores import (
    ClassScores,
    confusion,
    per_class_numbers,
    score_classes,
    worst_images,
)
from ..metrics.number import Number
from ..runs import run_folder
from ..runs.embed_stored import embed_rows
from ..runs.embedder import Embedder
from ..runs.leakage import EvaluatedItems, lineage
from ..runs.trained_run import TrainedRun
from .class_splits import open_evaluation, open_images
from .prompts import Prompts, read_prompts, spoken_names
from .zero_shot_spec import USUAL, ZeroShotReport, ZeroShotSpec

_FAILURES = 24
_MOST = 1000  # tied classes that a report lists
_SHOWN = 3  # that a warning names

DEFINITIONS = {
    "class_embedding": (
        "mean over the templates of the embeddings of its texts, each of length 1 before and the "
        "mean made of length 1 again; texts are embedded without padding"
    ),
    "score": "cosine between the embedding of an image and that of a class",
    "classes": "the same of the images of one class alone",
    "confusion": "images by their class and the class they are taken for; ties go to a wrong one",
}


def run(spec: ZeroShotSpec, progress: Progress = SILENT) -> ZeroShotReport:
    """Embed images and texts of classes through a run, and measure how often the right one wins.

    Raises:
        RunNotFoundError: There is no such finished run.
        StoreNotFoundError: The split has not been extracted with the run's image encoder.
        SpecError: The run aligns two texts, the dataset has no classes, or prompts are wrong.
        LeakageError: Evaluated images took part in the training.
        WeightsNotFoundError: The weights of the run's text encoder are nowhere to be found.
        LightalignError: See `Embedder`.
    """
    all_prompts = [read_prompts(name) for name in spec.prompts]
    if len({prompts.name for prompts in all_prompts}) < len(all_prompts):
        raise SpecError(f"two of the prompts {list(spec.prompts)} have the same name: rename one")
    evaluation, evaluated = open_evaluation(spec, "zero-shot", progress)
    images = open_images(evaluation, evaluated)
    evaluation.announce(f"run {evaluated.folder.name}")
    described = images.entry.description
    examined = EvaluatedItems.of_images(images.entry, images.reader)
    leakage = evaluation.check_leakage(examined)
    evaluation.warn(*leakage.warnings, *_warnings(images, evaluated))
    # names that people use belong to the family, whatever a user called the dataset
    family = kind_of(spec.home, described.dataset, described.split, described.source)
    spoken = [spoken_names(prompts, family, images.names) for prompts in all_prompts]
    # prompts of classes are no queries like those that the offsets were learnt on
    embedder = Embedder(evaluated.folder, device=spec.device, weights=spec.weights, offsets=False)
    embeddings = embed_rows(
        embedder.adapter, images.reader, images.rows, device=embedder.device, progress=progress
    )
    texts = [
        [text for name in names for text in prompts.texts(name)]
        for prompts, names in zip(all_prompts, spoken, strict=True)
    ]
    scored = [
        score_classes(
            embeddings, images.labels, embedder.embed_texts(of_classes), len(prompts.templates)
        )
        for prompts, of_classes in zip(all_prompts, texts, strict=True)
    ]
    tied = (_tied_warning(*pair, images.names) for pair in zip(all_prompts, scored, strict=True))
    encoder = embedder.readings(Modality.TEXT)[0].encoder
    for prompts, names, of_classes in zip(all_prompts, spoken, texts, strict=True):
        label = f"prompts {prompts.name}"
        evaluation.warn(*class_warnings(encoder, names, of_classes, label=label))
    evaluation.warn(*filter(None, tied))
    measured = [
        {
            **accuracy_numbers(scores.ranks, images.labels, num_classes=len(images.names)),
            "classes": per_class_numbers(scores.ranks, images.labels, images.names),
        }
        for scores in scored
    ]
    evaluation.ids = images.reader.ids
    evaluation.stores = {Modality.IMAGE.value: images.entry}
    evaluation.options = {
        "data": spec.data,
        "source": None if spec.source is None else dict(spec.source),
        "split": spec.split,
        "device": spec.device,
        "prompts": {
            prompts.name: {"templates": list(prompts.templates), "classes": list(names)}
            for prompts, names in zip(all_prompts, spoken, strict=True)
        },
    }
    evaluation.variant = _variant(spec, all_prompts)
    evaluation.metrics = {
        prompts.name: table for prompts, table in zip(all_prompts, measured, strict=True)
    }
    evaluation.definitions = {**ACCURACY, **DEFINITIONS}
    evaluation.curves = _curves(all_prompts, measured, scored[0], images.names)
    evaluation.failures = worst_images(scored[0], images.reader.ids, images.names, most=_FAILURES)
    evaluation.beside["tied_classes"] = {
        prompts.name: [[images.names[label] for label in pair] for pair in scores.tied[:_MOST]]
        for prompts, scores in zip(all_prompts, scored, strict=True)
    }
    path, report = evaluation.write()
    plot = None
    if path is not None:
        plot = path.with_suffix(".svg")
        with run_folder.owning_place(plot):
            atomic_files.write_bytes(plot, for_page(draw_confusion(report["curves"][-1])).encode())
    return ZeroShotReport(path=path, report=report, plot=plot)


def _tied_warning(prompts: Prompts, scored: ClassScores, names: Sequence[str]) -> str | None:
    """Return which classes no image can tell apart, or None."""
    if not scored.tied:
        return None
    shown = "; ".join(
        f"{names[first]!r} and {names[other]!r}" for first, other in scored.tied[:_SHOWN]
    )
    more = " ..." if len(scored.tied) > _SHOWN else ""
    count = len({place for pair in scored.tied for place in pair})
    return (
        f"prompts {prompts.name}: the texts of {count} classes have the embedding of another, so "
        f"that no image can tell them apart, and ties count as wrong: {shown}{more}; call them by "
        "other words, in the [names] of a --prompts FILE.toml"
    )


def _variant(spec: ZeroShotSpec, all_prompts: Sequence[Prompts]) -> str:
    """Return which prompts are unusual; files may have the same name and other templates."""
    if spec.prompts == USUAL:
        return ""
    return "-".join(
        f"{prompts.name}-{fingerprint(to_table(prompts))[:8]}"
        if asked.endswith(".toml")
        else prompts.name
        for asked, prompts in zip(spec.prompts, all_prompts, strict=True)
    )


def _warnings(images: LabelledImages, evaluated: TrainedRun) -> list[str]:
    warnings = []
    described = images.entry.description
    dataset, split, source = described.dataset, described.split, described.source
    version = version_of(evaluated.home, dataset, split, source)
    trained = [past.stores["train"] for past in lineage(evaluated)]
    # what else has the name, or had it, is other data
    same = [
        split_record
        for split_record in trained
        if split_record["dataset"] == dataset
        and (
            version is None
            or version.splits.get(split_record["split"]) in {None, split_record["source"]}
        )
    ]
    if same:
        warnings.append(f"the adapter was trained on images of {dataset}: this is not zero-shot")
    if images.num_skipped:
        warnings.append(
            f"{images.num_skipped} images are left out: they could not be read "
            f"(`{listing_command(images.entry.folder, evaluated.home)}` lists them)"
        )
    absent = len(images.names) - len(set(images.labels.tolist()))
    if absent:
        warnings.append(
            f"{absent} of {len(images.names)} classes have no image in this split: they can be "
            "answered, but never be right"
        )
    return warnings


def _curves(
    all_prompts: Sequence[Prompts],
    measured: Sequence[Mapping[str, Any]],
    first: ClassScores,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the accuracy by k of all prompts, and the confusion of the first, which is last."""
    lines: dict[str, dict[str, list[float]]] = {}
    for prompts, numbers in zip(all_prompts, measured, strict=True):
        tops: list[Number] = [numbers[key] for key in numbers if key.startswith("top_")]
        ks = [float(k) for k in range(1, len(tops) + 1)]
        lines[prompts.name] = {"x": ks, "y": [top.value for top in tops]}
        lines["chance"] = {"x": ks, "y": [top.chance or 0.0 for top in tops]}
    return [
        {
            "title": "right class among the first k",
            "x_label": "k",
            "y_label": "percent of images",
            "lines": lines,
        },
        {
            "title": f"confusion, prompts {all_prompts[0].name}",
            "x_label": "taken for",
            "y_label": "class",
            "names": list(names),
            "matrix": confusion(first).tolist(),
        },
    ]
