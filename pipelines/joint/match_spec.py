"""Settings and report of matching texts with an image; nothing here imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, EncoderWeights, Home


@dataclass(frozen=True, kw_only=True)
class MatchSpec:
    """Settings of matching texts with one image.

    Attributes:
        run: Name or folder of a run of a joint adapter, or None for the newest.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
    """

    home: Home
    run: Annotated[str | None, Setting("Joint run.", argument=True, needed=True)] = None
    image: Annotated[Path, Setting("The path of an image.", argument=True)]
    texts: Annotated[
        tuple[str, ...], Setting("Texts to match with it.", argument=True, flag="text")
    ]
    weights: EncoderWeights = None
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self, where="--")
        check_texts(self.texts)


def check_texts(texts: Sequence[str]) -> None:
    """Refuse no text at all, and one that is empty.

    Raises:
        SpecError: There is none, or one is empty.
    """
    if not texts:
        raise SpecError("there is no text to match with the image: give one or several")
    empty = next((number for number, text in enumerate(texts, 1) if not text.strip()), None)
    if empty is not None:
        raise SpecError(f"text {empty} of {len(texts)} is empty: give a text to match")


@dataclass(frozen=True, kw_only=True)
class Match:
    """How well a text and an image belong together by the head `itm` of a joint run.

    Attributes:
        text: The text.
        probability: Softmax of the two logits of the head, that of a match, in [0, 1]; of pairs as
            the training had them, one right pair to two wrong ones.
        logit_difference: Logit of a match less that of none, unbounded; 0 is the border.
        matches: Whether it is above 0.
    """

    text: str
    probability: float
    logit_difference: float
    matches: bool


@dataclass(frozen=True, kw_only=True)
class MatchReport:
    """Report of matching texts with one image.

    Attributes:
        run: The run folder.
        image: The image.
        matches: One entry a text, in their order.
        warnings: What to know of these numbers.
        seconds: Time of each part: `open` of the run and its encoders, `read`.
    """

    run: Path
    image: Path
    matches: Sequence[Match]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
