"""The commands of questions about images."""

from ..answering.ask_spec import AskSpec
from ..answering.vqa_spec import VqaSpec
from ._common import CommandOutput
from ._from_spec import command
from ._set_keys import joint_keys


@command(VqaSpec, reads_stores=True, set_keys=joint_keys)
def vqa(spec: VqaSpec, output: CommandOutput) -> None:
    """Train adapters that answer questions about images, and measure them beside controls.

    A training that is there is not done again; one that was stopped goes on.
    """
    from ..answering.vqa import run
    from ..metrics.number import report_line
    from ..rendering.evaluations import vqa_parts

    done = run(spec, output.progress)
    output.result(done.report, *vqa_parts(done.report), report_line(done.path, done.report))


@command(AskSpec)
def ask(spec: AskSpec, output: CommandOutput) -> None:
    """Answer a question about an image by a run that was trained on questions."""
    from ..answering.ask import run
    from ..rendering.evaluations import asked_parts

    report = run(spec, output.progress)
    output.answer(report.table(), *asked_parts(report))
