"""The command that says whether texts belong to an image."""

from ..joint.match_spec import MatchSpec
from ._common import CommandOutput
from ._from_spec import command


@command(MatchSpec)
def match(spec: MatchSpec, output: CommandOutput) -> None:
    """Say whether texts belong to an image, by a run that reads both together."""
    from ..joint.match import run
    from ..rendering.matching import match_parts

    report = run(spec, output.progress)
    output.answer(report, *match_parts(report))
