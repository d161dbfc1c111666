"""The commands that save an index and search in it."""

from ..search.build_index_spec import IndexSpec
from ..search.search_spec import SearchSpec
from ._common import CommandOutput
from ._from_spec import command


@command(IndexSpec, reads_stores=True)
def index(spec: IndexSpec, output: CommandOutput) -> None:
    """Save an index of a split's embeddings, to search in."""
    from ..rendering.search import index_lines
    from ..search.build_index import run

    indexed = run(spec, output.progress)
    output.result(indexed, *index_lines(indexed))


@command(SearchSpec)
def search(spec: SearchSpec, output: CommandOutput) -> None:
    """Find what is nearest to a text or an image, in an index that `index` has saved."""
    from ..rendering.search import search_parts
    from ..search.search import open_in_browser, run

    report = run(spec, output.progress)
    output.answer(report, *search_parts(report))
    if spec.default_sheet and report.sheet is not None:
        open_in_browser(report.sheet, output.progress)
