"""JSON and TOML documents: read within bounds, and checked against a type before they are used.

Whatever is wrong with a document is one error that names the file and the place in it. What a type
does not name may be there all the same: later versions add fields.
"""

import errno
import json
import sys
from pathlib import Path
from typing import Any

from .errors import LightalignError, SpecError, StoreCorruptError
from .regular_files import read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TomlError = tomllib.TOMLDecodeError
MAX_BYTES = 2**28  # a manifest of a million shards has 250 MB; everything else is far smaller
MAX_TOML_BYTES = 2**22  # those that we write and prompts have kilobytes; parsing takes 1 s a MB
_MAX_DEPTH = 64  # ours nest ten deep; a few hundred exhaust the stack of whoever walks over them
_MAX_INTEGER = 2**64  # seeds have 64 bits; beyond them no array, tensor or float can count
_MAX_DOTS = 500  # in a line of TOML: the parser's time grows with the square of the parts of a key
# what a path can be besides a regular file; what is missing or forbidden keeps its own error
_NO_TEXT = {errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EFBIG, errno.ENXIO}


def read_text(path: Path, *, limit: int = MAX_BYTES) -> str:
    """Return the text of a document.

    Raises:
        StoreCorruptError: It is no regular file, too large, or not UTF-8.
        OSError: It is not there, or may not be read.
    """
    try:
        return read_regular(path, limit=limit).decode("utf-8")
    except OSError as error:
        if error.errno not in _NO_TEXT:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise StoreCorruptError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StoreCorruptError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from (
            error
        )


def parse_json(text: str, *, where: str, large_as_float: bool = False) -> Any:
    """Return the value of a JSON text, which a message calls `where`.

    With `large_as_float` an integer of more than 64 bits becomes a float instead of an error, as
    tokenizers without a limit state one of 1e30 tokens.

    Raises:
        StoreCorruptError: It is not JSON, too deeply nested, has a number that is too long, or
            names a field twice.
    """
    try:
        parse_int = _integer_or_float if large_as_float else int
        value = json.loads(text, object_pairs_hook=_table, parse_int=parse_int)
    except ValueError as error:
        raise StoreCorruptError(f"{where} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise StoreCorruptError(f"{where} is too deeply nested") from error
    check_extent(value, where=where)
    return value


def _integer_or_float(digits: str) -> int | float:
    short = len(digits) <= len(str(_MAX_INTEGER)) and abs(int(digits)) <= _MAX_INTEGER
    return int(digits) if short else float(digits)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a field that is named twice: readers differ in which of the two they believe."""
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in table if names.count(name) > 1)
        raise ValueError(f"field {twice!r:.80} is there twice")
    return table


def check_extent(value: Any, *, where: str) -> None:
    """Refuse what any code that goes on with the values could stumble over, level by level.

    Raises:
        StoreCorruptError: It nests too deeply, has an integer that is too large, or a date.
    """
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for part in level:
            if isinstance(part, str):  # most of a long list: first
                continue
            if isinstance(part, dict):
                inner.extend(part.values())
            elif isinstance(part, list | tuple):
                inner.extend(part)
            else:
                _check_number(part, where=where)
        if not inner:
            return
        level = inner
    raise StoreCorruptError(f"{where} is too deeply nested: {_MAX_DEPTH} levels are allowed")


def _check_number(value: Any, *, where: str) -> None:
    if value is None or isinstance(value, float):
        return
    if not isinstance(value, int):
        raise StoreCorruptError(f"{where} holds a {type(value).__name__}, which none of ours has")
    if abs(value) > _MAX_INTEGER:
        raise StoreCorruptError(f"{where} holds an integer of more than 64 bits")


def read_json(path: Path, *, limit: int = MAX_BYTES, large_as_float: bool = False) -> Any:
    """Return the value in a JSON file; see `parse_json`.

    Raises:
        StoreCorruptError: It is no JSON file.
        OSError: It is not there, or may not be read.
    """
    text = read_text(path, limit=limit)
    return parse_json(text, where=str(path), large_as_float=large_as_float)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table in a TOML file.

    Raises:
        SpecError: The file is missing or is not TOML.
        OSError: It may not be read.
    """
    try:
        # editors of Windows put a byte order mark first
        table = parse_toml(read_text(path, limit=MAX_TOML_BYTES).removeprefix("\ufeff"))
        check_extent(table, where=str(path))
    except FileNotFoundError as error:
        raise SpecError(f"no such TOML file: {path}") from error
    except StoreCorruptError as error:
        raise SpecError(f"{error}") from error
    except RecursionError as error:
        raise SpecError(f"{path} is too deeply nested") from error
    except ValueError as error:  # a number that is too long is one, too
        raise SpecError(f"{path} is not valid TOML: {error}") from error
    return table


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises:
        ValueError: It is not TOML.
        RecursionError: It is too deeply nested.
    """
    if any(line.count(".") > _MAX_DOTS for line in text.splitlines()):
        raise RecursionError
    return tomllib.loads(text)


def check(value: Any, schema: Any, *, where: object) -> Any:
    """Return JSON or TOML values as they are, compared with a type that msgspec knows.

    Raises:
        StoreCorruptError: It is of another type.
    """
    import msgspec  # here, as the command line imports this module and may need none of it

    try:
        msgspec.convert(value, schema)
    except (msgspec.ValidationError, LightalignError) as error:  # the latter of a dataclass
        raise StoreCorruptError(f"{where} is not as lightalign writes it: {error}") from error
    except RecursionError as error:
        raise StoreCorruptError(f"{where} is too deeply nested") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair, in the name of a field
        raise StoreCorruptError(f"{where} names a field that has no UTF-8: {error}") from error
    return value


def is_inside(name: str) -> bool:
    """Return whether a path in a document stays below the folder that it is relative to."""
    parts = name.split("/")
    return "\0" not in name and not {"", ".", ".."} & set(parts)
