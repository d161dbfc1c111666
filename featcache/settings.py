"""One definition of an option: a field of a frozen dataclass with its `Setting`.

    k: Annotated[int, Setting("Largest rank of the recall curve.", least=1, most=MOST)] = 100

`check_settings` refuses what does not fit such a field, commands are built from the fields, and
`--help` prints them. Nothing here imports more than the standard library: a help text needs it.
"""

import dataclasses
import operator
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from .errors import SpecError
from .registry import unknown_name

_WORDS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    Path: "a Path",
    Mapping: "options by name",
    types.NoneType: "None",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that an option is beside its name, its type and its default, which always fits.

    Attributes:
        help: One line.
        least: Least number that fits, or None; so are the other three bounds.
        most: Largest number that fits.
        above: Largest of those that are too small.
        below: Least of those that are too large.
        called: Noun of a number within the bounds, such as `a share`.
        fits: Words for what fits, where bounds do not say all of it.
        choices: Names of which it is one; of a tuple each is.
        noun: Kind of the choices in messages; the name of the field if empty.
        each_once: Whether a tuple names at least one, and each once.
        flag: Flag on the command line; the name of the field with hyphens if empty. A flag of a
            truth that has one has no opposite.
        negates: Whether giving the flag makes it False.
        argument: Whether it is given by its place, without a flag; `flag` is its name then.
        needed: Whether a command line has to give it although the field has a default.
        commas: Example of several values in one, such as `1,2,4`, where that is allowed.
        merged: Whether what is given twice counts once.
        table_only: Whether `--set` alone gives it.
    """

    help: str
    _: dataclasses.KW_ONLY
    least: int | float | None = None
    most: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    called: str = ""
    fits: str = ""
    choices: Collection[str] = ()
    noun: str = ""
    each_once: bool = False
    flag: str = ""
    negates: bool = False
    argument: bool = False
    needed: bool = False
    commas: str = ""
    merged: bool = False
    table_only: bool = False

    @property
    def range(self) -> str:
        """Return the numbers that fit, in words."""
        low = self.above if self.least is None else self.least
        high = self.below if self.most is None else self.most
        if self.fits or low is None:
            return self.fits
        if high is None:
            return f"at least {low:,}" if self.above is None else f"above {low:,}"
        if self.called or self.below is not None:
            opening, closing = "[("[self.least is None], "])"[self.most is None]
            return f"{self.called} in {opening}{low:,}, {high:,}{closing}".strip()
        return (
            f"from {low:,} to {high:,}"
            if self.above is None
            else (f"above {low:,} and at most {high:,}")
        )

    def check(self, value: Any, *, name: str) -> None:
        """Refuse a value of the right type that does not fit; None always does.

        Raises:
            SpecError: A number is out of range, as `nan` is of every range, or a tuple is empty or
                names something twice.
            UnknownNameError: It is none of the choices.
        """
        values = value if isinstance(value, tuple | list) else (value,)
        if self.each_once and (not values or len(set(values)) < len(values)):
            raise SpecError(f"{name} must name at least one, each once; found {list(values)}")
        for each in values:
            if isinstance(each, str) and self.choices and each not in self.choices:
                raise unknown_name(self.noun or name, each, self.choices)
            if isinstance(each, int | float) and not self._is_within(each):
                raise SpecError(f"{name} must be {self.range}, found {each}")

    def _is_within(self, number: int | float) -> bool:
        bounds = (
            (operator.ge, self.least),
            (operator.le, self.most),
            (operator.gt, self.above),
            (operator.lt, self.below),
        )
        return all(bound is None or holds(number, bound) for holds, bound in bounds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a dataclass of options.

    Attributes:
        name: Its name.
        hint: Its type, without the setting.
        setting: Its setting, or None of a field that users do not see.
        default: Its default, or `dataclasses.MISSING`.
    """

    name: str
    hint: Any
    setting: Setting | None
    default: Any


def fields_of(cls: type) -> tuple[Field, ...]:
    """Return the fields of a dataclass with their settings, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    options = []
    for field in dataclasses.fields(cls):
        hint, setting = hints[field.name], None
        if typing.get_origin(hint) is Annotated:
            hint, *notes = typing.get_args(hint)
            setting = next((note for note in notes if isinstance(note, Setting)), None)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        options.append(Field(name=field.name, hint=hint, setting=setting, default=default))
    return tuple(options)


def check_settings(spec: Any, *, where: str = "") -> None:
    """Refuse what does not fit the fields of a dataclass: types, ranges and choices.

    Args:
        spec: An instance of it.
        where: What the options are of, for the message of a number, such as `[train] `.

    Raises:
        SpecError: A value is of another type, or out of range.
        UnknownNameError: A value is none of its choices.
    """
    for option in fields_of(type(spec)):
        value = getattr(spec, option.name)
        if not is_of(option.hint, value):
            raise SpecError(
                f"{where}{option.name} must be {in_type_words(option.hint)}, found {value!r}"
            )
        if option.setting is not None and value != option.default:
            names = isinstance(value, str)
            option.setting.check(value, name=option.name if names else f"{where}{option.name}")


def is_of(hint: Any, value: Any) -> bool:
    """Return whether a value is of an annotated type; a whole number is a number, a truth none.

    A list may stand for a tuple.
    """
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in {typing.Union, types.UnionType}:
        return any(is_of(choice, value) for choice in typing.get_args(hint))
    if origin is tuple:
        element = typing.get_args(hint)[0]
        return isinstance(value, tuple | list) and all(is_of(element, each) for each in value)
    kind = (int, float) if hint is float else origin or hint
    return isinstance(value, kind) and (hint is bool or not isinstance(value, bool))


def in_type_words(hint: Any) -> str:
    """Return an annotated type in words."""
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(map(in_type_words, typing.get_args(hint)))
    if origin is tuple:
        return f"a tuple of which each is {in_type_words(typing.get_args(hint)[0])}"
    kind = origin or hint
    return _WORDS.get(kind, str(getattr(kind, "__name__", kind)))


def keys_of(cls: type, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Yield the dotted key of each option of a dataclass that users see, below `prefix`."""
    for option in fields_of(cls):
        if dataclasses.is_dataclass(option.hint) and isinstance(option.hint, type):
            yield from keys_of(option.hint, f"{prefix}{option.name}.")
        elif option.setting is not None:
            yield f"{prefix}{option.name}", option
