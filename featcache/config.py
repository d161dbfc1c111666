"""Specs: frozen dataclasses and plain TOML tables, with inheritance, overrides and fingerprints."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from .bounds import MOST, MOST_SEED
from .documents import TomlError, check_extent, parse_toml
from .errors import SpecError, StoreCorruptError
from .registry import close_names
from .settings import fields_of, in_type_words, is_of

Table = dict[str, Any]
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_PART = 1000  # elements of a list that are encoded at a time
_MOST_KEYS = 64  # of a dotted key; those of ours have five
T = TypeVar("T")


def to_toml(table: Mapping[str, Any], *, where: str = "the table") -> str:
    """Return `table` as TOML; keys whose value is None are left out, as TOML has no null.

    Args:
        table: Values by name.
        where: What it is written to, for messages.

    Raises:
        SpecError: Something in it would not be read again.
    """
    rest = without_none(table)
    check_written(rest, where=where)
    return tomli_w.dumps(rest)


def check_written(value: Any, *, where: str) -> None:
    """Refuse to write what `documents` would not read again.

    Args:
        value: JSON or TOML values.
        where: What it is written to, for the message.

    Raises:
        SpecError: It nests too deeply, or has an integer of more than 64 bits.
    """
    try:
        check_extent(value, where=where)
    except StoreCorruptError as error:
        raise SpecError(f"not written, as it could not be read again: {error}") from error


def resolve(name: str, read: Callable[[str], Table]) -> Table:
    """Return the table called `name` with everything it `extends` merged under it.

    A table that names a `part` replaces the inherited one whole; other tables merge key by key.

    Args:
        name: Name of the first table.
        read: Function from a name to its raw table.

    Raises:
        SpecError: The tables extend one another in a circle.
    """
    chain: list[Table] = []
    seen: list[str] = []
    current: str | None = name
    while current is not None:
        if current in seen:
            raise SpecError(f"presets extend in a circle: {' -> '.join([*seen, current])}")
        seen.append(current)
        table = dict(read(current))
        current = table.pop("extends", None)
        chain.append(table)
    merged: Table = {}
    for table in reversed(chain):
        merged = merge(merged, table)
    return merged


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Return `base` with `over` on top; a table with a `part` replaces the inherited one whole."""
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        if isinstance(value, Mapping) and isinstance(inherited, Mapping) and "part" not in value:
            merged[key] = merge(inherited, value)
        else:
            merged[key] = value
    return merged


def apply_overrides(table: Mapping[str, Any], overrides: Sequence[str]) -> Table:
    """Return `table` with each `a.b=c` set; `c` is read as a TOML value, else as a string.

    Raises:
        SpecError: An override has no `=`, an empty key, or a path through a value; or its value is
            nested too deeply, has a number of more than 64 bits, or is a date.
    """
    changed: Table = json.loads(json.dumps(table))
    for override in overrides:
        keys, text = _key_and_value(override)
        place = changed
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise SpecError(f"--set {override!r:.200}: {key!r} is a value, not a table")
        place[keys[-1]] = _parse_value(text, option=f"--set {'.'.join(keys)}")
    return changed


def _key_and_value(override: str) -> tuple[list[str], str]:
    """Return the parts of the key of `a.b=c`, and `c`."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys) or len(keys) > _MOST_KEYS:
        raise SpecError(f"--set {override!r:.200} is not of the form a.b=value")
    return keys, text.strip()


def build(cls: type[T], table: Mapping[str, Any], *, where: str) -> T:
    """Build the dataclass `cls` from `table`, recursing into fields that are dataclasses.

    Args:
        cls: A dataclass whose fields are all keyword arguments.
        table: Values by field name.
        where: What the table is, for messages, such as `[train]`.

    Raises:
        SpecError: A key is unknown, a field is missing, or a value has the wrong type.
    """
    assert dataclasses.is_dataclass(cls)
    if not isinstance(table, Mapping):
        raise SpecError(f"{where} must be a table, found {table!r}")
    options = {option.name: option for option in fields_of(cls)}
    unknown = sorted(set(table) - set(options))
    if unknown:
        raise SpecError(f"{where}: {unknown_key(unknown[0], options)}")
    missing = [
        name
        for name, option in options.items()
        if name not in table and option.default is dataclasses.MISSING
    ]
    if missing:
        raise SpecError(f"{where} lacks {in_words(missing)}")
    values = {
        key: _coerce(options[key].hint, value, where=f"{where}.{key}")
        for key, value in table.items()
    }
    try:
        return cls(**values)
    except TypeError as error:
        raise SpecError(f"{where}: {error}") from error


def unknown_key(key: str, names: Iterable[str]) -> str:
    """Return what to say of a key that no table has, with the close ones."""
    close = " or ".join(close_names(key, names))
    meant = f"did you mean {close}? " if close else ""
    return f"unknown key {key!r}; {meant}known: {sorted(names)}"


def check_set_keys(overrides: Sequence[str], keys: Iterable[str]) -> None:
    """Refuse a key of `--set` that there is not, and name the close ones.

    Args:
        overrides: `a.b=c` each.
        keys: Dotted keys; a part in upper case stands for any name.

    Raises:
        SpecError: An override has no `=` or an empty key, or its key is neither one of them nor a
            table of some.
    """
    rows = [name.split(".") for name in keys]
    for override in overrides:
        key, _ = _key_and_value(override)
        problem = _unknown_part(key, rows)
        if problem:
            raise SpecError(f"--set {'.'.join(key)}: {problem}")


def _unknown_part(key: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Return what is wrong with a dotted key, by the first part of it that none of the rows has."""
    left = rows
    for place, part in enumerate(key):
        beside = [name for name in left if len(name) > place]
        if left and not beside:
            return f"{key[place - 1]!r} is one value, not a table"
        siblings = {name[place] for name in beside}
        if any(name.isupper() for name in siblings):
            return None
        left = [name for name in beside if name[place] == part]
        if not left:
            tables = {name[place] for name in beside if len(name) > place + 1}
            # below a name that is one value nothing could stand
            close_parts = close_names(part, siblings if place == len(key) - 1 else tables)
            close = [".".join([*key[:place], name, *key[place + 1 :]]) for name in close_parts]
            # or a table was left out, as in batch_size for train.batch_size
            close = close or sorted({".".join(name) for name in rows if name[-1] == key[-1]})
            names = sorted(f"{name}.NAME" if name in tables else name for name in siblings)
            way_out = f"did you mean {' or '.join(close)}?" if close else f"known: {names}"
            return f"unknown key {part!r}; {way_out}"
    return None


def in_words(names: Sequence[str]) -> str:
    """Return names in words: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def to_table(spec: Any) -> Table:
    """Return a dataclass as a plain table of JSON values."""
    table: Table = json.loads(json.dumps(dataclasses.asdict(spec), default=str))
    return table


def canonical_json(value: Any) -> str:
    """Return JSON that is the same for equal values: sorted keys, no spaces."""
    return _CANONICAL.encode(value)


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in _canonical_pieces(value):
        digest.update(piece.encode())
    return digest.hexdigest()


def _canonical_pieces(value: Any) -> Iterator[str]:
    """Yield canonical JSON, a long list in parts: the pairs of a large split are many megabytes.

    The encoder's own pieces are words, each by Python: thirty times slower.
    """
    if isinstance(value, dict) and any(_is_long(inner) for inner in value.values()):
        yield "{"
        for number, (key, inner) in enumerate(sorted(value.items())):
            yield "," * (number > 0) + _CANONICAL.encode({key: 0})[1:-2]  # the key and a colon
            yield from _canonical_pieces(inner) if _is_long(inner) else [_CANONICAL.encode(inner)]
        yield "}"
    elif _is_long(value):
        yield "["
        for first in range(0, len(value), _PART):
            yield "," * (first > 0) + _CANONICAL.encode(value[first : first + _PART])[1:-1]
        yield "]"
    else:
        yield _CANONICAL.encode(value)


def _is_long(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > _PART


def _parse_value(text: str, *, option: str) -> Any:
    try:
        value = parse_toml(f"value = {text}")["value"]
    except TomlError:
        return text
    except ValueError as error:  # digits that Python makes no number of
        raise SpecError(f"{option}: {error}") from error
    except RecursionError as error:
        raise SpecError(f"{option}: the value is too deeply nested") from error
    try:
        check_extent(value, where=f"{option}: the value")
    except StoreCorruptError as error:
        raise SpecError(str(error)) from error
    return value


def without_none(table: Mapping[str, Any]) -> Table:
    """Return a table without keys whose value is None, as it is after it was TOML."""

    def clear(value: Any) -> Any:
        if isinstance(value, Mapping):
            return without_none(value)
        return list(map(clear, value)) if isinstance(value, list) else value

    return {key: clear(value) for key, value in table.items() if value is not None}


def _coerce(hint: Any, value: Any, *, where: str) -> Any:
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for choice in choices:  # `Package | None` nests like `Package`
        is_table = isinstance(choice, type) and dataclasses.is_dataclass(choice)
        if is_table and isinstance(value, Mapping):
            return build(choice, value, where=where)
    if float in choices and type(value) is int and abs(value) <= MOST_SEED:
        return float(value)
    if Path in choices and isinstance(value, str):
        return Path(value)
    kind = next((choice for choice in choices if typing.get_origin(choice) is tuple), None)
    if kind is not None and not (value is None and types.NoneType in choices):
        element = typing.get_args(kind)[0]
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_coerce(element, item, where=where) for item in values)
    if not is_of(hint, value):
        raise SpecError(f"{where} must be {in_type_words(hint)}, found {value!r}")
    _check_magnitude(value, where=where)
    return value


def _check_magnitude(value: Any, *, where: str) -> None:
    """Refuse a number that no option has a use for.

    Raises:
        SpecError: It is a float that is not finite, or an integer that no array can count.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where} must be a finite number, found {value}")
    most = MOST_SEED if where.endswith("seed") else MOST
    if isinstance(value, int) and abs(value) > most:
        raise SpecError(f"{where} is larger than any that fits, {most:,}: found {value}")
