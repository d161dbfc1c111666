"""Items that are made when they are asked for."""

from collections.abc import Callable, Sequence
from typing import overload

from ...types import Item


class LazyItems(Sequence[Item]):
    """Serve `count` items, each made anew when it is asked for.

    A list of a million captions would take half a gigabyte, and pictures far more.

    Args:
        count: Number of items.
        make: Makes the item at a position, from 0.
    """

    def __init__(self, count: int, make: Callable[[int], Item]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self._make(position) for position in range(self._count)[index]]
        # a range raises IndexError, and counts negatives from the end
        return self._make(range(self._count)[index])
