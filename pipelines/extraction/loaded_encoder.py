"""Encoders as an extraction loads them: their precision set, compiled where that is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ...featcache.encoders.base import Encoder
from ...featcache.encoders.loading import load_encoder
from ...featcache.encoders.memory import bytes_of_an_item
from ...featcache.encoders.precision import choose_precision, compile_encoder
from ...featcache.encoders.references import table_of_own
from ...featcache.encoders.weights import GIVEN
from ...featcache.errors import SpecError
from ...featcache.hardware import resolve_device
from ..common.progress import Progress
from .opening import ResolvedExtraction, with_place
from .spec import ExtractSpec


@dataclass(frozen=True, kw_only=True)
class LoadedEncoder:
    """Loaded encoder, with what was settled when it was loaded.

    Attributes:
        encoder: The encoder, its precision set.
        origin: Where its weights came from.
        settings: What a manifest records besides its key, such as the measured cosine.
        measured_bytes: `item_bytes` where it was measured before, as compiled encoders need.
    """

    encoder: Encoder[Any]
    origin: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    measured_bytes: int | None = None

    @cached_property
    def item_bytes(self) -> int:
        """Return the memory that the largest item takes in a forward pass."""
        measured = self.measured_bytes
        return bytes_of_an_item(self.encoder) if measured is None else measured


def load_all(
    spec: ExtractSpec, opened: ResolvedExtraction, progress: Progress
) -> list[LoadedEncoder]:
    """Load the encoders, settle their precision and compile them."""
    device = resolve_device(spec.device)
    loaded = []
    for card, weights in opened.cards:
        progress.note(f"loading encoder {card.name}, weights: {weights.origin}")
        encoder = load_encoder(card, weights, device=spec.device)
        cosine = choose_precision(encoder, spec.precision, device)
        layout = encoder.layout()
        has_prefix = layout.grid is None or layout.prefix_tokens > 0
        settings: dict[str, Any] = {
            "precision": encoder.precision,
            "first_is_class": has_prefix and layout.first_is_class,
        }
        card_table = table_of_own(with_place(card, weights))
        if card_table is not None:
            settings["card"] = card_table
        elif weights.origin == GIVEN and weights.files is not None:
            settings["weights"] = str(weights.files)
        if cosine is not None:
            progress.note(
                f"{card.name}: computes in {encoder.precision}; in bfloat16 the smallest cosine of "
                f"a token to its float32 self is {cosine:.5f}"
            )
            settings["bfloat16_cosine"] = f"{cosine:.6f}"
        measured = None
        if spec.compile:
            # before: what is compiled hides its tensors
            if spec.batch_size is None:
                measured = bytes_of_an_item(encoder)
            progress.note(f"compiling encoder {card.name}")
            settings["compiled_cosine"] = f"{compile_encoder(encoder):.6f}"
        loaded.append(
            LoadedEncoder(
                encoder=encoder, origin=weights.origin, settings=settings, measured_bytes=measured
            )
        )
    return loaded


def splits_with_items(
    opened: ResolvedExtraction, loaded: Sequence[LoadedEncoder], progress: Progress
) -> list[str]:
    """Return the splits that hold items of every encoder's modality; others are noted."""
    source = opened.source
    modalities = {loaded_encoder.encoder.modality for loaded_encoder in loaded}
    full = [
        split
        for split in opened.splits
        if all(source.items(split, modality) for modality in modalities)
    ]
    names = " and ".join(sorted(modality.value for modality in modalities))
    if not full:
        raise SpecError(
            f"no split of {list(opened.splits)} of {opened.dataset} holds {names} items"
        )
    for split in opened.splits:
        if split not in full:
            progress.note(f"{opened.dataset}: split {split!r} lacks {names} items, passed over")
    return full
