"""The commands that save an index and search in it."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    DEFAULT_HOME,
    AsJson,
    CommandOutput,
    Device,
    EncoderWeights,
    Home,
    NoVerify,
    OtherData,
    Quiet,
    RunName,
    places_of_weights,
    within,
)


def index(
    run: RunName = None,
    side: Annotated[
        str | None, typer.Option(help="image (if none), text, or both; or first_text, second_text.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--index", help="auto, flat, ivf, hnsw, pq or a FAISS factory string.")
    ] = "auto",
    memory: Annotated[
        str | None, typer.Option(help="What it may take, such as 2GB; half of the free if none.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to index.")] = "test",
    data: OtherData = None,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Save an index of a split's embeddings, to search in."""
    from ..rendering.search import index_lines
    from ..search.build_index import run as run_index
    from ..search.build_index_spec import IndexSpec

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = IndexSpec(
        home=home,
        run=run,
        side=side,
        data=data,
        split=split,
        index=kind,
        memory=memory,
        device=device,
    )
    indexed = run_index(spec, output.progress)
    output.result(indexed, *index_lines(indexed))


def search(
    run: Annotated[str, typer.Argument(help="Run.")],
    query: Annotated[str, typer.Argument(help="A text, or the path of an image.")],
    k: Annotated[int, typer.Option("--k", callback=within(1), help="Answers at most.")] = 20,
    side: Annotated[str | None, typer.Option(help="What to find: image (if none) or text.")] = None,
    split: Annotated[str | None, typer.Option(help="Split; the newest index if none.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Dataset; NAME=PATH for what lies there, such as its moved files."),
    ] = None,
    query_is: Annotated[
        str | None, typer.Option("--as", help="text or image; an image if such a file is there.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet: a .html or .png file.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--open", help="Write RUN/search.html or --sheet, and open it.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Replace a file at --sheet that is no contact sheet of ours.")
    ] = False,
    weights: EncoderWeights = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find what is nearest to a text or an image, in an index that `index` has saved."""
    from ..rendering.search import search_parts
    from ..search.search import open_in_browser
    from ..search.search import run as run_search
    from ..search.search_spec import SearchSpec

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = SearchSpec(
        home=home,
        run=run,
        query=query,
        query_is=query_is,
        side=side,
        data=data,
        split=split,
        k=k,
        sheet=sheet,
        default_sheet=show,
        force=force,
        weights=places_of_weights(weights),
        device=device,
    )
    report = run_search(spec, output.progress)
    output.answer(report, *search_parts(report))
    if show and report.sheet is not None:
        open_in_browser(report.sheet, output.progress)
