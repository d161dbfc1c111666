"""Texts with some of their tokens masked, for masked language modelling."""

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from typing_extensions import override

from ..encoders.base import Encoder
from ..encoders.pooling import FeaturePooling
from ..encoders.vocabulary import Vocabulary
from ..sources.base import Source
from ..types import Modality
from .base import Companions, View, ViewItem

MASKED, REPLACED = 0.8, 0.1  # shares of the chosen tokens; the others stay as they are
_DRAWS = 3  # numbers a token: whether it is chosen, what becomes of it, and by what it is replaced
_KEPT_TOKEN = -1  # in `masked_ids`, of a token that was not chosen


@dataclass(frozen=True, kw_only=True)
class MaskedTokensOptions:
    """Options of `MaskedTokens`.

    Attributes:
        variants: Rows of each text, at least 1.
        mask_share: Probability with which each token is chosen, in (0, 1].
        seed: Another one chooses other tokens.
    """

    variants: int
    mask_share: float
    seed: int


class MaskedTokens(View):
    """Some variants of each text, in which other tokens are to be guessed.

    Of the tokens of the text itself each is chosen with probability `mask_share`; where none is,
    one of them all the same. Special tokens, those of unknown words and those of a prompt are
    never. Of the chosen 80 % become the mask token, 10 % another ordinary token of the vocabulary,
    each with equal probability, and 10 % stay, to be guessed like the others.

    Which these are follows from the seed, the id of the text and the variant alone. Beside each
    token `masked_ids` has its original id if it was chosen, else -1; `token_ids` are those that the
    encoder has read. Special tokens and character spans are those of the text.

    Source: BERT (Devlin et al. 2019), section 3.1; there a replacement may be the original token.
    """

    modality = Modality.TEXT
    flag = "--mlm-variants"
    token_companions: ClassVar[tuple[str, ...]] = ("masked_ids",)
    Options = MaskedTokensOptions

    def __init__(self, options: MaskedTokensOptions) -> None:
        super().__init__(options)
        self._vocabularies: dict[str, Vocabulary] = {}

    @override
    def require(self, encoder: Encoder[Any]) -> None:
        self._vocabulary(encoder)

    @override
    def keeps(self, kind: FeaturePooling) -> bool:
        # which of the tokens are to be guessed is lost with the tokens
        return kind.name == "tokens"

    @override
    def count_rows(self, source: Source, split: str) -> Int64[np.ndarray, " items"]:
        count = len(source.items(split, self.modality))
        return np.full(count, self.options.variants, dtype=np.int64)

    @override
    def encoded(
        self, encoder: Encoder[Any], prepared: Any, companions: Companions, item: ViewItem
    ) -> tuple[Any, Companions]:
        token_ids, masked_ids = mask_tokens(
            companions["token_ids"],
            companions["special_tokens"] > 0,
            self._vocabulary(encoder),
            share=self.options.mask_share,
            name=(self.options.seed, item.of, item.variant),
        )
        arrays = {**companions, "token_ids": token_ids, "masked_ids": masked_ids}
        return encoder.with_token_ids(prepared, token_ids), {**arrays, **self.row_arrays(item)}

    def _vocabulary(self, encoder: Encoder[Any]) -> Vocabulary:
        if encoder.name not in self._vocabularies:
            self._vocabularies[encoder.name] = encoder.vocabulary()
        return self._vocabularies[encoder.name]


def mask_tokens(
    token_ids: Int32[np.ndarray, " tokens"],
    special: Bool[np.ndarray, " tokens"],
    vocabulary: Vocabulary,
    *,
    share: float,
    name: tuple[int, str, int],
) -> tuple[Int32[np.ndarray, " tokens"], Int32[np.ndarray, " tokens"]]:
    """Mask some tokens of a text; see `MaskedTokens`.

    Args:
        token_ids: Tokens of the text.
        special: Those that were added to it.
        vocabulary: Tokens that may stand in their place.
        share: Probability with which each is chosen.
        name: Seed, id of the text, and variant, from which the choice follows.

    Returns:
        The tokens to encode, and the original ids of the chosen ones, -1 of all others.
    """
    words = vocabulary.ordinary_ids
    places = np.searchsorted(words, token_ids).clip(max=len(words) - 1)
    ordinary = ~special & (words[places] == token_ids)
    ordinary[: vocabulary.num_fixed] = False
    draws = _uniform(name, 1 + _DRAWS * len(token_ids))
    chances, fates, others = draws[1:].reshape(_DRAWS, -1)
    chosen = ordinary & (chances < share)
    candidates = np.flatnonzero(ordinary)
    if len(candidates) and not chosen.any():
        chosen[candidates[int(draws[0] * len(candidates))]] = True
    # any word but the own one: of those behind it the number is one more
    numbers = (others * (len(words) - 1)).astype(np.int64)
    replacements = words[(numbers + (numbers >= places)).clip(max=len(words) - 1)]
    is_replaced = chosen & (fates >= MASKED) & (fates < MASKED + REPLACED)
    # in a vocabulary of one word there is no other
    is_masked = chosen & ((fates < MASKED) | (is_replaced & (replacements == token_ids)))
    changed = np.where(is_replaced, replacements, token_ids)
    changed = np.where(is_masked, vocabulary.mask_id, changed).astype(np.int32)
    return changed, np.where(chosen, token_ids, _KEPT_TOKEN).astype(np.int32)


def _uniform(name: tuple[int, str, int], count: int) -> Float64[np.ndarray, " count"]:
    """Return numbers in [0, 1) that follow from a name on every machine, in every version."""
    seed, item, variant = name
    digest = hashlib.shake_256(f"{seed} {variant} {item}".encode()).digest(8 * count)
    return (np.frombuffer(digest, dtype="<u8") >> np.uint64(11)) * 2.0**-53
