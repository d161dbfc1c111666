"""Answer a question about an image by a joint run: its frozen encoders, then its adapter."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ...adapters.preset import JOINT
from ...featcache.errors import SpecError
from ...featcache.hardware import resolve_device
from ...featcache.home import expanded
from ...featcache.modalities.image import decode_image
from ...featcache.types import IMAGE_TEXT, Item, Modality
from ..common.progress import SILENT, Progress
from ..inputs.text_notes import TextReader
from ..joint.match import check_image
from ..language.asking import ask_all
from ..language.opening import PromptedModel, open_language_model, require_language_model
from ..metrics.answer_vocabulary import UNLISTED
from ..runs import run_folder
from ..runs.joint_run import PairReader
from ..runs.required_head import require_head
from .ask_spec import AskReport, AskSpec, check_question
from .language_answers import listed_answer, short_answer
from .predictions import Calibration, top_answers


def run(spec: AskSpec, progress: Progress = SILENT) -> AskReport:
    """Answer one question about one image.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It answers no questions, or the image is not there.
        LightalignError: The image cannot be read, or the encoders or the language model not be
            opened; see `Embedder` and `open_language_model`.
    """
    began = time.perf_counter()
    folder = run_folder.find_run(spec.home, spec.run, kind=JOINT)
    progress.note(f"run {folder.name}")
    image = expanded(spec.image)
    check_image(image)
    weights = {name: expanded(path) for name, path in (spec.weights or {}).items()}
    if spec.asks_language_model:
        require_language_model(spec)
    reader = PairReader(folder, device=spec.device, weights=weights)
    require_head(reader.joint.adapter, "answers", folder=folder, home=spec.home)
    for side in IMAGE_TEXT:
        reader.encoders.readings(side)
    opened = time.perf_counter()
    most = max(spec.top_k, spec.llm_candidates) if spec.asks_language_model else spec.top_k
    report = answer(reader, image, spec.question, top_k=most)
    if spec.asks_language_model:
        with open_language_model(spec, device=spec.device) as language:
            report = _asked_again(spec, reader, report, language)
    seconds = {"open": opened - began, "read": time.perf_counter() - opened}
    for warning in report.warnings:
        progress.note(warning)
    return replace(report, seconds=seconds)


def _asked_again(
    spec: AskSpec, reader: PairReader, report: AskReport, language: PromptedModel
) -> AskReport:
    """Return a report with the answer of a language model, or with a warning where it has none."""
    model, prompt = language.model, language.prompt
    vocabulary = reader.joint.answers
    caption = _caption(spec)
    candidates = [
        (str(entry["answer"]), float(entry["probability"]))
        for entry in report.answers[: spec.llm_candidates]
    ]
    messages = prompt.messages(spec.question, candidates, caption)
    replies = ask_all(model, [messages])
    (reply,) = replies.texts
    place = UNLISTED if reply is None else listed_answer(vocabulary, reply)
    said = candidates[0][0] if reply is None else short_answer(reply)
    table: dict[str, Any] = {
        "answer": said if place == UNLISTED else vocabulary.answers[place],
        "is_listed": place != UNLISTED,
        "reply": reply,
        "failure": next(iter(replies.failures), None),
        "caption": caption,
        "messages": messages,
        "prompt": {"name": prompt.name, "sha256": prompt.sha256},
        "model": dict(model.identity),
        "versions": dict(model.versions),
    }
    warning = replies.warning(model.name)
    return replace(
        report,
        answers=report.answers[: spec.top_k],
        llm=table,
        warnings=(*report.warnings, *([] if warning is None else [warning])),
    )


def _caption(spec: AskSpec) -> str | None:
    """Return what a language model is told of the image."""
    if spec.caption_model is None:
        return spec.caption
    # heavy, and seldom asked for
    from ..language.caption_model import CaptionModel

    captioner = CaptionModel(spec.caption_model, device=resolve_device(spec.device))
    item = Item(id=str(spec.image), path=expanded(spec.image))
    return captioner.caption(decode_image(item.read_bytes(), item_id=item.id)) or None


def answer(
    reader: PairReader, image: str | Path | bytes | Image.Image, question: str, *, top_k: int = 5
) -> AskReport:
    """Answer a question about an image.

    Args:
        reader: A joint run with the head `answers`.
        image: A file, its content, or a picture.
        question: The question; what is longer than the encoder reads is cut off.
        top_k: Answers that are told, at least 1.

    Raises:
        SpecError: The question is empty, no answer is asked for, or there is no such file.
        UnreadableItemError: The image cannot be read.
        LightalignError: See `Embedder`.
    """
    check_question(question)
    if top_k < 1:
        raise SpecError(f"top_k must be at least 1, found {top_k}")
    if isinstance(image, str | Path):
        check_image(expanded(Path(image)))
    name = str(image) if isinstance(image, str | Path) else "image"
    (images,) = reader.encode([image], [name], Modality.IMAGE)
    (texts,) = reader.encode([question], ["question"], Modality.TEXT)
    logits = reader.logits({Modality.IMAGE: images, Modality.TEXT: texts}, "answers")[0]
    trained = run_folder.read_report(reader.folder)
    calibration = Calibration.of(trained, reader.joint.objectives)
    warnings = TextReader(reader.encoders.readings(Modality.TEXT)[0].encoder).warnings(question)
    if not calibration.is_measured:
        uncalibrated = "no question with an answer of the list validated the training"
        warnings = [*warnings, f"{uncalibrated}, so the probabilities are not calibrated"]
    if blind := reader.joint.adapter.blind:
        control = f"run {reader.folder.name} is a control that does not look at the {blind}"
        warnings = [*warnings, f"{control}: with any other it answers the same"]
    told = top_answers(
        logits,
        reader.joint.answers,
        kind=calibration.kind,
        temperature=calibration.temperature,
        top_k=top_k,
    )
    return AskReport(
        run=reader.folder.name,
        question=question,
        image=name,
        answers=[{"answer": word, "probability": probability} for word, probability in told],
        calibrated=calibration.is_measured,
        temperature=calibration.temperature,
        warnings=tuple(warnings),
    )
