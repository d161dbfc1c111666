"""Commands in which every option of one value is given once."""

from collections.abc import Callable, Sequence
from typing import Any

from typer.core import TyperCommand

from ...featcache.config import check_set_keys
from ...featcache.errors import SpecError
from ._set_keys import Keys, listed


class StrictCommand(TyperCommand):
    """Command that refuses several values for an option which takes one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: typer's own or click's
        """Parse as usual, once no option of one value is given twice, nor again by `--set`.

        A flag may be given twice, unless it has an opposite: then the two may be both.

        Raises:
            SpecError: One is.
        """
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option in {id(parameter): parameter for parameter in order}.values():
            count = sum(parameter is option for parameter in order)
            if count > 1 and not _may_be_repeated(option):
                name = max((*option.opts, *option.secondary_opts), key=len)
                raise SpecError(
                    f"{name} is given {count} times and takes one value: give one, and run the "
                    "command once for each where you mean several"
                )
        overrides = values.get("overrides") or ()
        _refuse_set_again(order, overrides)
        if overrides and self._set_keys is not None:
            check_set_keys(overrides, [key for key, _ in self._set_keys()])
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:  # Any: as above
        """List the options, and below them the keys of `--set`."""
        super().format_options(ctx, formatter)
        if self._set_keys is not None:
            keys = self._set_keys()
            is_preset = any(key.startswith("train.") for key, _ in keys)
            beside = ", with the default where a preset says nothing" if is_preset else ""
            with formatter.section(f"Keys of --set{beside}"):
                formatter.write_dl(listed(keys))

    @property
    def _set_keys(self) -> Callable[[], Keys] | None:
        return getattr(self.callback, "set_keys", None)


def _refuse_set_again(order: Sequence[Any], overrides: Sequence[str]) -> None:
    """Refuse an override of what an option beside it says: one of them would be lost."""
    for override in overrides:
        name = override.partition("=")[0].strip()
        for option in order:
            named = {option.name, f"{option.name}s"} if option.multiple else {option.name}
            if name in named:  # a spec has the plural of what is repeatable
                flag = max(option.opts, key=len)
                raise SpecError(f"{flag} and --set {name} are both given: give {flag} only")


def _may_be_repeated(option: Any) -> bool:
    if option.multiple or option.count:
        return True
    return bool(option.is_flag and not option.secondary_opts)
