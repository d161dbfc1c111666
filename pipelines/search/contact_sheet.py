"""Show answers as one page of small pictures: an HTML file that needs no other, or a PNG."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ...featcache import atomic_files
from ...featcache.errors import UnreadableItemError
from ...featcache.modalities.image import decode_image, jpeg_address
from ...featcache.types import Item
from ..common.destinations import GENERATOR
from ..common.printable import for_page, printable

_SIDE = 240  # pixels of the longer side of a picture
_COLUMNS = 5  # of a PNG
_GAP = 10  # pixels
_LINES = 4  # of text below or in place of a picture
_LINE = 15  # pixels
_LETTERS = 34  # of a line
_QUALITY = 80  # of a JPEG: 240 pixels take about 10 kB
_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="lightalign">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 16px; color: #222; background: #fff; }
main { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
figure { margin: 0; }
img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #f2f2f2; }
figcaption { font-size: 13px; overflow-wrap: anywhere; color: #555; }
blockquote { margin: 0; padding: 8px; background: #f2f2f2; overflow-wrap: anywhere; }
header figure { max-width: 240px; margin-bottom: 16px; }
header blockquote { font-size: 20px; background: none; padding: 0; }
</style>
<header>$query</header>
<main>
$cells
</main>
</html>
""")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Content of one cell of a contact sheet.

    Attributes:
        picture: The picture, or None.
        text: A text in place of a picture, or what is wrong with it.
        title: What it is, such as its rank and score.
        name: Its id.
    """

    picture: Image.Image | None
    text: str
    title: str
    name: str

    @classmethod
    def of(cls, item: Item | None, title: str, name: str) -> "Cell":
        """Return the cell of an item; None is one that was not found."""
        if item is None:
            return cls(picture=None, text="not found", title=title, name=name)
        if item.text is not None:
            return cls(picture=None, text=item.text, title=title, name=name)
        try:
            picture = decode_image(item.read_bytes(), item_id=item.id)
        except UnreadableItemError as error:
            return cls(picture=None, text=str(error), title=title, name=name)
        # small pictures keep a page of answers small enough to be sent
        picture.thumbnail((_SIDE, _SIDE))
        return cls(picture=picture, text="", title=title, name=name)


def write_sheet(path: Path, query: Cell, cells: Sequence[Cell]) -> None:
    """Write a sheet, as a PNG if its name ends so, else as HTML; its folder is made."""
    as_png = path.suffix.lower() == ".png"
    content = (
        _picture(query, cells)
        if as_png
        else _page(query, cells).encode("utf-8", "backslashreplace")
    )
    with atomic_files.making(path.parent):
        atomic_files.clear_abandoned_beside(path)
        atomic_files.write_bytes(path, content)


def _page(query: Cell, cells: Sequence[Cell]) -> str:
    page = _PAGE.substitute(
        title=html.escape(query.text or query.title),
        query=_figure(query),
        cells="\n".join(map(_figure, cells)),
    )
    return for_page(page)


def _figure(cell: Cell) -> str:
    shown = f"<blockquote>{html.escape(cell.text)}</blockquote>"
    if cell.picture is not None:
        address = jpeg_address(cell.picture, quality=_QUALITY)
        shown = f'<img alt="{html.escape(cell.name)}" src="{address}">'
    below = " ".join(html.escape(part) for part in (cell.title, cell.name) if part)
    return f"<figure>{shown}<figcaption>{below}</figcaption></figure>"


def _picture(query: Cell, cells: Sequence[Cell]) -> bytes:
    """Return a PNG: the query in a line of its own, the cells in rows below."""
    width, height = _SIDE + _GAP, _SIDE + _LINES * _LINE + _GAP
    head = height if query.picture is not None else 3 * _LINE + _GAP
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, head + rows * height + _GAP), "white")
    _draw(sheet, query, _GAP, _GAP, letters=_COLUMNS * _LETTERS)
    for position, cell in enumerate(cells):
        row, column = divmod(position, _COLUMNS)
        _draw(sheet, cell, _GAP + column * width, _GAP + head + row * height, letters=_LETTERS)
    buffer = io.BytesIO()
    origin = PngImagePlugin.PngInfo()
    origin.add_text("Software", GENERATOR)
    sheet.save(buffer, "PNG", pnginfo=origin)
    return buffer.getvalue()


def _caption(cell: Cell, letters: int) -> list[str]:
    """Return title and id in two lines at most; a longer id is shortened in the middle."""
    caption = " ".join(printable(part) for part in (cell.title, cell.name) if part)
    most = 2 * letters
    # in the middle, as the ids of the texts of an image differ in the last letter
    if len(caption) > most:
        kept_last = most // 2
        caption = f"{caption[: most - kept_last - 1]}\N{HORIZONTAL ELLIPSIS}{caption[-kept_last:]}"
    return [caption[start : start + letters] for start in range(0, len(caption), letters)]


def _draw(sheet: Image.Image, cell: Cell, left: int, top: int, *, letters: int) -> None:
    if cell.picture is not None:
        sheet.paste(cell.picture, (left, top))
        top += _SIDE
    font = ImageFont.load_default(12)
    lines = [*_caption(cell, letters), *wrap(printable(" ".join(cell.text.split())), letters)]
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines[: _SIDE // _LINE if cell.picture is None else _LINES]):
        # Pillow encodes text as UTF-8, which halves of surrogate pairs have no form in
        shown = line[:letters].encode("utf-8", "backslashreplace").decode()
        draw.text((left, top + number * _LINE), shown, fill="black", font=font)
