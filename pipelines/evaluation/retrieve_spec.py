"""Settings and report of a retrieval evaluation; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.config import check_counts
from ...featcache.errors import SpecError
from ..ranking.index_plan import EXACT
from ..ranking.normalisation import PUBLISHED, Normalisation

BANK = 10_000  # items of a side; the QB-Norm paper has gains from some thousands on
_USUAL_K = 100
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
        qb_rule: `dynamic` or `static`, see `Normalisation`; None for its default.
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
    def normalisation(self) -> Normalisation:
        """Return how `qb-norm` normalises.

        Raises:
            UnknownNameError: There is no such rule.
            SpecError: The sharpness is out of its range.
        """
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
