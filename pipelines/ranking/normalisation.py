"""Names of the scorings, and the options of those that normalise; nothing here imports torch."""

from dataclasses import dataclass

from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name

COSINE, QUERYBANK, DUAL_SOFTMAX = "cosine", "qb-norm", "dual-softmax"
SCORINGS = (COSINE, QUERYBANK, DUAL_SOFTMAX)
DYNAMIC, STATIC = "dynamic", "static"
RULES = (DYNAMIC, STATIC)
SHARPNESS = 20.0  # inverse temperature, a factor on cosines: that of the QB-Norm paper
MOST_SHARPNESS = 1000  # beyond, the sum is its largest term

DEFINITIONS = {
    COSINE: "cosine of the embeddings of query and gallery row",
    DUAL_SOFTMAX: (
        f"product of the softmax over the gallery and the softmax over all queries at sharpness "
        f"{SHARPNESS:g}; transductive: every query's answer depends on all other test queries"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Rule and sharpness by which `qb-norm` normalises.

    The defaults are the best on the validation splits of two datasets, see `querybank.py` in
    tests/benchmarks.

    Attributes:
        rule: `static` corrects every query; `dynamic` those whose first row is also first for some
            query of the bank, as published.
        sharpness: Inverse temperature s, a factor on cosines, in (0, 1000].

    Raises:
        UnknownNameError: There is no such rule.
        SpecError: The sharpness is out of its range.
    """

    rule: str = STATIC
    sharpness: float = 15.0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown_name("querybank rule", self.rule, RULES)
        if not 0 < self.sharpness <= MOST_SHARPNESS:
            raise SpecError(
                f"--qb-sharpness must be above 0 and at most {MOST_SHARPNESS:,g}, found "
                f"{self.sharpness}"
            )

    @property
    def definition(self) -> str:
        """Return what is measured."""
        corrected = (
            "each row's cosine less log(sum over the bank of exp(sharpness * cosine)) / sharpness"
        )
        if self.rule == DYNAMIC:
            corrected = (
                f"where the row first found is also first for some query of the bank, {corrected}, "
                "else the cosine"
            )
        return (
            f"querybank normalisation by {self.rule} inverted softmax at sharpness "
            f"{self.sharpness:g}: {corrected}; the bank holds training items only"
        )


PUBLISHED = Normalisation(rule=DYNAMIC, sharpness=SHARPNESS)


def check_scoring(name: str) -> None:
    """Refuse the name of no scoring.

    Raises:
        UnknownNameError: There is no such scoring.
    """
    if name not in SCORINGS:
        raise unknown_name("scoring", name, SCORINGS)
