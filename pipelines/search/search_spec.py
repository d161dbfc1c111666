"""Settings and report of a search; nothing here imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...featcache.bounds import MOST
from ...featcache.errors import SpecError
from ...featcache.registry import list_names
from ...featcache.settings import Setting, check_settings
from ..common.destinations import check_file
from ..common.shared_settings import Device, EncoderWeights, Home

SHEETS = (".html", ".png")
_MODALITIES = Path(__file__).parents[2] / "featcache" / "modalities"  # whose import takes NumPy


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """Settings of one search.

    Attributes:
        run: Name or folder of a run, or None for the newest.
        side: What to find, such as `image`; None for the run's first side.
        data: `NAME` of the dataset whose index is searched, or None for the newest index.
        sheet: Where to write a contact sheet, by the end of its name HTML or PNG; or None.
        default_sheet: Whether to write one as `search.html` into the run, if `sheet` is None.
        rerank: Name or folder of a run of a joint adapter, which reads the query together with each
            of the first k answers and puts them into a new order; or None for none.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.
    """

    home: Home
    run: Annotated[str | None, Setting("Run.", argument=True, needed=True)] = None
    query: Annotated[str, Setting("A text, or the path of an image or other file.", argument=True)]
    k: Annotated[int, Setting("Answers at most.", least=1, most=MOST)] = 20
    side: Annotated[str | None, Setting("What to find: image or text; the first side if none.")] = (
        None
    )
    split: Annotated[str | None, Setting("Split; the newest index if none.")] = None
    data: Annotated[
        str | None, Setting("Dataset; NAME=PATH for what lies there, such as its moved files.")
    ] = None
    query_is: Annotated[
        str | None, Setting("text, image or other; no text if such a file is there.", flag="--as")
    ] = None
    rerank: Annotated[
        str | None, Setting("Joint run that puts the first --k answers into a new order.")
    ] = None
    sheet: Annotated[Path | None, Setting("Write a contact sheet: a .html or .png file.")] = None
    default_sheet: Annotated[
        bool, Setting("Write RUN/search.html or --sheet, and open it.", flag="--open")
    ] = False
    force: Annotated[
        bool, Setting("Replace a file at --sheet that is no contact sheet of ours.")
    ] = False
    weights: EncoderWeights = None
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_settings(self, where="--")
        if not self.query.strip():
            raise SpecError("the query is empty")
        known = sorted(list_names(_MODALITIES), key=lambda name: name != "text")
        if self.query_is not in {None, *known}:
            raise SpecError(f"a query is {' or '.join(known)}, not {self.query_is!r}")
        if self.sheet is not None and self.sheet.suffix.lower() not in SHEETS:
            raise SpecError(f"a contact sheet is one of {SHEETS}, found {str(self.sheet)!r}")
        if self.sheet is not None:
            check_file(self.sheet, option="--sheet", force=self.force)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One answer of a search.

    Attributes:
        rank: Its place, from 1.
        score: Its cosine to the query, from -1 to 1; of an index that keeps codes in place of the
            vectors (`pq`, `ivf-sq8`, `PCA64,Flat`) about that, and not within these bounds.
        id: Its id in the dataset.
        logit_difference: Logit of a match with the query less that of none, by the joint run that
            re-ranks; None without one.
        path: Its file, or None where that is not known or not there.
        text: The text itself, of a text, where it is known.
    """

    rank: int
    score: float
    id: str
    path: str | None = None
    text: str | None = None
    logit_difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """Report of one search.

    Attributes:
        query: The query.
        query_is: Its modality, such as `text` or `image`.
        index: Folder of the index.
        manifest: Its manifest.
        hits: The answers, best first.
        rerank: Name of the joint run that put them into this order, or None for that of the index.
        sheet: The contact sheet, or None.
        warnings: What to know of the answers.
        seconds: Time of each part: `import` of the encoder's libraries, `open_index`,
            `open_encoder`, `embed`, `search`, `find_files`, and `sheet` where there is one;
            `open_rerank` and `rerank` where a joint run re-ranks.
    """

    query: str
    query_is: str
    index: Path
    manifest: Mapping[str, Any]
    hits: Sequence[Hit]
    sheet: Path | None
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    rerank: str | None = None
