import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier.report.charts import Axis, Look, Series, line_chart
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
    steps = {round((b - a) / span, 6) for a, b in pairwise(ticks)}
    assert len(steps) <= 1
    assert all(-1e-3 <= scale.place(tick) <= 100.001 for tick in ticks)


@pytest.mark.parametrize("values", [[], [0.0], [2.5, 2.5], [math.nan], [-3.0, 7.0, math.inf]])
def test_a_scale_has_room_whatever_the_values(values):
    scale = fit_scale(values, start=0.0, end=1.0)
    assert scale.low < scale.high
    assert all(0.0 < scale.place(value) < 1.0 for value in values if math.isfinite(value))


def test_less_loss_is_lower_on_paper_and_later_is_further_right():
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
