"""Plots as SVG text: they stand in a page as they are, scale with it, and need no script.

A plot of lines takes its style from the page. A confusion matrix is a file of its own, too, and
holds its style.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

# of Okabe and Ito, told apart by colour-blind eyes; their yellow is too pale for a line
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#000000")
_WIDTH, _HEIGHT = 640.0, 400.0  # units of the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 40.0, 20.0, 64.0  # half of "10,000" is right of its tick
_MOST_TICKS = 6
_LOG_RATIO = 50  # from here on an axis of positive numbers is logarithmic

_MATRIX = 720.0  # pixels of the whole matrix, if its cells are neither at their least nor most
_CELL = (4.0, 44.0)
_FONT = (3.0, 13.0)  # with 200 classes one has to zoom in to read them, which an SVG allows
_NUMBERS = 24  # classes up to which the cells hold numbers
_LIGHT, _DARK = (240, 246, 253), (8, 48, 107)  # a share of almost 0, and of 1
_LETTER = 0.58  # width of a letter over the font size, of most fonts without serifs
_LEGEND_STEPS = 5

Line = Mapping[str, Sequence[float | int]]
Points = Sequence[tuple[float, float]]


def line_plot(lines: Mapping[str, Line], *, x_label: str, y_label: str) -> str:
    """Return a plot of some lines.

    Args:
        lines: `x` and `y` of each line by its label, of equal length, and perhaps `low` and `high`,
            between which it is shaded; numbers that are not finite are left out.
        x_label: What x is.
        y_label: What y is.
    """
    curves = {label: _finite(line) for label, line in lines.items()}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return "<p>No numbers to plot.</p>"
    bands = {label: _outline(line) for label, line in lines.items()}
    xs, ys = zip(*points, strict=True)
    logarithmic = min(xs) > 0 and max(xs) / min(xs) >= _LOG_RATIO
    across = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, logarithmic=logarithmic)
    heights = [*ys, *(edge for band in bands.values() for _, edge in band)]
    # from zero on, so that a difference looks as large as it is
    up = _Axis(min(0.0, *heights), max(heights), _HEIGHT - _BOTTOM, _TOP)

    def placed(curve: Points) -> str:
        return " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in curve)

    parts = [*_frame(across, up, x_label, y_label)]
    legend = ""
    for number, (label, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = {"stroke_dasharray": "7 5"} if number >= len(COLOURS) else {}
        if bands[label]:
            shaded = placed(bands[label])
            parts.append(_element("polygon", fill=colour, fill_opacity="0.15", points=shaded))
        style = {"fill": "none", "stroke": colour, "stroke_width": "2.5", **dash}
        title = _element("title", escape(label))
        parts.append(_element("polyline", title, **style, points=placed(curve)))
        # one point makes no line, and would not be seen
        if len(curve) == 1:
            ((x, y),) = curve
            parts.append(_element("circle", cx=across.place(x), cy=up.place(y), r=5, fill=colour))
        legend += f'<li><span style="background:{colour}"></span>{escape(label)}</li>'
    drawing = _element(
        "svg",
        "".join(parts),
        **{"class": "plot", "viewBox": f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", "role": "img"},
        xmlns="http://www.w3.org/2000/svg",
    )
    return f'{drawing}<ul class="legend">{legend}</ul>'


class _Axis:
    """Place numbers along a line from `start` to `end`."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, logarithmic: bool = False
    ) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self.start, self.end = start, end
        self.logarithmic = logarithmic

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / _MOST_TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [step * number for number in range(first, last + 1)]


def _finite(line: Line) -> Points:
    pairs = zip(map(float, line["x"]), map(float, line["y"]), strict=True)
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _outline(line: Line) -> Points:
    """Return the corners of what is shaded around a line: upper edges onward, lower ones back."""
    triples = zip(line["x"], line.get("low", ()), line.get("high", ()), strict=False)
    floats = [tuple(map(float, triple)) for triple in triples]
    finite = [triple for triple in floats if math.isfinite(sum(triple))]
    return [(x, high) for x, _, high in finite] + [(x, low) for x, low, _ in reversed(finite)]


def _frame(across: _Axis, up: _Axis, x_label: str, y_label: str) -> list[str]:
    grid, middle, end = {"class": "grid"}, {"class": "middle"}, {"class": "end"}
    parts = []
    for tick in across.ticks():
        x = across.place(tick)
        parts.append(_element("line", x1=x, x2=x, y1=up.start, y2=up.end, **grid))
        parts.append(_element("text", _number(tick), x=x, y=up.start + 24, **middle))
    for tick in up.ticks():
        y = up.place(tick)
        parts.append(_element("line", x1=across.start, x2=across.end, y1=y, y2=y, **grid))
        parts.append(_element("text", _number(tick), x=across.start - 8, y=y + 6, **end))
    centre_x, centre_y = (across.start + across.end) / 2, (up.start + up.end) / 2
    turned = {**middle, "transform": f"rotate(-90 18 {centre_y})"}
    return [
        *parts,
        _element("text", escape(x_label), x=centre_x, y=_HEIGHT - 12, **middle),
        _element("text", escape(y_label), x=18, y=centre_y, **turned),
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def draw_confusion(curve: Mapping[str, Any]) -> str:
    """Return the picture of a confusion matrix: rows are classes, shades shares of a row.

    Args:
        curve: `title`, `x_label`, `y_label`, `names` and `matrix`, as reports hold them; without
            a title the picture has none, for a page that has its own.
    """
    names: Sequence[str] = curve["names"]
    cell = min(_CELL[1], max(_CELL[0], _MATRIX / len(names)))
    font = min(_FONT[1], max(_FONT[0], 0.8 * cell))
    margin = 16 + _LETTER * font * max(map(len, names))
    left, top = margin + 24, margin + 64
    side = cell * len(names)
    size = {"width": f"{left + side + 110:.0f}", "height": f"{top + side + 40:.0f}"}
    centred = {"text_anchor": "middle"}
    parts = [
        _element("rect", **size, fill="#ffffff"),
        *([_text(16.0, 26.0, curve["title"], 16.0)] if "title" in curve else []),
        _text(left + side / 2, 48.0, curve["x_label"], 13.0, **centred),
        _text(18.0, top + side / 2, curve["y_label"], 13.0, -90, **centred),
    ]
    for number, name in enumerate(names):
        middle = (number + 0.5) * cell
        parts.append(_text(left - 5, top + middle + font / 3, name, font, text_anchor="end"))
        parts.append(_text(left + middle + font / 3, top - 5, name, font, -90))
    for row, counts in enumerate(curve["matrix"]):
        total, y = sum(counts), top + row * cell
        for column, count in enumerate(counts):
            if not count:
                continue
            share, x = count / total, left + column * cell
            about = f"{names[row]} taken for {names[column]}: {count} of {total}"
            title = _element("title", escape(f"{about} ({100 * share:.1f} %)", quote=False))
            parts.append(
                _element("rect", title, x=x, y=y, width=cell, height=cell, fill=_shade(share))
            )
            # in smaller cells nobody could read them; the title shows them to the mouse
            if len(names) <= _NUMBERS:
                font_size = 0.32 * cell
                place = x + cell / 2, y + cell / 2 + font_size / 3
                colour = "#ffffff" if share > 0.45 else "#222222"
                percent = f"{100 * share:.0f}"
                parts.append(_text(*place, percent, font_size, **centred, fill=colour))
    edge = {"fill": "none", "stroke": "#555555"}
    parts.append(_element("rect", x=left, y=top, width=side, height=side, **edge))
    parts += _legend(left + side + 24, top)
    # a file of its own has no page around it that says how large and in which font
    style = {
        "viewBox": f"0 0 {size['width']} {size['height']}",
        **size,
        "font_family": "sans-serif",
    }
    content = "\n".join(["", *parts, ""])
    return _element("svg", content, xmlns="http://www.w3.org/2000/svg", **style) + "\n"


def _legend(left: float, top: float) -> list[str]:
    height = 22
    style = {"stroke": "#bbbbbb", "stroke_width": "0.5"}
    parts = [_text(left, top - 8, "% of row", 11.0)]
    for step in range(_LEGEND_STEPS):
        share, y = 1 - step / (_LEGEND_STEPS - 1), top + step * height
        box = {"x": left, "y": y, "width": 18, "height": height, "fill": _shade(share)}
        parts.append(_element("rect", **box, **style))
        parts.append(_text(left + 24, y + height / 2 + 4, f"{100 * share:.0f}", 11.0))
    return parts


def _shade(share: float) -> str:
    """Return the colour of a share in [0, 1]."""
    channels = (low + share * (high - low) for low, high in zip(_LIGHT, _DARK, strict=True))
    return "#" + "".join(f"{round(channel):02x}" for channel in channels)


def _text(x: float, y: float, text: str, size: float, turned: int = 0, /, **style: object) -> str:
    style = {"text_anchor": "start", "fill": "#222222", **style}
    if turned:
        style["transform"] = f"rotate({turned} {x:.1f} {y:.1f})"
    return _element("text", escape(text, quote=False), x=x, y=y, font_size=size, **style)


def _element(name: str, content: str | None = None, /, **attributes: object) -> str:
    """Return an element of SVG; floats among its attributes get one digit after the point.

    Args:
        name: Its name.
        content: What stands in it, escaped, or None for an empty element.
        attributes: By their names, in which `_` stands for `-`.
    """
    start = name + "".join(
        f' {key.replace("_", "-")}="{format(value, ".1f" if isinstance(value, float) else "")}"'
        for key, value in attributes.items()
    )
    return f"<{start}/>" if content is None else f"<{start}>{content}</{name}>"
