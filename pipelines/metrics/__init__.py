"""Arrays in, numbers out: what is measured, with its interval and its level of chance.

No models, and no files but those of WordNet, which `wordnet` reads. `number` is how a measured
number is reported, whatever it measures; the other files are pure functions.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .bootstrap import interval_of
    from .number import Number, shown
    from .ranks import Relevance
else:
    __getattr__ = lazy_exports(
        __name__,
        {"Number": "number", "Relevance": "ranks", "interval_of": "bootstrap", "shown": "number"},
    )

__all__ = ["Number", "Relevance", "interval_of", "shown"]
