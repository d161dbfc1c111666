"""Turn the report of `match` into a table for people."""

from rich.table import Table

from ..joint.match_spec import MatchReport
from .tables import rows_table


def match_parts(report: MatchReport) -> list[Table | str]:
    """Return a table with a line a text, the image, and the seconds of each part."""
    rows = [
        {
            "matches": "yes" if match.matches else "no",
            "probability": f"{match.probability:.3f}",
            "logit difference": f"{match.logit_difference:+.2f}",
            "text": match.text,
        }
        for match in report.matches
    ]
    took = ", ".join(f"{name} {seconds:.2f}" for name, seconds in report.seconds.items())
    return [
        rows_table(rows),
        f"image: {report.image}, by run {report.run.name}",
        f"seconds: {took}",
        *(f"warning: {warning}" for warning in report.warnings),
    ]
