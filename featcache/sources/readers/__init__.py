"""Readers that dataset families share, from their published files to a `Source`.

There are three kinds: images with captions, images with classes, and graded pairs of texts.
Each has a file that finds and reads what is published, and one that serves it with its splits.
"""

from typing import TYPE_CHECKING

from ...exports import lazy_exports

if TYPE_CHECKING:
    from .caption_family import read_family
    from .caption_source import CaptionSource
    from .class_source import ClassSource
    from .graded_files import GradedFamily
    from .graded_source import GradedSource
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "CaptionSource": "caption_source",
            "ClassSource": "class_source",
            "GradedFamily": "graded_files",
            "GradedSource": "graded_source",
            "read_family": "caption_family",
        },
    )

__all__ = ["CaptionSource", "ClassSource", "GradedFamily", "GradedSource", "read_family"]
