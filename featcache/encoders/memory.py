"""Measure the memory that computing takes, as bytes of tensors that live at the same time."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..types import Modality
from .base import Encoder
from .probe import probe_items


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of tensors that are made within the `with` block while they live.

    What was there before, such as weights, does not count, and views count once. What an operation
    takes and gives back inside itself is not seen.

    Attributes:
        num_bytes: Bytes that live now.
        peak_bytes: Most bytes that lived at once.
        sizes: Bytes of each tensor that was made, in order.
        ends: How many had been made when each of them was freed, or None while it lives.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0
        self.peak_bytes = 0
        self.sizes: list[int] = []
        self.ends: list[int | None] = []
        self._numbers: dict[int, int | None] = {}  # by storage; None where it was there before

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation and count what it has made."""
        for tensor in _tensors((args, kwargs)):
            self._meet(tensor, new=False)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._meet(tensor, new=True)
        return result

    def number_of(self, tensor: Tensor) -> int | None:
        """Return the number of a recorded tensor, or None of any other."""
        return self._numbers.get(tensor.untyped_storage()._cdata)

    def _meet(self, tensor: Tensor, *, new: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._numbers:
            return
        self._numbers[key] = len(self.sizes) if new else None
        if new:
            self.sizes.append(storage.nbytes())
            self.ends.append(None)
            self.num_bytes += self.sizes[-1]
            self.peak_bytes = max(self.peak_bytes, self.num_bytes)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        number = self._numbers.pop(key)
        if number is not None:
            self.ends[number] = len(self.sizes)
            self.num_bytes -= self.sizes[number]


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@torch.inference_mode()
def bytes_of_an_item(encoder: Encoder[Any]) -> int:
    """Return the bytes that the largest item takes in a forward pass of `encoder`.

    Items are a drawn scene, or a text that is cut at the encoder's longest.
    """
    if encoder.modality is Modality.TEXT:
        prepared = encoder.preprocess("a red square " * 4096, item_id="probe")
    else:
        prepared = encoder.prepare(probe_items(encoder.modality, 1)[0])
    with LiveTensors() as live:
        encoder.encode([prepared])
    peak: int = live.peak_bytes
    return peak
