"""What a result depends on besides its spec: library versions."""

import platform
from importlib import metadata

_LIBRARIES = ("torch", "timm", "transformers", "numpy", "pillow", "faiss-cpu", "h5py", "zarr")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that can change a number."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        versions[library] = metadata.version(library)
    return versions
