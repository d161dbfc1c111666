"""Views that a request for an extraction asks for, and whether its encoders can give them."""

from collections.abc import Sequence
from typing import Any

from ...featcache.config import in_words
from ...featcache.encoders.base import Encoder
from ...featcache.encoders.pooling import FeaturePooling
from ...featcache.errors import SpecError
from ...featcache.modalities import reader_of
from ...featcache.views import View
from ...featcache.views.masked_boxes import MaskedBoxes, MaskedBoxesOptions
from ...featcache.views.masked_tokens import MaskedTokens, MaskedTokensOptions
from .opening import ResolvedExtraction
from .spec import ExtractSpec


def views_of(
    spec: ExtractSpec, encoders: Sequence[Encoder[Any]], opened: ResolvedExtraction, split: str
) -> list[View]:
    """Return the views that `spec` asks for of one split; those without a row there are left out.

    Raises:
        SpecError: No encoder reads what a view is of, one cannot encode it, none of the features
            may be kept of it, or no split has anything to be viewed.
    """
    views = _asked(spec)
    for view in views:
        _require(view, spec, encoders)
    # one split may lack what another has, but not all of them
    splits = dict.fromkeys([split, *opened.splits])
    for view in views:
        if not any(_has_rows(view, opened, name) for name in splits):
            raise SpecError(
                f"{opened.dataset} has no boxes for {view.flag} in {in_words(list(splits))}"
            )
    return [view for view in views if _has_rows(view, opened, split)]


def _asked(spec: ExtractSpec) -> list[View]:
    views: list[View] = []
    if spec.mlm_variants:
        options = MaskedTokensOptions(
            variants=spec.mlm_variants, mask_share=float(spec.mask_share), seed=spec.view_seed
        )
        views.append(MaskedTokens(options))
    if spec.mask_boxes:
        views.append(MaskedBoxes(MaskedBoxesOptions()))
    return views


def _require(view: View, spec: ExtractSpec, encoders: Sequence[Encoder[Any]]) -> None:
    """Pass if encoders and features of `spec` can give a view."""
    plural = reader_of(view.modality).plural
    reading = [encoder for encoder in encoders if encoder.modality is view.modality]
    if not reading:
        names = in_words([encoder.name for encoder in encoders])
        raise SpecError(f"{view.flag} is of {plural}, which {names} cannot read: add an --encoder")
    for encoder in reading:
        view.require(encoder)
    if not any(view.keeps(FeaturePooling(name)) for name in spec.features):
        raise SpecError(
            f"{view.flag} keeps every token, and {in_words(list(spec.features))} does not: add "
            "--features tokens"
        )


def _has_rows(view: View, opened: ResolvedExtraction, split: str) -> bool:
    return len(view.items(opened.source, split)) > 0
