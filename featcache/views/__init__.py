"""Views: what is encoded of an item beside the item itself.

The registry of views: a file is one, such as texts with some tokens masked, and its rows are a
store of their own beside the plain one. Masking features that are in the cache already would leak,
as the encoder has seen what is to be guessed; so a view changes what the encoder reads, and nothing
after it.
"""

from pathlib import Path

from ..registry import Registry
from .base import View, ViewItem

VIEWS: Registry[View] = Registry("view", __name__, Path(__file__).parent, View)

__all__ = ["VIEWS", "View", "ViewItem"]
