"""Turn reports of `index` and `search` into tables and lines for people."""

from rich.table import Table

from ..ranking.index_plan import scores_exactly
from ..search.build_index_spec import IndexReport
from ..search.search_spec import SearchReport
from .evaluations import quality_line
from .tables import rows_table


def index_lines(report: IndexReport) -> list[str]:
    """Return size, quality and folder of each index."""
    lines = []
    for side, manifest in report.manifests.items():
        set_to = "".join(f", {name} {value}" for name, value in manifest["parameters"].items())
        lines.append(
            f"{side.replace('_', ' ')}s of {manifest['dataset']}/{manifest['split']}: "
            f"{manifest['num']:,} vectors of width {manifest['width']}, {manifest['kind']} "
            f"({manifest['factory']}{set_to}), {manifest['bytes'] / 1e6:.1f} MB"
        )
        if manifest["metrics"]:
            lines.append(f"  {quality_line(manifest['metrics'])}")
        lines.append(f"  {report.folders[side]}")
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines += [f"report: {path}" for path in report.paths.values()]
    return lines


def search_parts(report: SearchReport) -> list[Table | str]:
    """Return a table of the answers, the seconds of each stage, and the path of the sheet."""
    manifest = report.manifest
    score = "cosine" if scores_exactly(manifest["factory"]) else "score (approximate)"
    rows = [
        {
            "rank": hit.rank,
            **({} if report.rerank is None else {"itm": f"{hit.logit_difference:+.2f}"}),
            score: f"{hit.score:.3f}",
            "id": hit.id,
            "found": hit.text or hit.path or "",
        }
        for hit in report.hits
    ]
    took = ", ".join(
        f"{name.replace('_', ' ')} {took:.2f}" for name, took in report.seconds.items()
    )
    what = (
        f"{len(rows)} of {manifest['num']:,} {manifest['side'].replace('_', ' ')}s of "
        f"{manifest['dataset']}/{manifest['split']}, {manifest['kind']} index"
    )
    lines: list[Table | str] = [rows_table(rows), what]
    if report.rerank is not None:
        lines.append(f"in the order of the logit difference (itm) of run {report.rerank}")
    if manifest["metrics"]:
        lines.append(quality_line(manifest["metrics"]))
    lines.append(f"seconds: {took}")
    lines += [f"warning: {warning}" for warning in report.warnings]
    if report.sheet is not None:
        lines.append(f"sheet: {report.sheet}")
    return lines
