"""Say by a joint run whether texts belong to an image."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...adapters.preset import JOINT
from ...featcache.errors import SpecError
from ...featcache.home import expanded
from ...featcache.types import IMAGE_TEXT, Modality, in_words
from ..common.progress import SILENT, Progress
from ..inputs.text_notes import TextReader
from ..runs import run_folder
from ..runs.joint_run import PairReader
from ..runs.required_head import require_head
from .match_spec import Match, MatchReport, MatchSpec, check_texts
from .stored_pairs import HEAD


def run(spec: MatchSpec, progress: Progress = SILENT) -> MatchReport:
    """Read an image together with each text by the run's encoders and its joint adapter.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It embeds each side alone or has no head `itm`, or there is no such image.
        LightalignError: An item cannot be encoded, see `Embedder`.
    """
    began = time.perf_counter()
    folder = run_folder.find_run(spec.home, spec.run, kind=JOINT)
    progress.note(f"run {folder.name}")
    image = expanded(spec.image)
    check_image(image)
    weights = {name: expanded(path) for name, path in (spec.weights or {}).items()}
    reader = PairReader(folder, device=spec.device, weights=weights)
    require_matching(reader, home=spec.home)
    text_encoder = reader.encoders.readings(Modality.TEXT)[0].encoder
    reader.encoders.readings(Modality.IMAGE)
    opened = time.perf_counter()
    matches = match_texts(reader, image, spec.texts, name=str(spec.image))
    read = time.perf_counter()
    notes = TextReader(text_encoder)
    warnings = dict.fromkeys(line for text in spec.texts for line in notes.warnings(text))
    return MatchReport(
        run=folder,
        image=image,
        matches=matches,
        warnings=tuple(warnings),
        seconds={"open": opened - began, "read": read - opened},
    )


def require_matching(reader: PairReader, *, home: Path) -> None:
    """Pass if a joint run tells whether an image and a text belong together.

    Raises:
        SpecError: It has no head `itm`, or reads other sides.
    """
    sides = reader.joint.adapter.sides
    if sides != IMAGE_TEXT:
        raise SpecError(
            f"run {reader.folder.name} reads {in_words(sides)} together, and this is of images "
            "with texts: name another run"
        )
    require_head(reader.joint.adapter, HEAD, folder=reader.folder, home=home)
    reader.joint.require_both_sides(reader.folder)


def match_texts(
    reader: PairReader, image: str | Path | bytes | Image.Image, texts: Sequence[str], *, name: str
) -> list[Match]:
    """Return how well each text belongs to an image; each is read alone.

    Args:
        reader: A run with the head `itm`.
        image: A file, its content, or a picture that is already decoded.
        texts: One or several.
        name: What messages call the image.

    Raises:
        SpecError: There is no text, one is empty, or there is no such file.
        LightalignError: An item cannot be encoded, see `Embedder`.
    """
    check_texts(texts)
    if isinstance(image, str | Path):
        check_image(expanded(Path(image)))
    (of_image,) = reader.encode([image], [name], Modality.IMAGE)
    of_texts = reader.encode(list(texts), [text[:40] for text in texts], Modality.TEXT)
    matches = []
    for text, of_text in zip(texts, of_texts, strict=True):
        logits = reader.logits({Modality.IMAGE: of_image, Modality.TEXT: of_text}, HEAD)
        matches.append(_match(text, logits[0].tolist()))
    return matches


def _match(text: str, logits: Any) -> Match:
    """Return the match that two logits say: the second is that of a match."""
    difference = float(logits[1]) - float(logits[0])
    # 1 / (1 + exp(-difference)), without overflow on either side
    probability = 0.5 * (1.0 + math.tanh(0.5 * difference))
    return Match(
        text=text,
        probability=probability,
        logit_difference=difference,
        matches=difference > 0,
    )


def check_image(image: Path) -> None:
    """Pass if there is a file at a place.

    Raises:
        SpecError: It is not there, or a folder.
    """
    try:
        is_file, is_folder = image.is_file(), image.is_dir()
    except (OSError, ValueError):  # longer than a name can be, or with a zero in it
        is_file = is_folder = False
    if is_folder:
        raise SpecError(f"{str(image)!r} is a folder: name one image file")
    if not is_file:
        raise SpecError(f"there is no image {str(image)!r}: name an image file")
