"""Draw line charts and sparklines as SVG text; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from espalier.report.scale import Scale, fit_scale

_MAX_POINTS = 240
_LONE_WIDTH = 12  # pixels; of a band with a single point
_SPARK = (110, 24)
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 40


@dataclass(frozen=True)
class Series:
    """One curve: points (x, y), sorted by x. A NaN or infinite y leaves a gap."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Band:
    """A filled area behind the curves: points (x, low, high), sorted by x."""

    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        text: formats the value of a tick.
        whole: put ticks at whole numbers only.
        start: first value of a horizontal axis, unless no point lies beyond it; then 0.
    """

    label: str
    text: Callable[[float], str]
    whole: bool = False
    start: float = 0.0


@dataclass(frozen=True)
class Look:
    """How a chart looks.

    Attributes:
        width, height: pixels.
        from_zero: the y axis starts at zero.
        marks: (x, word): vertical dashed lines with a word beside each.
    """

    width: int = 1012
    height: int = 300
    from_zero: bool = False
    marks: tuple[tuple[float, str], ...] = ()


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, *, bands: Sequence[Band] = (), look: Look = Look()
) -> Markup:
    """Draw curves over one pair of axes. A long curve is drawn as means of neighbouring points over a min-max band.

    Args:
        series: at least one, each with at least one point.
        x: the horizontal axis.
        y: the vertical axis; covers every finite value.
        bands: areas in the first curve's colour, darker where they overlap.
    """
    furthest = max(px for one in series for px, _ in one.points)
    first = x.start if furthest > x.start else 0.0
    xs = Scale(first, furthest or 1.0, _LEFT, look.width - _RIGHT)
    ys = fit_scale(
        [
            *(py for one in series for _, py in one.points),
            *(edge for band in bands for _, *edges in band.points for edge in edges),
        ],
        start=look.height - _BOTTOM,
        end=_TOP,
        from_zero=look.from_zero,
    )
    body = Markup("").join(
        [
            _y_axis(ys, y, look),
            _x_axis(xs, x, look),
            *(_mark(xs.place(place), word, look) for place, word in look.marks),
            *(_band(_placed(band.points, xs, ys), 1) for band in bands),
            *(_curve(one, xs, ys, number) for number, one in enumerate(series, 1)),
        ]
    )
    label = f"{y.label} over {x.label}"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        look.width, look.height, label, body
    )


def sparkline(values: Sequence[float], *, top: float) -> Markup:
    """Draw a curve the size of a word, without axes: at least one value, evenly spaced, between 0 and `top`."""
    width, height = _SPARK
    xs, ys = Scale(0.0, max(len(values) - 1, 1), 2.0, width - 2.0), Scale(0.0, top or 1.0, height - 2.0, 2.0)
    line = _path([(xs.place(x), ys.place(mean)) for x, mean, _, _ in _buckets(list(enumerate(values)))])
    label = f"from {values[0]:.3g} to {values[-1]:.3g}"
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        '<path class="curve c1" d="{}"/></svg>'
    ).format(width, height, width, height, label, line)


def _curve(series: Series, xs: Scale, ys: Scale, number: int) -> Markup:
    buckets = _buckets(series.points)
    line = _path([(xs.place(x), ys.place(mean)) for x, mean, _, _ in buckets])
    band = Markup("")
    if len(buckets) < len(series.points):
        band = _band(_placed([(x, low, high) for x, _, low, high in buckets], xs, ys), number)
    drawn = Markup('<path class="curve c{}" d="{}"><title>{}</title></path>').format(number, line, series.name)
    return band + drawn


def _buckets(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """Average neighbouring points: at most `_MAX_POINTS` tuples (x, mean, min, max)."""
    size = -(-len(points) // _MAX_POINTS)
    found = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ys = [y for _, y in part if math.isfinite(y)]
        x = sum(x for x, _ in part) / len(part)
        found.append((x, sum(ys) / len(ys), min(ys), max(ys)) if ys else (x, math.nan, math.nan, math.nan))
    return found


def _path(places: Sequence[tuple[float, float]]) -> str:
    parts: list[str] = []
    pen = "M"
    for x, y in places:
        if math.isfinite(y):
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return " ".join(parts) + ("h0.1" if len(parts) == 1 else "")  # a line of no length shows its round cap, a dot


def _placed(points: Sequence[tuple[float, float, float]], xs: Scale, ys: Scale) -> list[tuple[float, float, float]]:
    return [(xs.place(x), ys.place(low), ys.place(high)) for x, low, high in points]


def _band(places: Sequence[tuple[float, float, float]], number: int) -> Markup:
    there = [place for place in places if math.isfinite(place[1])]
    if len(there) == 1:
        x, low, high = there[0]
        there = [(x - _LONE_WIDTH, low, high), (x, low, high)]
    outline = [(x, high) for x, _, high in there] + [(x, low) for x, low, _ in reversed(there)]
    return Markup('<path class="band c{}" d="{}Z"/>').format(number, _path(outline))


def _y_axis(scale: Scale, axis: Axis, look: Look) -> Markup:
    right, middle = look.width - _RIGHT, (scale.start + scale.end) / 2
    ticks = [
        Markup('<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            _LEFT, scale.place(tick), right, _LEFT - 8, scale.place(tick) + 4, axis.text(tick)
        )
        for tick in scale.ticks(max(2, look.height // 48))
    ]
    label = Markup('<text class="label" transform="translate(12 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>')
    return Markup("").join([*ticks, label.format(middle, axis.label)])


def _x_axis(scale: Scale, axis: Axis, look: Look) -> Markup:
    base = look.height - _BOTTOM
    ticks = [
        Markup('<path class="tick" d="M{:.1f} {}v4"/><text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            scale.place(tick), base, scale.place(tick), base + 17, axis.text(tick)
        )
        for tick in scale.ticks(max(2, look.width // 75))
        if not axis.whole or abs(tick - round(tick)) < 1e-9
    ]
    line = Markup('<path class="axis" d="M{} {}H{}"/>').format(_LEFT, base, look.width - _RIGHT)
    label = Markup('<text class="label" x="{:.0f}" y="{}" text-anchor="middle">{}</text>').format(
        (scale.start + scale.end) / 2, look.height - 5, axis.label
    )
    return Markup("").join([line, *ticks, label])


def _mark(place: float, word: str, look: Look) -> Markup:
    return Markup('<path class="mark" d="M{:.1f} {}V{}"/><text class="mark" x="{:.1f}" y="{}">{}</text>').format(
        place, _TOP, look.height - _BOTTOM, place + 4, _TOP + 10, word
    )
