"""Draw which classes are taken for which others, as an SVG picture that needs nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

_PLOT = 720.0  # pixels of the whole matrix, if its cells are neither at their least nor most
_CELL = (4.0, 44.0)
_FONT = (3.0, 13.0)  # with 200 classes one has to zoom in to read them, which an SVG allows
_NUMBERS = 24  # classes up to which the cells hold numbers
_LIGHT, _DARK = (240, 246, 253), (8, 48, 107)  # a share of almost 0, and of 1
_LETTER = 0.58  # width of a letter over the font size, of most fonts without serifs
_LEGEND_STEPS = 5


def draw_confusion(curve: Mapping[str, Any]) -> str:
    """Return the picture of a confusion matrix: rows are classes, shades shares of a row.

    Args:
        curve: `title`, `x_label`, `y_label`, `names` and `matrix`, as reports hold them; without
            a title the picture has none, for a page that has its own.
    """
    names: Sequence[str] = curve["names"]
    cell = min(_CELL[1], max(_CELL[0], _PLOT / len(names)))
    font = min(_FONT[1], max(_FONT[0], 0.8 * cell))
    margin = 16 + _LETTER * font * max(map(len, names))
    left, top = margin + 24, margin + 64
    side = cell * len(names)
    width, height = left + side + 110, top + side + 40
    size = f'width="{width:.0f}" height="{height:.0f}"'
    box = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {size} font-family="sans-serif">',
        f'<rect {size} fill="#ffffff"/>',
        *([_text(16.0, 26.0, curve["title"], size=16.0)] if "title" in curve else []),
        _text(left + side / 2, 48.0, curve["x_label"], size=13.0, anchor="middle"),
        _text(18.0, top + side / 2, curve["y_label"], size=13.0, anchor="middle", turned=-90),
    ]
    for place, name in enumerate(names):
        middle = (place + 0.5) * cell
        parts += [
            _text(left - 5, top + middle + font / 3, name, size=font, anchor="end"),
            _text(left + middle + font / 3, top - 5, name, size=font, turned=-90),
        ]
    for row, counts in enumerate(curve["matrix"]):
        parts += _row(names, row, counts, cell=cell, left=left, top=top + row * cell)
    parts.append(
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" '
        'stroke="#555555"/>'
    )
    return "\n".join([*parts, *_legend(left + side + 24, top), "</svg>", ""])


def _row(
    names: Sequence[str],
    row: int,
    counts: Sequence[int],
    *,
    cell: float,
    left: float,
    top: float,
) -> list[str]:
    """Return the cells of one class that hold an image."""
    total = sum(counts)
    parts = []
    for place, count in enumerate(counts):
        if not count:
            continue
        share, x = count / total, left + place * cell
        about = f"{names[row]} taken for {names[place]}: {count} of {total} ({100 * share:.1f} %)"
        parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
            f'fill="{_shade(share)}"><title>{escape(about)}</title></rect>'
        )
        if len(names) <= _NUMBERS:
            colour = "#ffffff" if share > 0.45 else "#222222"
            size = 0.32 * cell
            middle = (x + cell / 2, top + cell / 2 + size / 3)
            number = f"{100 * share:.0f}"
            parts.append(_text(*middle, number, size=size, anchor="middle", colour=colour))
    return parts


def _legend(left: float, top: float) -> list[str]:
    height = 22
    parts = [_text(left, top - 8, "% of row", size=11.0)]
    for step in range(_LEGEND_STEPS):
        share = 1 - step / (_LEGEND_STEPS - 1)
        y = top + step * height
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="18" height="{height}" '
            f'fill="{_shade(share)}" stroke="#bbbbbb" stroke-width="0.5"/>'
        )
        parts.append(_text(left + 24, y + height / 2 + 4, f"{100 * share:.0f}", size=11.0))
    return parts


def _shade(share: float) -> str:
    """Return the colour of a share in [0, 1]."""
    channels = (low + share * (high - low) for low, high in zip(_LIGHT, _DARK, strict=True))
    return "#" + "".join(f"{round(channel):02x}" for channel in channels)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    anchor: str = "start",
    turned: int = 0,
    colour: str = "#222222",
) -> str:
    turn = f' transform="rotate({turned} {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" text-anchor="{anchor}" '
        f'fill="{colour}"{turn}>{escape(text)}</text>'
    )
