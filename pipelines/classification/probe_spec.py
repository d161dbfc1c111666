"""Request, options and report of a probe; nothing here imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...featcache.bounds import MOST
from ...featcache.config import check_counts, check_seed, fingerprint, to_table
from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from .sgd_options import SgdOptions

PROTOCOLS = ("lbfgs", "sgd", "knn")
FEATURES = ("embedding", "encoder")


_USUAL_SHOTS = (1, 2, 4, 8, 16)  # of few-shot tables, such as CLIP's
_USUAL_SEEDS = 5


_READABLE = 24  # letters of a value that a name still holds


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Options of the probe protocols.

    Attributes:
        validation: Share of the training images of each class by which options are chosen, in
            (0, 1); of few shots a quarter, if that is more.
        regularisations: `lbfgs`: values of C to choose from, from strong to weak.
        neighbours: `knn`: numbers of neighbours to choose from, in rising order.
        sgd: `sgd`: how the head is trained.
    """

    validation: float = 0.1
    regularisations: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    neighbours: tuple[int, ...] = (1, 3, 5, 10, 20, 50)
    sgd: SgdOptions = field(default_factory=SgdOptions)

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise SpecError(f"validation must be a share in (0, 1), found {self.validation}")
        lists: Mapping[str, tuple[tuple[float, ...], Callable[[float], bool]]] = {
            "regularisations": (self.regularisations, lambda value: value > 0),
            "neighbours": (self.neighbours, lambda value: value >= 1),
        }
        for name, (values, fits) in lists.items():
            if not values or not all(map(fits, values)) or list(values) != sorted(set(values)):
                raise SpecError(f"{name} must be positive numbers that rise, found {list(values)}")


@dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """Settings of one probe.

    Attributes:
        home: Folder of everything lightalign keeps.
        data: Dataset of classes, as `NAME` for the newest stores, or `NAME=PATH` for those of the
            dataset as it is there now.
        run: Name or folder of a run, or None for the newest.
        source: Options of the dataset, by name, for the stores of just that dataset; or None.
        protocol: `lbfgs`, `sgd` or `knn`.
        features: `embedding`, through the adapter of the run, or `encoder`, the mean of what its
            adapter reads; or both.
        train_split: Split that the classifier is trained on.
        split: Split that it is measured on, or None for `test`, or `val` where there is no `test`.
        shots: Training images of each class, for few-shot classifiers; none for all images.
        seeds: How often shots are drawn.
        seed: Seed of what is held out, of the first draw and of a head's start.
        options: What the protocol can be told.
        device: `auto`, `cpu` or `cuda`.
    """

    home: Path
    data: str
    run: str | None = None
    source: Mapping[str, Any] | None = None
    protocol: str = "lbfgs"
    features: tuple[str, ...] = FEATURES
    train_split: str = "train"
    split: str | None = None
    shots: tuple[int, ...] = ()
    seeds: int = _USUAL_SEEDS
    seed: int = 0
    options: ProbeOptions = field(default_factory=ProbeOptions)
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        for name in self.features:
            if name not in FEATURES:
                raise unknown_name("kind of features", name, FEATURES)
        if not self.features or len(set(self.features)) < len(self.features):
            raise SpecError(f"features must be some of {FEATURES}, found {self.features}")
        check_seed(self.seed)
        check_counts(self, {"seeds": 1})
        self._check_shots()

    def _check_shots(self) -> None:
        shots = list(self.shots)
        if any(not 1 <= number <= MOST for number in shots) or shots != sorted(set(shots)):
            raise SpecError(
                f"shots must be numbers from 1 to {MOST:,} that rise, found {shots!s:.200}"
            )
        if shots and self.protocol == "sgd":
            raise SpecError(
                "protocol sgd is a published table of all images: few-shot goes with lbfgs or knn"
            )

    @property
    def variant(self) -> str:
        """Return what is measured in another way than usual, or nothing."""
        unusual = [] if self.features == FEATURES else list(self.features)
        unusual += [] if self.train_split == "train" else [self.train_split]
        if self.shots:
            unusual += [] if self.shots == _USUAL_SHOTS else [f"shots-{_short(self.shots)}"]
            unusual += [] if self.seeds == _USUAL_SEEDS else [f"seeds-{self.seeds}"]
        unusual += [f"seed-{self.seed}"] if self.seed else []
        return "-".join([*unusual, *self._unusual_options()])

    def _unusual_options(self) -> list[str]:
        """Return the options of this protocol that are not the usual ones, with their values."""
        options, usual = to_table(self.options), to_table(ProbeOptions())
        names = {"lbfgs": ("validation", "regularisations"), "knn": ("validation", "neighbours")}
        if self.protocol not in names:
            options, usual = options[self.protocol], usual[self.protocol]
        return [
            f"{name}-{_short(options[name])}"
            for name in names.get(self.protocol, tuple(options))
            if options[name] != usual[name]
        ]

    @property
    def kind(self) -> str:
        """Return the name of the evaluation."""
        return f"few-shot-{self.protocol}" if self.shots else f"probe-{self.protocol}"


def _short(value: Any) -> str:
    """Return a value as a name holds it: a long one as the first letters of its hash."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _READABLE else fingerprint(value)[:8]


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """Report of one probe.

    Attributes:
        path: The report file, or None where it may not be written.
        report: Its content.
    """

    path: Path | None
    report: Mapping[str, Any]
