import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier.report.charts import Axis, Band, Look, Series, line_chart, sparkline
from espalier.report.scale import Scale, fit_scale

AXES = Axis("tokens", str), Axis("loss", str)


def drawn(points, look: Look | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(line_chart([Series("loss", points)], *AXES, look=look or Look()))


def places(svg: ElementTree.Element) -> list[tuple[float, float]]:
    (path,) = [one for one in svg.iter("path") if one.get("class", "").startswith("curve")]
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d"))]


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), about=st.integers(2, 12))
def test_ticks_are_evenly_spaced_and_on_the_axis(low, span, about):
    scale = Scale(low, low + span, 0.0, 100.0)
    ticks = scale.ticks(about)
    assert about / 3 <= len(ticks) + 1 <= about + 2
    steps = [(b - a) / span for a, b in pairwise(ticks)]
    assert not steps or max(steps) - min(steps) < 1e-6
    assert all(-1e-3 <= scale.place(tick) <= 100.001 for tick in ticks)


@pytest.mark.parametrize("values", [[], [0.0], [2.5, 2.5], [math.nan], [-3.0, 7.0, math.inf]])
def test_a_scale_has_a_positive_range_for_any_values(values):
    scale = fit_scale(values, start=0.0, end=1.0)
    assert scale.low < scale.high
    assert all(0.0 < scale.place(value) < 1.0 for value in values if math.isfinite(value))


def test_lower_losses_are_drawn_lower_and_later_steps_further_right():
    found = places(drawn([(1024 * n, 1 / n) for n in range(1, 38)]))
    assert len(found) == 37
    assert all(b[0] > a[0] and b[1] > a[1] for a, b in pairwise(found))


def test_a_long_curve_is_thinned_and_its_band_keeps_the_extremes():
    points = [(float(n), 100.0 if n == 5003 else 1.0) for n in range(10007)]
    svg = drawn(points)
    assert len(places(svg)) <= 240
    (band,) = [one for one in svg.iter("path") if one.get("class", "").startswith("band")]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", band.get("d"))]
    assert min(heights) < 30 < min(y for _, y in places(svg))


def test_a_loss_that_is_no_number_leaves_a_gap():
    svg = drawn([(1, 1.0), (2, 2.0), (3, math.nan), (4, 2.0), (5, math.inf), (6, 1.0)])
    (path,) = [one for one in svg.iter("path") if one.get("class", "").startswith("curve")]
    assert path.get("d").count("M") == 3
    assert "nan" not in path.get("d")


def test_a_single_step_can_be_drawn():
    assert len(places(drawn([(1024, 2.5)]))) == 1


def test_words_are_escaped():
    evil = "<script>"
    svg = line_chart(
        [Series(evil, [(1, 1), (2, 2)])], Axis(evil, lambda _: evil), AXES[1], look=Look(marks=((1, evil),))
    )
    assert evil not in svg
    assert evil in "".join(ElementTree.fromstring(svg).itertext())


def test_a_band_is_drawn_behind_the_curves_and_inside_the_chart():
    band = Band([(1.0, -7.0, 2.0), (2.0, 0.0, 11.0)])
    svg = ElementTree.fromstring(line_chart([Series("loss", [(1, 1.0), (2, 1.5)])], *AXES, bands=[band]))
    kinds = [
        one.get("class").split()[0] for one in svg.iter("path") if one.get("class").split()[0] in ("band", "curve")
    ]
    assert kinds == ["band", "curve"]
    (area,) = [one.get("d") for one in svg.iter("path") if one.get("class").startswith("band")]
    heights = [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", area)]
    assert len(heights) == 4 and min(heights) == heights[1] and max(heights) == heights[3]
    assert 12 < min(heights) < max(heights) < 260


def test_an_axis_of_whole_numbers_has_no_others_and_begins_where_it_is_told():
    epochs = Axis("epochs", "{:g}".format, whole=True, start=1.0)
    svg = ElementTree.fromstring(line_chart([Series("", [(1, 1.0), (2, 2.0), (3, 1.0)])], epochs, AXES[1]))
    ticks = [one.text for one in svg.iter("text") if one.get("text-anchor") == "middle" and one.get("class") is None]
    assert ticks == ["1", "2", "3"]
    assert places(svg)[0][0] == 58.0  # the left edge
    assert places(ElementTree.fromstring(line_chart([Series("", [(1, 1.0)])], epochs, AXES[1])))[0][0] > 58.0


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [0.25, 4.0, 1.0], list(range(999))])
def test_a_sparkline_is_small_and_within_its_edges(values):
    svg = ElementTree.fromstring(sparkline(values, top=max(values)))
    found = places(svg)
    assert len(found) == min(len(values), 200)
    width, height = float(svg.get("width")), float(svg.get("height"))
    assert all(0 < x < width and 0 < y < height for x, y in found)
    assert [y for _, y in found] == sorted((y for _, y in found), reverse=True) or values == [0.25, 4.0, 1.0]
