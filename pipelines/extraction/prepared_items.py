"""Items as encoders read them, and the batches they are encoded in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...featcache.encoders.base import Content, Encoder
from ...featcache.errors import TooManyBadItemsError, UnreadableItemError
from ...featcache.store.key import Skipped
from ...featcache.types import Item
from ...featcache.views import View, ViewItem


@dataclass
class PreparedItem:
    """One item as the encoders read it, or the reason why it cannot be read."""

    item: Item
    prepared: dict[str, Any] = field(default_factory=dict)
    companions: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    errors: dict[str, Skipped] = field(default_factory=dict)

    def read(self, encoder: Encoder[Any], content: Content, view: View | None = None) -> None:
        """Prepare the content for one encoder, as a view shows it if there is one."""
        try:
            self.prepared[encoder.name] = encoder.preprocess(content, item_id=self.item.id)
        except UnreadableItemError as error:
            self.errors[encoder.name] = self.skipped(error, stage="prepare")
            return
        if view is not None:
            assert isinstance(self.item, ViewItem)
            prepared, companions = view.encoded(
                encoder, self.prepared[encoder.name], encoder.companions(content), self.item
            )
            self.prepared[encoder.name], self.companions[encoder.name] = prepared, companions
        elif encoder.companion_names:
            self.companions[encoder.name] = encoder.companions(content)

    def skipped(self, error: UnreadableItemError, *, stage: str) -> Skipped:
        """Return the entry of the ledger that says why this item has no row."""
        return Skipped(id=self.item.id, reason=str(error), stage=stage)


def batches_of(
    encoder: Encoder[Any], items: Sequence[tuple[int, PreparedItem]], batch_size: int
) -> list[list[list[tuple[int, PreparedItem]]]]:
    """Return batches of groups of equal items, longest first, in item order where all are alike.

    Identical texts are encoded once. Texts of similar length are padded together: captions of 8 to
    40 tokens in item order are half padding. The longest come first, as what they take and free
    is large enough for all others; the other way round memory falls to pieces and grows.
    """
    groups: dict[object, list[tuple[int, PreparedItem]]] = {}
    for position, prepared_item in items:
        item = prepared_item.item
        # of rows of a view equal texts are not equal: other tokens of each are masked
        is_alone = item.text is None or isinstance(item, ViewItem)
        groups.setdefault(position if is_alone else item.text, []).append((position, prepared_item))
    ordered = sorted(
        groups.values(), key=lambda group: -encoder.size(group[0][1].prepared[encoder.name])
    )
    return [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]


def check_skipped(bad: Sequence[Skipped], num_items: int, max_bad: int) -> None:
    """Refuse more unreadable items than allowed.

    Raises:
        TooManyBadItemsError: There are more than `max_bad`; the first few are named.
    """
    if len(bad) > max_bad:
        examples = "; ".join(item.reason for item in bad[:3])
        raise TooManyBadItemsError(
            f"{len(bad)} of {num_items} items cannot be read, {max_bad} are allowed (--max-bad, "
            f"--on-error): {examples}"
        )
