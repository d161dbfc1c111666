"""Request, options and report of a probe; nothing here imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ...featcache.bounds import MOST, MOST_SEED
from ...featcache.config import fingerprint, to_table
from ...featcache.errors import SpecError
from ...featcache.settings import Setting, check_settings
from ..common.shared_settings import ClassData, Device, Home, RunName, SourceOptions, TrainSplit
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
        validation: Of few shots a quarter, if that is more.
        regularisations: From strong to weak.
        neighbours: In rising order.
        sgd: How the head is trained by `sgd`.
    """

    validation: Annotated[
        float,
        Setting(
            "Share of each class's training images that chooses options.",
            above=0,
            below=1,
            called="a share",
        ),
    ] = 0.1
    regularisations: Annotated[tuple[float, ...], Setting("lbfgs: values of C to choose from.")] = (
        1e-5,
        1e-4,
        1e-3,
        1e-2,
        1e-1,
        1.0,
        10.0,
    )
    neighbours: Annotated[
        tuple[int, ...], Setting("knn: numbers of neighbours to choose from.")
    ] = (1, 3, 5, 10, 20, 50)
    sgd: SgdOptions = field(default_factory=SgdOptions)

    def __post_init__(self) -> None:
        check_settings(self)
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
        data: `NAME` for the newest stores, or `NAME=PATH` for those of the dataset as it is there
            now.
        features: `embedding`, through the adapter of the run, or `encoder`, the mean of what its
            adapter reads; or both.
        shots: For few-shot classifiers; none for all images.
        options: What the protocol can be told.
    """

    home: Home
    data: ClassData
    run: RunName = None
    source: SourceOptions = None
    protocol: Annotated[
        str, Setting("lbfgs, sgd (LightCRL's table) or knn.", choices=PROTOCOLS)
    ] = "lbfgs"
    features: Annotated[
        tuple[str, ...],
        Setting(
            "embedding, encoder (without the adapter) or, if none, both.",
            choices=FEATURES,
            noun="kind of features",
            each_once=True,
            commas="embedding,encoder",
        ),
    ] = FEATURES
    shots: Annotated[
        tuple[int, ...],
        Setting(
            "Training images a class, such as 1,2,4,8,16; repeatable; all if none.",
            least=1,
            most=MOST,
            fits=f"numbers from 1 to {MOST:,} that rise",
            commas="1,2,4",
        ),
    ] = ()
    seeds: Annotated[int, Setting("How often shots are drawn.", least=1, most=MOST)] = _USUAL_SEEDS
    train_split: TrainSplit = "train"
    split: Annotated[str | None, Setting("Split to measure on; test, or else val, if none.")] = None
    seed: Annotated[
        int, Setting("Seed of held-out images, shots and starts.", least=0, most=MOST_SEED)
    ] = 0
    options: ProbeOptions = field(default_factory=ProbeOptions)
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_shots()

    def _check_shots(self) -> None:
        shots = list(self.shots)
        if shots != sorted(set(shots)):
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
