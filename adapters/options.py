"""Read the options of a part from its table, by the signature of its constructor."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from ..featcache.errors import SpecError
from ..featcache.spec import Table, build


def read_options(part: type, table: Mapping[str, Any], *, where: str) -> Table:
    """Return the options in `table` as keyword arguments of `part`, defaults filled in.

    The keyword-only parameters of the constructor are the options; their annotations are the
    types. A TOML array becomes a tuple, a whole number may stand for a float.

    Args:
        part: Class whose options are read.
        table: Options by name.
        where: What the table is, for messages.

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
