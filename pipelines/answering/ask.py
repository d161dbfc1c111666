"""Answer a question about an image by a joint run: its frozen encoders, then its adapter."""

import time
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ...adapters.preset import JOINT
from ...featcache.errors import SpecError
from ...featcache.home import expanded
from ...featcache.types import IMAGE_TEXT, Modality
from ..common.progress import SILENT, Progress
from ..inputs.text_notes import TextReader
from ..joint.match import check_image
from ..runs import run_folder
from ..runs.joint_run import PairReader
from ..runs.required_head import require_head
from .ask_spec import AskReport, AskSpec, check_question
from .predictions import Calibration, top_answers


def run(spec: AskSpec, progress: Progress = SILENT) -> AskReport:
    """Answer one question about one image.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It answers no questions, or the image is not there.
        LightalignError: The image cannot be read, or the encoders not be opened; see `Embedder`.
    """
    began = time.perf_counter()
    folder = run_folder.find_run(spec.home, spec.run, kind=JOINT)
    progress.note(f"run {folder.name}")
    image = expanded(spec.image)
    check_image(image)
    weights = {name: expanded(path) for name, path in (spec.weights or {}).items()}
    reader = PairReader(folder, device=spec.device, weights=weights)
    require_head(reader.joint.adapter, "answers", folder=folder, home=spec.home)
    for side in IMAGE_TEXT:
        reader.encoders.readings(side)
    opened = time.perf_counter()
    report = answer(reader, image, spec.question, top_k=spec.top_k)
    seconds = {"open": opened - began, "read": time.perf_counter() - opened}
    for warning in report.warnings:
        progress.note(warning)
    return replace(report, seconds=seconds)


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
        warnings = [
            *warnings,
            "nothing validated the training, so the probabilities are not calibrated",
        ]
    if blind := reader.joint.adapter.blind:
        warnings = [*warnings, f"the run is a control that does not look at the {blind}"]
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
