"""Limits on exporting some features, as far as their extraction knows, and the way around them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...featcache.config import in_words
from ...featcache.encoders.base import LAST, Encoder
from ...featcache.encoders.exportable import ExportableEncoder
from ...featcache.encoders.pooling import FeaturePooling, LayerLayout
from ...featcache.errors import SpecError
from ..common.progress import Progress
from .exact import EXACT
from .extract_command import command_of
from .spec import ExtractSpec

_ROUNDED = {"int8": "dtype int8", "bfloat16": "dtype bfloat16 where its rounding shows"}


def note_exports(spec: ExtractSpec, encoders: Sequence[Encoder[Any]], progress: Progress) -> None:
    """Note once what `export` will refuse of the features that `spec` asks for.

    The precision of its encoders is set by then.
    """
    portables: dict[str, ExportableEncoder | None] = {}
    for encoder in encoders:
        portables[encoder.name] = None
        with suppress(SpecError):
            portables[encoder.name] = encoder.portable()
    without = [name for name, portable in portables.items() if portable is None]
    inexact = [
        encoder.name
        for encoder in encoders
        if encoder.precision != EXACT and encoder.name not in without
    ]
    reasons = []
    if inexact:
        exact = replace(spec, encoders=tuple(inexact), precision=EXACT)
        reasons.append(
            f"will leave {in_words(inexact)} out, computing in bfloat16 where an export computes "
            f"in {EXACT}; with whole towers in mind, run `{command_of(exact)}`"
        )
    if without:
        reasons.append(
            f"will leave {in_words(without)} out, without a model that could be exported"
        )
    for encoder in encoders:
        portable = portables[encoder.name]
        refused = _refused_by_stock(spec, encoder.layout())
        if refused and portable is not None and portable.transformers_folder is not None:
            reasons.append(f"will refuse {in_words(refused)} for --to sentence-transformers")
            break
    if reasons:
        progress.note(f"`lightalign export` {'; '.join(reasons)}")


def inexpressible_features(layer: int, kind: FeaturePooling, layout: LayerLayout) -> str | None:
    """Return why stock modules of sentence-transformers cannot give some features, or None."""
    if layer != LAST:
        return "the stock encoder gives its last layer only"
    if kind.name == "mean" and layout.prefix_tokens:
        return "stock pooling takes the tokens before the patches in"
    if kind.name == "pooled":
        return "stock pooling does not know what the model itself pools"
    if kind.name not in ("mean", "cls", "last") and not kind.keeps_tokens:
        return "stock pooling knows no grid"
    return None


def _refused_by_stock(spec: ExtractSpec, last: LayerLayout) -> list[str]:
    """Return what of the options no stock modules of sentence-transformers can give."""
    refused = [f"layer {layer}" for layer in spec.layers if layer != LAST]
    refused += [
        f"features {name}"
        for name in spec.features
        if inexpressible_features(LAST, FeaturePooling(name), last) is not None
    ]
    # no stock module rounds what it reads
    rounded = _ROUNDED.get(spec.dtype)
    return refused if rounded is None else [*refused, rounded]
