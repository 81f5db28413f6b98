"""Charts: well-formed whatever the numbers, nothing of the extremes lost, user text only as text."""

from math import inf, nan
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genzoo.reports.charts import MAX_POINTS, Bar, Series, bars, lines, nice, number, points, thinned

FINITE = st.floats(-1e12, 1e12, allow_nan=False).map(lambda v: 0.0 if abs(v) < 1e-12 else v)
NASTY = "<script>alert(\"1\")</script> & 'x' Ж\u202e"


def tags(svg, name):
    return [node for node in ElementTree.fromstring(str(svg)).iter() if node.tag == name]


@given(st.lists(st.tuples(st.integers(0, 10**6), FINITE), min_size=1, max_size=50))
def test_lines_are_well_formed_and_inside_the_axes(points):
    x, y = zip(*sorted(points), strict=True)
    svg = lines([Series(NASTY, x, y)], alt=NASTY, x_label=NASTY)
    (line,) = tags(svg, "polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert len(places) == len(points)
    assert all(-0.1 <= across <= 360.1 and -0.1 <= up <= 190.1 for across, up in places)
    assert ElementTree.fromstring(str(svg)).get("aria-label") == NASTY
    assert all(node.text.startswith(NASTY) for node in tags(svg, "title"))
    assert not tags(svg, "script")


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=20))
def test_points_lie_as_their_numbers_do(pairs):
    svg = points([(NASTY, *pair, k) for k, pair in enumerate(pairs)], alt=NASTY, x_label=NASTY)
    places = [(float(node.get("cx")), float(node.get("cy"))) for node in tags(svg, "circle")]
    assert len(places) == len(pairs) and not tags(svg, "script")
    assert all(-0.1 <= across <= 360.1 and -0.1 <= up <= 190.1 for across, up in places)
    for (x, y), (across, up) in zip(pairs, places, strict=True):
        for (other_x, other_y), (other_across, other_up) in zip(pairs, places, strict=True):
            assert x <= other_x or across >= other_across
            assert y <= other_y or up <= other_up


@given(st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=30))
def test_a_higher_value_is_never_lower_on_a_log_axis(values):
    svg = lines([Series("a", range(len(values)), values)], alt="", x_label="", log=True)
    ups = [float(pair.split(",")[1]) for pair in tags(svg, "polyline")[0].get("points").split()]
    by_value = [up for _, up in sorted(zip(values, ups, strict=True), key=lambda pair: (pair[0], -pair[1]))]
    assert by_value == sorted(by_value, reverse=True)


@given(st.lists(FINITE, min_size=1, max_size=9), st.integers(0, 5000))
def test_thinned_keeps_the_extremes_and_the_order(shape, num):
    values = [shape[(k * k) % len(shape)] + k % 7 for k in range(num)] + shape
    x, y = thinned(range(len(values)), values)
    assert len(x) <= MAX_POINTS + 1 and x == sorted(x)
    assert (min(y), max(y)) == (min(values), max(values))
    assert all(values[k] == value for k, value in zip(x, y, strict=True))


def test_thinned_leaves_out_what_is_not_finite():
    assert thinned([1, 2, 3, 4], [nan, 1.0, inf, 2.0]) == ([2, 4], [1.0, 2.0])


@given(FINITE, st.floats(1e-9, 1e12))
@example(2490746.67299004, 1e-9)
def test_ticks_cover_the_range_in_round_steps(low, span):
    ticks = nice(low, low + span) if low + span > low else [low, low]
    assert len(ticks) <= 12
    assert ticks[0] <= low + 1e-6 * span and ticks[-1] >= low + span * (1 - 1e-6)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_bars_are_as_high_as_their_values(values):
    svg = bars([Bar(NASTY, [value]) for value in values], alt="", x_label="", x_range=(0, 1), top=100)
    heights = [float(rect.get("height")) for rect in tags(svg, "rect")]
    full = 190 - 10 - 34
    assert heights == pytest.approx([value / 100 * full for value in values], abs=0.02)
    assert all(node.text == NASTY for node in tags(svg, "title"))


@pytest.mark.parametrize(
    "value, text",
    [
        (1157859, "1,157,859"),
        (0.00260804, "0.00261"),
        (66.5141, "66.5"),
        (-3.0, "-3"),
        (12345.6, "12,346"),
        (1e-6, "1e-06"),
    ],
)
def test_number(value, text):
    assert number(value) == text
