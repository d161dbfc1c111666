"""Options of tasks whose pairs are read together. Nothing here imports torch."""

from dataclasses import dataclass

from ....featcache.errors import SpecError

BLIND = ("", "image", "text")
VOCABULARIES = ("auto", "official", "frequent", "train")


@dataclass(frozen=True, kw_only=True)
class WrongPairs:
    """How the wrong pairs of the objective `itm` are drawn.

    Attributes:
        hard: Share of them that a dual run's similarity draws, in [0, 1]; the others are drawn at
            random, and all are without such a run.
        run: Folder of that run, or empty.
        adapter_sha256: SHA-256 of its adapter, or empty.
        scale: Factor on its cosines before the softmax, above 0.
    """

    hard: float = 0.3
    run: str = ""
    adapter_sha256: str = ""
    scale: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.hard <= 1:
            raise SpecError(f"[task] hard_negatives must be a share in [0, 1], found {self.hard}")
        if not 0 < self.scale < float("inf"):
            raise SpecError(f"[task] negatives_scale must be above 0, found {self.scale}")


def check_blind(blind: str) -> str:
    """Return the side that is not looked at, empty for none.

    Raises:
        SpecError: There is no such side.
    """
    if blind not in BLIND:
        raise SpecError(f"[task] blind must be image, text or empty, found {blind!r}")
    return blind


@dataclass(frozen=True, kw_only=True)
class AnswerList:
    """Which answers are told apart.

    Attributes:
        way: `official` is the list of the dataset; `frequent` has the labels of training and
            validation that are there `least_count` times, by where they come first; `train` has all
            labels of the training. `auto` is the official list where there is one, `frequent` where
            questions have ten answers, else `train`.
        least_count: See there; at least 1.
        normalise: Whether people's answers are normalised before they are looked up in the list;
            published code of VLE looks them up as they are.
    """

    way: str = "auto"
    least_count: int = 9
    normalise: bool = True

    def __post_init__(self) -> None:
        if self.way not in VOCABULARIES:
            raise SpecError(
                f"[task] vocabulary must be one of {', '.join(VOCABULARIES)}, found {self.way!r}"
            )
        if self.least_count < 1:
            raise SpecError(f"[task] least_count must be at least 1, found {self.least_count}")
