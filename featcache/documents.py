"""JSON and TOML documents: read within bounds, and checked against a type before they are used.

Whatever is wrong with a document is one error that names the file and the place in it. What a type
does not name may be there all the same: later versions add fields.
"""

import errno
import json
import sys
from pathlib import Path
from typing import Any

from .errors import SpecError, StoreCorruptError
from .regular_files import read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 2**28  # a manifest of a million shards has 250 MB; everything else is far smaller
_MOST_NESTED = 100  # levels; what lightalign writes has ten
_LARGEST_NESTED = 2**24  # characters; what is longer is compared with a type all through
# what a path can be besides a regular file; what is missing or forbidden keeps its own error
_NO_DOCUMENT = {
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EFBIG,
    errno.ENXIO,
}


def read_text(path: Path, *, limit: int = MAX_BYTES) -> str:
    """Return the text of a document.

    Raises:
        StoreCorruptError: It is no regular file, too large, or not UTF-8.
        OSError: It is not there, or may not be read.
    """
    try:
        return read_regular(path, limit=limit).decode("utf-8")
    except OSError as error:
        if error.errno not in _NO_DOCUMENT:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise StoreCorruptError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StoreCorruptError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from (
            error
        )


def parse_json(text: str, *, where: str) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        where: What it is, for the message.

    Raises:
        StoreCorruptError: It is not JSON, too deeply nested, or has a number that is too long.
    """
    try:
        value = json.loads(text)
        if len(text) <= _LARGEST_NESTED:
            _check_depth(value)
    except RecursionError as error:
        raise StoreCorruptError(f"{where} is not valid JSON: too deeply nested") from error
    except ValueError as error:
        raise StoreCorruptError(f"{where} is not valid JSON: {error}") from error
    return value


def _check_depth(value: Any) -> None:
    """Refuse what functions that call themselves could not follow to its end.

    Raises:
        RecursionError: It is nested more deeply than that.
    """
    level = [value]
    for _ in range(_MOST_NESTED):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise RecursionError


def read_json(path: Path, *, limit: int = MAX_BYTES) -> Any:
    """Return the value in a JSON file.

    Raises:
        StoreCorruptError: It is no JSON file.
        OSError: It is not there, or may not be read.
    """
    return parse_json(read_text(path, limit=limit), where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table in a TOML file.

    Raises:
        SpecError: The file is missing or is not TOML.
        OSError: It may not be read.
    """
    try:
        table = tomllib.loads(read_text(path))
        _check_depth(table)
    except FileNotFoundError as error:
        raise SpecError(f"no such TOML file: {path}") from error
    except StoreCorruptError as error:
        raise SpecError(f"{error}") from error
    except RecursionError as error:
        raise SpecError(f"{path} is not valid TOML: too deeply nested") from error
    except ValueError as error:  # a number that is too long is one, too
        raise SpecError(f"{path} is not valid TOML: {error}") from error
    return table


def check(value: Any, schema: Any, *, where: object) -> Any:
    """Return `value` as it is, after it was compared with a type.

    Args:
        value: JSON or TOML values.
        schema: A `TypedDict`, or what else msgspec knows.
        where: The file, for the message.

    Raises:
        StoreCorruptError: It is of another type.
    """
    import msgspec  # here, as the command line imports this module and may need none of it

    try:
        msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        raise StoreCorruptError(f"{where} is not as lightalign writes it: {error}") from error
    except RecursionError as error:
        raise StoreCorruptError(f"{where} is too deeply nested") from error
    return value


def is_inside(name: str) -> bool:
    """Return whether a path in a document stays below the folder that it is relative to."""
    return bool(name) and not name.startswith("/") and ".." not in Path(name).parts
