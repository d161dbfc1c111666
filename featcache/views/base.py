"""The contract of a view: which rows it has of an item, and what the encoder reads for each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64

from ..encoders.base import Content, Encoder
from ..encoders.pooling import FeaturePooling
from ..sources.base import LazySequence, Source
from ..types import Item, Modality

Companions = Mapping[str, np.ndarray]
_ROW = ("item", "variant")  # companions of every row


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewItem(Item):
    """One row of a view: an item of the dataset, to be encoded otherwise. Its id is `ITEM~N`.

    Attributes:
        of: Id of the item.
        place: Position of the item among those of its split.
        variant: Which of the item's rows this is, from 0; N of the id.
    """

    of: str
    place: int
    variant: int


class View(ABC):
    """Kind of what is encoded of an item beside the item itself, with its options.

    Attributes:
        modality: What its items are.
        flag: Option of `extract` that asks for it.
        token_companions: Arrays that stand beside the tokens of each row, one line a token.
        row_companions: Arrays of one line a row, further than place and variant of the item.
        Options: Frozen dataclass of its options; all of them are in the key of its stores.
    """

    modality: ClassVar[Modality]
    flag: ClassVar[str]
    token_companions: ClassVar[tuple[str, ...]] = ()
    row_companions: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type]

    def __init__(self, options: Any) -> None:
        self.options = options
        assert isinstance(self.options, self.Options)
        self._rows: dict[str, _Rows] = {}

    @property
    def name(self) -> str:
        """Return the name in the registry."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    def described(self) -> dict[str, Any]:
        """Return name and options, as the description of a store holds them."""
        return {"name": self.name, "options": asdict(self.options)}

    def require(self, encoder: Encoder[Any]) -> None:  # noqa: B027  # of most nothing is asked
        """Pass if an encoder of the modality can encode the rows of the view.

        Raises:
            SpecError: It cannot.
        """

    def keeps(self, kind: FeaturePooling) -> bool:
        """Return whether stores of the view may keep this of the tokens."""
        return True

    def companions(self, kind: FeaturePooling) -> tuple[str, ...]:
        """Return the arrays that stand beside the features of the view, by name."""
        tokens = self.token_companions if kind.keeps_tokens else ()
        return (*tokens, *_ROW, *self.row_companions)

    def items(self, source: Source, split: str) -> Sequence[ViewItem]:
        """Return the rows of one split, those of an item one after the other, in item order."""
        items = source.items(split, self.modality)
        rows = self._rows_of(source, split)

        def make(position: int) -> ViewItem:
            place, variant = rows.locate(position)
            item = items[place]
            return ViewItem(
                id=_row_id(item.id, variant),
                path=item.path,
                data=item.data,
                text=item.text,
                of=item.id,
                place=place,
                variant=variant,
            )

        return LazySequence(len(rows), make)

    def ids(self, source: Source, split: str) -> Sequence[str]:
        """Return the ids of `items`, without what it may cost to make these."""
        ids = source.ids(split, self.modality)
        rows = self._rows_of(source, split)

        def make(position: int) -> str:
            place, variant = rows.locate(position)
            return _row_id(ids[place], variant)

        return LazySequence(len(rows), make)

    def most_rows(self, source: Source, split: str, num_items: int) -> int:
        """Return the rows that so many items of a split have at most."""
        counts = np.sort(self._rows_of(source, split).counts)[::-1]
        return int(counts[:num_items].sum())

    @abstractmethod
    def count_rows(self, source: Source, split: str) -> Int64[np.ndarray, " items"]:
        """Return how many rows each item of a split has."""

    def change(self, content: Content, item: ViewItem) -> Content:
        """Return the decoded content of an item as its row shows it to every encoder.

        Encoders share the content, which is not to be changed itself.

        Raises:
            UnreadableItemError: The row cannot be made of the content.
        """
        return content

    def encoded(
        self, encoder: Encoder[Any], prepared: Any, companions: Companions, item: ViewItem
    ) -> tuple[Any, Companions]:
        """Return what the encoder is given of a row, and the arrays that stand beside it.

        Args:
            encoder: The encoder.
            prepared: What it makes of the changed content.
            companions: What it has beside that.
            item: The row.
        """
        return prepared, {**companions, **self.row_arrays(item)}

    def row_arrays(self, item: ViewItem) -> Companions:
        """Return the arrays of one line a row."""
        return {
            "item": np.array([item.place], dtype=np.int64),
            "variant": np.array([item.variant], dtype=np.int32),
        }

    def _rows_of(self, source: Source, split: str) -> "_Rows":
        """Return the rows of a split; they are counted once, as the view is of one extraction."""
        if split not in self._rows:
            self._rows[split] = _Rows(self.count_rows(source, split))
        return self._rows[split]


class _Rows:
    """Rows of each item of a split, one after the other."""

    def __init__(self, counts: Int64[np.ndarray, " items"]) -> None:
        self.counts = counts
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, position: int) -> tuple[int, int]:
        """Return the place of the item that a row is of, and which of its rows it is."""
        place = int(np.searchsorted(self._ends, position, side="right"))
        return place, position - int(self._ends[place] - self.counts[place])


def _row_id(item: str, variant: int) -> str:
    return f"{item}~{variant}"
