"""Commands whose options are the fields of a Spec, with those that all commands share."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, TypeAlias

import typer

from ...featcache.settings import Field, Setting, fields_of, is_of
from ..common.torchrun import Launch
from ._common import (
    DEFAULT_HOME,
    AsJson,
    CommandOutput,
    Home,
    NoVerify,
    Overrides,
    Quiet,
    each_once,
    option,
    places_of_weights,
    split_commas,
    whole_numbers,
)
from ._set_keys import Keys

Body: TypeAlias = Callable[..., None]
_LAST = ("overrides", "no_verify", "home", "device", "as_json", "quiet")  # in the help


def command(
    spec_class: type | None = None,
    *,
    before: Mapping[str, str] | None = None,
    reads_stores: bool = False,
    shared_by_processes: bool = False,
    set_keys: Callable[[], Keys] | None = None,
) -> Callable[[Body], Body]:
    """Build the function of a command from a body that takes a Spec, or none, and the output.

    The body is called as `body(spec, output, **more)`, or as `body(output, **more)` without a
    Spec, where `more` are the parameters that it has beside these, each an option of the command.

    Args:
        spec_class: Dataclass whose fields with a `Setting` are options.
        before: Options that the help has before another one. Elsewhere they stand in the order of
            the fields, then of the parameters of the body.
        reads_stores: Whether it reads stores, so that `--no-verify` is an option.
        shared_by_processes: Whether several processes may run it as one, of which one prints.
        set_keys: Returns the keys of `--set`.
    """

    def build(body: Body) -> Body:
        options = [
            _SpecOption(field, field.setting)
            for field in (_own_first(spec_class) if spec_class else ())
            if field.setting and not field.setting.table_only
        ]
        signature = inspect.signature(body, eval_str=True).parameters
        beside = [name for name in signature if name not in {"spec", "output"}]
        parameters = [
            *(option.parameter for option in options),
            *(signature[name] for name in beside),
            _keyword("as_json", AsJson, False),
            _keyword("quiet", Quiet, False),
            *([_keyword("no_verify", NoVerify, False)] if reads_stores else []),
        ]

        @functools.wraps(body)
        def run(**values: Any) -> None:
            output = CommandOutput(
                as_json=values["as_json"],
                quiet=values["quiet"],
                silent=shared_by_processes and not Launch.of_environment().is_first,
            )
            more = {name: values[name] for name in beside}
            if spec_class is None:
                body(output, **more)
                return
            fields = {option.field.name: option.value(values[option.name]) for option in options}
            spec = spec_class(
                **{name: value for name, value in fields.items() if value is not None}
            )
            body(spec, output, **more)

        ordered = _in_order({parameter.name: parameter for parameter in parameters}, before or {})
        run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
        if set_keys is not None:
            run.__dict__["set_keys"] = set_keys
        return run

    return build


def _own_first(spec_class: type) -> list[Field]:
    """Return the fields of a Spec, after its own those that it shares with others."""
    own = inspect.get_annotations(spec_class)
    return sorted(fields_of(spec_class), key=lambda field: field.name not in own)


def _in_order(
    parameters: Mapping[str, inspect.Parameter], before: Mapping[str, str]
) -> list[inspect.Parameter]:
    names = [name for name in parameters if name not in _LAST and name not in before]
    for name, follower in before.items():
        names.insert(names.index(follower), name)
    names += [name for name in _LAST if name in parameters]
    return [parameters[name] for name in names]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    if default is MISSING:
        default = inspect.Parameter.empty
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


@dataclass(frozen=True)
class _SpecOption:
    """Option of a command that gives a field of a Spec."""

    field: Field
    setting: Setting

    @property
    def name(self) -> str:
        """Return the name of the parameter, by which the help calls an argument."""
        return (self.setting.argument and self.setting.flag) or self.field.name

    @property
    def kind(self) -> Any:
        """Return the type of the field, without its parameters and without None."""
        return typing.get_origin(self._hint) or self._hint

    @property
    def _hint(self) -> Any:
        """Return the type of the field without None: that of several values, where one will do."""
        hint = self.field.hint
        if not isinstance(hint, types.UnionType):
            return hint
        choices = typing.get_args(hint)
        several = (choice for choice in choices if typing.get_origin(choice) is tuple)
        return next(several, choices[0])

    @property
    def parameter(self) -> inspect.Parameter:
        """Return the parameter that typer makes the option of."""
        default: Any = MISSING if self.setting.needed else self.field.default
        if self.name == "home":
            return _keyword("home", Home, DEFAULT_HOME)
        if self.name == "overrides":
            return _keyword("overrides", Overrides, None)
        if self.kind is Mapping:
            info = typer.Option(metavar="ENCODER=PATH", callback=each_once, help=self.setting.help)
            return _keyword(self.name, Annotated[list[str] | None, info], None)
        if self.kind is tuple:
            needed = default is MISSING
            hint = list[str] if needed else list[str] | None
            info = option(self.setting)
            return _keyword(self.name, Annotated[hint, info], MISSING if needed else None)
        if self.setting.negates:
            default = not default
        info = option(self.setting, default=default)
        return _keyword(self.name, Annotated[self.field.hint, info], default)

    def value(self, parsed: Any) -> Any:
        """Return what typer has parsed as the field has it, or None for the field's default."""
        if self.setting.negates:
            return not parsed
        if self.kind is Mapping:
            return places_of_weights(parsed)
        if self.kind is not tuple:
            return parsed
        if typing.get_args(self._hint)[0] is int:
            flag = f"--{self.name.replace('_', '-')}"
            return tuple(whole_numbers(flag, parsed, example=self.setting.commas)) or None
        if len(parsed or ()) == 1 and is_of(self.field.hint, parsed[0]):
            return parsed[0]
        values = split_commas(parsed) if self.setting.commas else parsed or []
        return tuple(dict.fromkeys(values) if self.setting.merged else values) or None
