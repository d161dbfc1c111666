"""Classify images: by the nearest text, by a probe on frozen features, or by fine-tuning.

`zero_shot`, `probe` and `fine_tune` are the verbs. Protocols of the last two are files of their
own, and so are the classifiers, the prompts and the head that all of them share.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .fine_tune_spec import FineTuneSpec
    from .probe_spec import ProbeSpec
    from .zero_shot_spec import ZeroShotSpec
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "FineTuneSpec": "fine_tune_spec",
            "ProbeSpec": "probe_spec",
            "ZeroShotSpec": "zero_shot_spec",
        },
    )

__all__ = ["FineTuneSpec", "ProbeSpec", "ZeroShotSpec"]
