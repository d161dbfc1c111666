"""Commands that refuse an option of one value which is given several times."""

from typing import Any

from typer.core import TyperCommand

from ...featcache.errors import SpecError


class StrictCommand(TyperCommand):
    """Command whose parser takes no last one of several values without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: typer's own or click's
        """Parse as usual, once no option of one value is given twice.

        A flag may be given twice, unless it has an opposite: then the two may be both.

        Raises:
            SpecError: One is.
        """
        *_, order = self.make_parser(ctx).parse_args(args=list(args))
        for option in {id(given): given for given in order}.values():
            count = sum(given is option for given in order)
            if count > 1 and not _may_be_repeated(option):
                name = max((*option.opts, *option.secondary_opts), key=len)
                raise SpecError(
                    f"{name} is given {count} times and takes one value: give one, and run the "
                    "command once for each where you mean several"
                )
        return super().parse_args(ctx, args)


def _may_be_repeated(option: Any) -> bool:
    if option.multiple or option.count:
        return True
    return bool(option.is_flag and not option.secondary_opts)
