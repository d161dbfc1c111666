"""Read the options of a part from its table, by the signature of its constructor."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from ..featcache.config import Table, build
from ..featcache.errors import SpecError
from ..featcache.registry import Registry

T = TypeVar("T")


def read_options(part: type, table: Mapping[str, Any], *, where: str) -> Table:
    """Return the options in `table` as keyword arguments of `part`, defaults filled in.

    The keyword-only parameters of the constructor are the options; their annotations are the
    types. A TOML array becomes a tuple, a whole number may stand for a float. Messages call the
    table `where`.

    Raises:
        SpecError: An option is unknown, missing or of the wrong type.
    """
    signature = inspect.signature(part, eval_str=True)
    fields: list[tuple[str, Any, Any]] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        required = parameter.default is inspect.Parameter.empty
        if required and name not in table:
            raise SpecError(f"{where} needs the option {name!r}")
        default = dataclasses.MISSING if required else parameter.default
        fields.append((name, parameter.annotation, dataclasses.field(default=default)))
    schema: type[Any] = dataclasses.make_dataclass("Options", fields, kw_only=True)
    return dict(vars(build(schema, table, where=where)))


def construct(
    registry: Registry[T], name: str, *arguments: Any, options: Mapping[str, Any], where: str
) -> T:
    """Build the entry of `registry` called `name` from its first arguments and its options.

    Messages call the table of the options `where`.

    Raises:
        SpecError: An option is unknown, missing or wrong, or the entry refuses what it is given.
        UnknownNameError: No entry has this name.
    """
    part = registry.load(name)
    keywords = read_options(part, options, where=f"{where} ({name})")
    try:
        return part(*arguments, **keywords)
    except SpecError as error:
        raise SpecError(f"{where} ({name}): {error}") from error


def split_part(table: Any, *, where: str, example: str) -> tuple[str, Table]:
    """Return the `part` that a table names, and its options.

    Messages call the table `where`, and name a part `example`.

    Raises:
        SpecError: It is no table, or names no part.
    """
    if not isinstance(table, Mapping) or not isinstance(table.get("part"), str):
        raise SpecError(f"{where} must name its part, such as part = {example!r}; found {table!r}")
    options = dict(table)
    return options.pop("part"), options


def build_part(registry: Registry[T], table: Mapping[str, Any], *, where: str, example: str) -> T:
    """Build the entry of `registry` that a table of a preset names by `part`, with its options.

    Messages call the table `where`, and name the entry `example`.

    Raises:
        SpecError: The table names no part, or an option is unknown, missing or wrong.
        UnknownNameError: No entry has this name.
    """
    name, options = split_part(table, where=where, example=example)
    part = registry.load(name)
    return part(**read_options(part, options, where=f"{where} ({name})"))
