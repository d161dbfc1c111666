"""The commands that turn runs into files for people and other tools."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    DEFAULT_HOME,
    AsJson,
    CommandOutput,
    EncoderWeights,
    Home,
    Quiet,
    RunName,
    places_of_weights,
    within,
)


def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(help="Runs, and JSON files of evaluations; the newest run if none."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write; one in the run or beside the file if none."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH of a dataset that has moved, for its pictures; repeatable."),
    ] = None,
    failures: Annotated[
        int,
        typer.Option(callback=within(0), help="Worst answers that are shown of each evaluation."),
    ] = 24,
    force: Annotated[
        bool, typer.Option(help="Replace a file at --out that is no page of ours.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page about runs: tables side by side, plots, and the worst answers."""
    from ..reports.report import run as run_report
    from ..reports.report_spec import ReportSpec

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = ReportSpec(
        home=home,
        runs=tuple(run or ()),
        out=out,
        data=tuple(data or ()),
        failures=failures,
        force=force,
    )
    written = run_report(spec, output.progress)
    shown = f"{written.evaluations} evaluations of {', '.join(written.runs)}: {written.path}"
    output.result(written, shown)


def export_run(
    run: RunName = None,
    *,
    to: Annotated[str, typer.Option(help="onnx or sentence-transformers.")],
    output: Annotated[Path, typer.Option(help="Folder to write: a new or an empty one.")],
    tower: Annotated[
        list[str] | None,
        typer.Option(help="image or text; all for onnx, text for sentence-transformers if none."),
    ] = None,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Leave the frozen encoders out; onnx only.")
    ] = False,
    weights: EncoderWeights = None,
    force: Annotated[bool, typer.Option(help="Replace an earlier export at --output.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the towers of a run for onnxruntime or sentence-transformers."""
    from ..exporting.export import run as run_export
    from ..exporting.export_spec import ExportSpec
    from ..rendering.training import exported_lines

    output_of = CommandOutput(as_json=as_json, quiet=quiet)
    spec = ExportSpec(
        home=home,
        run=run,
        to=to,
        output=output,
        towers=tuple(dict.fromkeys(tower or ())),
        whole=not adapter_only,
        weights=places_of_weights(weights),
        force=force,
    )
    exported = run_export(spec, output_of.progress)
    output_of.result(exported, *exported_lines(exported))
