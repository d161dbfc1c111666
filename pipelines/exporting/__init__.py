"""Take a trained run elsewhere: ONNX files, or a folder of sentence-transformers.

`export` is the verb, and a file beside it is one target. An export that does not give the same
embeddings is refused.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .export_spec import ExportedRun, ExportSpec
else:
    __getattr__ = lazy_exports(
        __name__, {"ExportSpec": "export_spec", "ExportedRun": "export_spec"}
    )

__all__ = ["ExportSpec", "ExportedRun"]
