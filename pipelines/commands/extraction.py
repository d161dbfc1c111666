"""The command that fills the cache."""

from typing import Annotated

import typer

from ..extraction.spec import ExtractSpec
from ._common import CommandOutput, Overrides
from ._from_spec import command
from ._set_keys import extract_keys

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say rows, bytes, memory and minutes; write nothing.")
]


@command(ExtractSpec, before={"encoders": "split", "data": "split"}, set_keys=extract_keys)
def extract(
    spec: ExtractSpec,
    output: CommandOutput,
    *,
    dry_run: DryRun = False,
    overrides: Overrides = None,
) -> None:
    """Run frozen encoders once over a dataset and keep their features."""
    from ...featcache.config import apply_overrides, build, to_table
    from ..extraction import estimate
    from ..extraction.extract import run
    from ..rendering.training import estimate_parts, extract_lines

    if overrides:
        spec = build(ExtractSpec, apply_overrides(to_table(spec), overrides), where="extract")
    if dry_run:
        estimated = estimate.run(spec, output.progress)
        output.answer(estimated, *estimate_parts(estimated))
        return
    report = run(spec, output.progress)
    output.result(report, *extract_lines(report))
