"""Turn a folder into a registry: one public class or one TOML file is one name.

A hyphen in a name is an underscore in the file: `add-fusion` is `add_fusion.py`.
The contract, `base.py`, may stand beside its entries, and so may helpers, `_name.py`.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from .errors import UnknownNameError

T = TypeVar("T")


def close_names(name: str, choices: Iterable[str]) -> list[str]:
    """Return the names that are most like `name`, three at most, the closest first."""
    return difflib.get_close_matches(name, sorted(choices), n=3, cutoff=0.5)


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is no choice of a kind, such as `step`."""
    names = sorted(choices)
    close = close_names(name, names)
    hint = f"; close: {close}" if close else ""
    return UnknownNameError(f"no {kind} named {name!r}{hint}; known: {names}")


class Registry(Generic[T]):
    """Find the subclasses of `base` in the modules of one package folder.

    Args:
        kind: An entry in the singular, for messages.
        package: Dotted name of the package whose modules are the entries.
        folder: Folder of the package.
        base: Class that each module's one public class must extend.
    """

    def __init__(self, kind: str, package: str, folder: Path, base: type[T]) -> None:
        self.kind = kind
        self.package = package
        self.folder = folder
        self.base = base

    def names(self) -> list[str]:
        """List all names, sorted, without importing any module."""
        return list_names(self.folder)

    def load(self, name: str) -> type[T]:
        """Import the module called `name` and return its class.

        Raises:
            UnknownNameError: No module has this name.
        """
        if name.replace("_", "-") not in self.names():
            raise unknown_name(self.kind, name, self.names())
        module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        # what a module imports is a member, too
        classes = [
            member
            for _, member in inspect.getmembers(module, inspect.isclass)
            if member.__module__ == module.__name__
            and issubclass(member, self.base)
            and not member.__name__.startswith("_")
        ]
        assert len(classes) == 1, f"{module.__name__} must hold one public {self.base.__name__}"
        return classes[0]


def list_names(folder: Path) -> list[str]:
    """List the entries of a registry folder, sorted, as they are written in TOML."""
    return sorted(
        path.stem.replace("_", "-")
        for path in folder.glob("*.py")
        if not path.stem.startswith("_") and path.stem != "base"
    )
