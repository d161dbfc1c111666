"""The command that does all three steps at once."""

from typing import Annotated

from ...featcache.home import command_line
from ..common.shared_settings import SEED
from ._common import DEFAULT_HOME, CommandOutput, Device, Home, Overrides, option, source_options
from ._from_spec import command
from ._set_keys import source_keys


@command(set_keys=source_keys)
def quickstart(
    output: CommandOutput,
    *,
    seed: Annotated[int, option(SEED)] = 0,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
) -> None:
    """Do all three steps on drawn pictures with packaged encoders; nothing is downloaded."""
    from ..metrics.number import report_line
    from ..quickstart import run
    from ..rendering.evaluations import retrieval_parts
    from ..rendering.training import extract_lines, train_lines

    source = source_options(overrides or [], verb="quickstart")
    done = run(home, source=source, device=device, seed=seed, progress=output.progress)
    output.result(
        {"extract": done.extracted, "train": done.trained.report, **done.retrieved.report},
        *extract_lines(done.extracted),
        *train_lines(done.trained),
        *retrieval_parts(done.retrieved.report),
        report_line(done.retrieved.path, done.retrieved.report),
        f"cache:  {home / 'features'} (a second run finds everything there)",
        f"next:   {command_line('train-adapter', '--fusion', 'none', home=home)}",
        f"        {command_line('retrieve', '--k', '100', home=home)}",
    )
