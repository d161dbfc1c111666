"""Versions of the libraries that a result depends on besides its spec."""

import functools
import platform
from importlib import metadata

_LIBRARIES = ("torch", "timm", "transformers", "numpy", "pillow", "faiss-cpu", "h5py", "zarr")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that can change a number."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        versions[library] = _version(library)
    return versions


@functools.cache  # it reads and parses a file of the library's each time
def _version(library: str) -> str:
    return metadata.version(library)
