"""The commands that turn runs into files for people and other tools."""

from ..exporting.export_spec import ExportSpec
from ..reports.report_spec import ReportSpec
from ._common import CommandOutput
from ._from_spec import command


@command(ReportSpec)
def report(spec: ReportSpec, output: CommandOutput) -> None:
    """Write one HTML page about runs: tables side by side, plots, and the worst answers."""
    from ..reports.report import run

    written = run(spec, output.progress)
    shown = f"{written.evaluations} evaluations of {', '.join(written.runs)}: {written.path}"
    output.result(written, shown)


@command(ExportSpec)
def export_run(spec: ExportSpec, output: CommandOutput) -> None:
    """Write the towers of a run for onnxruntime or sentence-transformers."""
    from ..exporting.export import run
    from ..rendering.training import exported_lines

    exported = run(spec, output.progress)
    output.result(exported, *exported_lines(exported))
