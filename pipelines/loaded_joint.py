"""A finished run of a joint adapter as Python code opens it: it reads images with texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..adapters.preset import JOINT
from ..featcache.errors import SpecError
from ..featcache.home import expanded
from .answering import ask
from .joint import match
from .joint.match_spec import Match
from .runs import run_folder
from .runs.joint_run import PairReader
from .runs.required_head import require_head


class LoadedJointRun:
    """Read items of both sides together by a finished run of a joint adapter.

    Args:
        folder: The run folder; nothing else is needed but the encoders' weights.
        device: `auto`, `cpu` or `cuda`.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
        home: Folder of everything lightalign keeps.

    Raises:
        LightalignError: The run or its encoders cannot be opened; see `Embedder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        weights: Mapping[str, Path] | None = None,
        home: Path,
    ) -> None:
        self.folder = folder
        self.home = home
        self.reader = PairReader(folder, device=device, weights=weights)

    def match(self, image: str | Path | bytes | Image.Image, texts: Sequence[str]) -> list[Match]:
        """Return how well each text belongs to an image; the numbers of `lightalign match`.

        Args:
            image: A file, its content, or a picture that is already decoded.
            texts: One or several; each is read alone with the image.

        Raises:
            SpecError: The run has no head `itm`, or an argument is of another type or empty.
            LightalignError: An item cannot be encoded; see `Embedder`.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise SpecError(f"match takes a list of texts, found {texts!r:.60}")
        if not isinstance(image, str | Path | bytes | Image.Image):
            raise SpecError(f"match takes a file or a picture, found {type(image).__name__}")
        match.require_matching(self.reader, home=self.home)
        is_file = isinstance(image, str | Path)
        name = str(image) if is_file else type(image).__name__
        return match.match_texts(self.reader, image, texts, name=name)

    def ask(
        self, image: str | Path | bytes | Image.Image, question: str, *, top_k: int = 5
    ) -> list[dict[str, Any]]:
        """Return the most probable answers to a question about an image, as `lightalign ask`.

        Args:
            image: A file, its content, or a picture that is already decoded.
            question: The question; what is longer than the encoder reads is cut off.
            top_k: Answers that are told, at least 1.

        Returns:
            Tables of `answer` and `probability`, the most probable first.

        Raises:
            SpecError: The run answers no questions, or an argument is of another type or empty.
            LightalignError: An item cannot be encoded; see `Embedder`.
        """
        if not isinstance(question, str):
            raise SpecError(f"ask takes a question as text, found {question!r:.60}")
        if not isinstance(image, str | Path | bytes | Image.Image):
            raise SpecError(f"ask takes a file or a picture, found {type(image).__name__}")
        require_head(self.reader.joint.adapter, "answers", folder=self.folder, home=self.home)
        report = ask.answer(self.reader, image, question, top_k=top_k)
        return [dict(entry) for entry in report.answers]


def load_joint(
    run: str | Path | None,
    *,
    home: Path,
    device: str = "auto",
    weights: Mapping[str, str | Path] | None = None,
) -> LoadedJointRun:
    """Open a finished run of a joint adapter, by name or folder, or the newest.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It embeds each side alone.
        LightalignError: See `LoadedJointRun`.
    """
    places = {name: expanded(Path(path)) for name, path in (weights or {}).items()}
    folder = run_folder.find_run(home, None if run is None else str(run), kind=JOINT)
    return LoadedJointRun(folder, device=device, weights=places, home=home)
