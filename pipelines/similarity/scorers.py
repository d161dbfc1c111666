"""Build the scorers of two texts: by which towers, and by which encoders' own vectors."""

from collections.abc import Mapping, Sequence
from functools import partial

from ...featcache.types import Side
from ..inputs.pooled_features import (
    begins_with_added,
    first_is_constant,
    first_vectors,
    has_cls,
    mean_vectors,
)
from ..inputs.store_selection import SideQuery
from ..runs.embed_stored import embed_rows
from ..runs.trained_run import TrainedRun
from .graded_split import GradedSplit, Scorer, TextEmbedder
from .text_stores import RawEncoder

_OF_TOKENS = {"mean": mean_vectors, "cls": first_vectors}  # what a store of all tokens gives


def make_scorers(
    sides: Mapping[Side, SideQuery],
    raws: Sequence[RawEncoder],
    split: GradedSplit,
    evaluated: TrainedRun | None,
) -> tuple[list[Scorer], list[str]]:
    """Return the towers of a run, alone and across, then the encoders as they are; and warnings."""
    scorers = []
    legs = {}
    for side, query in sides.items():
        assert evaluated is not None, "sides are those of a run"
        embed = partial(embed_rows, evaluated.plain_adapter, side=side, device=evaluated.device)
        legs[side] = TextEmbedder(query, embed)
        scorers.append(Scorer(side.value, legs[side], legs[side]))
    if len(legs) > 1:
        scorers.append(Scorer("across", *legs.values()))
    warnings = []
    for raw in raws:
        raw_scorers = _raw_scorers(raw, split)
        # before any attention the first token of a causal encoder has seen nothing of the text
        if _has_constant_cls(raw, split):
            raw_scorers = [scorer for scorer in raw_scorers if not scorer.label.endswith(" cls")]
            warnings.append(
                f"no cls of {raw.label}: its first token is the same for all texts, as in causal "
                "encoders; `last` is the one that has read them"
            )
        scorers += raw_scorers
        missing = {"mean", "cls"} - {scorer.label.rpartition(" ")[2] for scorer in raw_scorers}
        if missing and "tokens" not in raw.by_kind:
            warnings.append(
                f"no {' and '.join(sorted(missing))} of {raw.label} beside: "
                "`lightalign extract` of all its tokens would give it"
            )
    return scorers, warnings


def _has_constant_cls(raw: RawEncoder, split: GradedSplit) -> bool:
    """Return whether the first tokens of an encoder's texts are stored and are all the same."""
    readers = {
        kind: split.reader(raw.by_kind[kind]) for kind in ("tokens", "cls") if kind in raw.by_kind
    }
    return any(
        (kind == "cls" or begins_with_added(reader)) and first_is_constant(reader)
        for kind, reader in readers.items()
    )


def _raw_scorers(raw: RawEncoder, split: GradedSplit) -> list[Scorer]:
    """Return the mean over tokens, CLS where the encoder has one, and what else is stored."""
    tokens = raw.by_kind.get("tokens")
    legs = {}
    kinds = (*_OF_TOKENS.items(), ("last", first_vectors), ("pooled", first_vectors))
    for kind, embed in kinds:
        if (
            tokens is not None
            and kind in _OF_TOKENS
            and (kind == "mean" or has_cls(split.reader(tokens)))
        ):
            legs[kind] = TextEmbedder(tokens, embed)
        elif kind in raw.by_kind:
            legs[kind] = TextEmbedder(raw.by_kind[kind], first_vectors)
    return [Scorer(f"raw {raw.label} {kind}", leg, leg) for kind, leg in legs.items()]
