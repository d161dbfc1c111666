"""What a result depends on besides its spec: devices and library versions."""

import platform
from importlib import metadata

import torch

from ..featcache.errors import DeviceError

_LIBRARIES = ("torch", "timm", "transformers", "numpy", "pillow", "faiss-cpu", "h5py", "zarr")


def resolve_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`.

    Raises:
        DeviceError: The name is unknown, or CUDA is asked for and not there.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise DeviceError(f"no device named {name!r}; known: ['auto', 'cpu', 'cuda']")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device 'cuda' was asked for and torch finds none: use --device cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that can change a number."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        versions[library] = metadata.version(library)
    return versions
