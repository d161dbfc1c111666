"""Plots of lines as SVG text: they stand in a page as they are, scale with it, need no script."""

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#8a6d00",
    "#56b4e9",
    "#000000",
)  # of Okabe and Ito, told apart by colour-blind eyes; its yellow is too pale for a line
_WIDTH, _HEIGHT = 640.0, 400.0  # units of the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 40.0, 20.0, 64.0  # half of "10,000" is right of its tick
_MOST_TICKS = 6
_LOG_RATIO = 50  # from here on an axis of positive numbers is logarithmic

Line = Mapping[str, Sequence[float | int]]


def line_plot(lines: Mapping[str, Line], *, x_label: str, y_label: str) -> str:
    """Return a plot of some lines.

    Args:
        lines: `x` and `y` of each line by its label, of equal length, and perhaps `low` and `high`,
            between which it is shaded; numbers that are not finite are left out.
        x_label: What x is.
        y_label: What y is.
    """
    finite = {label: _finite(line) for label, line in lines.items()}
    points = [point for line in finite.values() for point in line]
    if not points:
        return "<p>No numbers to plot.</p>"
    xs, ys = zip(*points, strict=True)
    across = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, logarithmic=_wants_logarithm(xs))
    bands = {label: _band(line) for label, line in lines.items()}
    edges = [edge for band in bands.values() for _, *both in band for edge in both]
    up = _Axis(min(0.0, *ys, *edges), max((*ys, *edges)), _HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(across, up, x_label, y_label)]
    for number, (label, line) in enumerate(finite.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="7 5"' if number >= len(COLOURS) else ""
        band = bands[label]
        around = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        if around:
            path = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in around)
            parts.append(f'<polygon fill="{colour}" fill-opacity="0.15" points="{path}"/>')
        path = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in line)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2.5"{dash} points="{path}">'
            f"<title>{escape(label)}</title></polyline>"
        )
        if len(line) == 1:
            ((x, y),) = line
            place = f'cx="{across.place(x):.1f}" cy="{up.place(y):.1f}"'
            parts.append(f'<circle {place} r="5" fill="{colour}"/>')
    legend = "".join(
        f'<li><span style="background:{COLOURS[number % len(COLOURS)]}"></span>{escape(label)}</li>'
        for number, label in enumerate(finite)
    )
    return f'{_drawing(parts, _WIDTH, _HEIGHT)}<ul class="legend">{legend}</ul>'


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


def _wants_logarithm(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= _LOG_RATIO


def _finite(line: Line) -> list[tuple[float, float]]:
    pairs = zip(map(float, line["x"]), map(float, line["y"]), strict=True)
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _band(line: Line) -> list[tuple[float, float, float]]:
    """Return x, lower and upper edge of what is shaded around a line."""
    triples = zip(line["x"], line.get("low", ()), line.get("high", ()), strict=False)
    floats = ((float(x), float(low), float(high)) for x, low, high in triples)
    return [triple for triple in floats if math.isfinite(sum(triple))]


def _frame(across: _Axis, up: _Axis, x_label: str, y_label: str) -> list[str]:
    parts = []
    for tick in across.ticks():
        x = across.place(tick)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{up.start}" y2="{up.end}" class="grid"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{up.start + 24}" class="middle">{_number(tick)}</text>')
    for tick in up.ticks():
        y = up.place(tick)
        ends = f'x1="{across.start}" x2="{across.end}"'
        parts.append(f'<line {ends} y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(
            f'<text x="{across.start - 8}" y="{y + 6:.1f}" class="end">{_number(tick)}</text>'
        )
    middle = (across.start + across.end) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 12}" class="middle">{escape(x_label)}</text>')
    centre = (up.start + up.end) / 2
    turn = f"rotate(-90 18 {centre})"
    parts.append(
        f'<text x="18" y="{centre}" class="middle" transform="{turn}">{escape(y_label)}</text>'
    )
    return parts


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _drawing(parts: Sequence[str], width: float, height: float) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
