"""Settings and report of a retrieval evaluation; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.bounds import MOST
from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import Device, Home, RunData, RunName, SourceOptions
from ..ranking.index_plan import EXACT
from ..ranking.normalisation import MOST_SHARPNESS, PUBLISHED, Normalisation

BANK = 10_000  # items of a side; the QB-Norm paper has gains from some thousands on
_USUAL_K = 100
_LEAST_RERANKED = 10  # answers, by which R@10 is measured


@dataclass(frozen=True, kw_only=True)
class RetrieveSpec:
    """Settings of one retrieval evaluation.

    Attributes:
        data: `NAME` of a dataset, for the newest stores; `NAME=PATH` for those of the dataset as it
            is there now.
        index: `flat`, which is exact; another of `index_plan.KINDS`, or a FAISS factory string.
        same_text: With `negative` each text is right for its own images alone; with `drop` all but
            the first of those that say the same are left out.
        folds: Folds of consecutive images, whose recalls are averaged beside those of the whole
            split, as the COCO protocol has it; 0 for none.
        rerank: Name or folder of a run of a joint adapter, which reads the first k answers of each
            query together with it, or None for none.
        rerank_scale: Factor on cosines that are added to its logit differences; that by which its
            wrong pairs were drawn if None.
    """

    home: Home
    run: RunName = None
    source: SourceOptions = None
    k: Annotated[
        int,
        Setting(
            "Largest rank of the recall curve; with --rerank so many are read again.",
            least=1,
            most=MOST,
        ),
    ] = _USUAL_K
    split: Annotated[str, Setting("Split to evaluate on.")] = "test"
    data: RunData = None
    scoring: Annotated[str, Setting("cosine, or qb-norm or dual-softmax beside it.")] = "cosine"
    bank: Annotated[
        int, Setting("Training items of a side that qb-norm takes, at most.", least=1, most=MOST)
    ] = BANK
    qb_rule: Annotated[
        str | None, Setting("Rule of qb-norm: static (if none) or dynamic, as published.")
    ] = None
    qb_sharpness: Annotated[
        float | None,
        Setting(
            "Factor on cosines of qb-norm; 15 if none, published 20.", above=0, most=MOST_SHARPNESS
        ),
    ] = None
    index: Annotated[
        str,
        Setting("flat, which is exact; auto, ivf, hnsw, pq or a FAISS factory string: R@k alone."),
    ] = EXACT
    memory: Annotated[str | None, Setting("What an index may take; half of the free if none.")] = (
        None
    )
    folds: Annotated[
        int,
        Setting("Average over folds of images, too; 5 on COCO's 5k gives 1k.", least=2, most=MOST),
    ] = 0
    same_text: Annotated[
        str,
        Setting(
            "Texts that say the same: negative, positive (right for the images of all) or drop."
        ),
    ] = "negative"
    rerank: Annotated[
        str | None, Setting("Joint run that puts the first --k of each query into a new order.")
    ] = None
    rerank_scale: Annotated[
        float | None,
        Setting(
            "Factor on cosines added to its scores; that of its wrong pairs if none.",
            above=0,
            most=MOST_SHARPNESS,
        ),
    ] = None
    allow_leakage: Annotated[
        bool, Setting("Measure what took part in the training, too.", flag="--allow-leakage")
    ] = False
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self)
        if self.scoring != "qb-norm" and (self.qb_rule, self.qb_sharpness) != (None, None):
            raise SpecError("--qb-rule and --qb-sharpness are those of --scoring qb-norm: name it")
        if self.scoring != "cosine" and self.index.lower() != EXACT:
            raise SpecError(
                f"--index {self.index} finds what is near by the cosine: leave out --scoring, or it"
            )
        self._check_rerank()

    def _check_rerank(self) -> None:
        """Refuse what does not go with a second stage, and its options without one."""
        if self.rerank is None:
            if self.rerank_scale is not None:
                raise SpecError("--rerank-scale is that of --rerank: name a joint run by it")
            return
        if self.k < _LEAST_RERANKED:
            raise SpecError(
                f"--rerank reports R@{_LEAST_RERANKED} of the first --k, which must be at least "
                f"{_LEAST_RERANKED}, found {self.k}"
            )
        if self.scoring != "cosine" or self.index.lower() != EXACT or self.folds:
            raise SpecError(
                "--rerank puts what the exact cosine finds into a new order: leave out --scoring, "
                "--index and --folds, or it"
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
        if self.rerank is not None:
            unusual.append(f"rerank-{Path(self.rerank).name}-k-{self.k}")
            unusual += [f"scale-{self.rerank_scale:g}"] if self.rerank_scale else []
        if self.index.lower() != EXACT:
            unusual.append(self.index)
            # as many are looked for, and some indexes find more of the first few then
            if self.k != _USUAL_K:
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
            "rerank": self.rerank,
            "rerank_scale": self.rerank_scale,
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
