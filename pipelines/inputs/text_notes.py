"""Find texts of which an encoder reads a part, or nothing that it knows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...featcache.encoders.base import Encoder
from ...featcache.errors import UnreadableItemError

# Letters of scripts that vocabularies lack, Ugaritic and cuneiform: what they have in common beside
# what stands around every text is what the tokenizer makes of anything that it does not know. Those
# for private use would not do: some tokenizers take them out.
_NOWHERE = ("\U00010380", "\U00012000")


class TextReader:
    """Texts as the tokens of an encoder: how much of one it reads, and whether it knows any."""

    def __init__(self, encoder: Encoder[Any]) -> None:
        self._encoder = encoder
        self._around, self._unknown = self._probe()

    def warnings(self, text: str) -> list[str]:
        """Return the warnings about answers that are found by a text."""
        warnings = []
        read = self.num_read(text)
        if read < len(text.rstrip()):
            warnings.append(
                f"only the first {read:,} of {len(text.rstrip()):,} characters of the text are "
                f"read: {self._encoder.name} takes no more tokens"
            )
        if self.is_unknown(text):
            warnings.append(
                f"{self._encoder.name} knows nothing in {text[:40]!r}: any other text of unknown "
                "signs finds the same"
            )
        return warnings

    def num_read(self, text: str) -> int:
        """Return how many characters, from the first on, decide the tokens of a text.

        Spaces at its end do not count.
        """
        whole = text.rstrip()
        tokens = self._tokens(whole)
        # a text is read whole if one more word, or one letter less, changes its tokens
        if self._tokens(f"{whole} a") != tokens or self._tokens(whole[:-1]) != tokens:
            return len(whole)
        # bisection: the first `high` characters always have the tokens of the whole text
        low, high = 0, len(whole) - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self._tokens(whole[:middle]) == tokens:
                high = middle
            else:
                low = middle
        return high

    def is_unknown(self, text: str) -> bool:
        """Return whether all tokens of a text stand for what the tokenizer does not know."""
        tokens = Counter(self._tokens(text)) - self._around
        return all(token in self._unknown for token in tokens)

    def _probe(self) -> tuple[Counter[int], frozenset[int]]:
        """Return the tokens around every text, and those of what is unknown."""
        once, twice = ([Counter(self._tokens(join(sign))) for sign in _NOWHERE] for join in _JOINS)
        added = [set(more - less) for less, more in zip(once, twice, strict=True)]
        unknown = frozenset(set.intersection(*added))
        common = once[0] & once[1]
        around = Counter({token: count for token, count in common.items() if token not in unknown})
        return around, unknown

    def _tokens(self, text: str) -> list[int]:
        """Return the tokens of a text; none where the encoder can make nothing of it."""
        try:
            prepared = self._encoder.preprocess(text, item_id=text[:40])
        except UnreadableItemError:
            return []
        tokens: list[int] = np.asarray(prepared).ravel().tolist()
        return tokens


_JOINS = (str, lambda sign: f"{sign} {sign}")


def class_warnings(
    encoder: Encoder[Any], names: Sequence[str], texts: Iterable[str], *, label: str
) -> list[str]:
    """Return what to know of the texts of classes."""
    reader = TextReader(encoder)
    warnings = []
    unknown = [name for name in names if reader.is_unknown(name)]
    if unknown:
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        warnings.append(f"{label}: {encoder.name} knows nothing in class {unknown[0]!r}{more}")
    cut = [text for text in texts if reader.num_read(text) < len(text.rstrip())]
    if cut:
        warnings.append(
            f"{label}: {len(cut)} texts are cut, as {encoder.name} takes no more tokens, such as "
            f"{cut[0][:60]!r}"
        )
    return warnings
