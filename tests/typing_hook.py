"""The types of functions without shapes are checked without the bookkeeping of shapes."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping

_check_shapes = jaxtyping.jaxtyped


def _names_a_shape(function: Callable[..., Any]) -> bool:
    """Say whether an annotation has an array in it, or is a string, which may be of one."""
    annotations = getattr(function, "__annotations__", {}).values()
    return any(isinstance(one, str) or "jaxtyping." in repr(one) for one in annotations)


def check_types(decorated: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """Do what `jaxtyping.jaxtyped` does, which binds the arguments of every call for its messages.

    Both hand every argument and every returned value to `typechecker`. The sizes of axes that a
    call has met are needed only where axes have names.
    """
    if decorated is None:
        return functools.partial(check_types, typechecker=typechecker)
    if inspect.isfunction(decorated) and not _names_a_shape(decorated):
        return typechecker(decorated)
    own = vars(decorated).get("__init__") if dataclasses.is_dataclass(decorated) else None
    if own is not None and not _names_a_shape(own):
        decorated.__init__ = typechecker(own)
        return decorated
    return _check_shapes(decorated, typechecker=typechecker)


def install() -> None:
    """Have the modules that are imported from now on take the shorter way."""
    jaxtyping.jaxtyped = check_types
