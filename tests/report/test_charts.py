"""Charts as parts of the page."""

import re

import numpy as np
import pytest

from pose.report.charts import INK, MAX_HOVER, MAX_POINTS, SERIES, Line, line_chart, thinned, with_smoothed


def labels(svg):
    return re.findall(r">([^<>]*)</text>", svg)


def test_a_chart_takes_its_colours_from_the_page_and_keeps_its_ids_apart():
    x = np.arange(5.0)
    lines = [Line("a<b", x, x, SERIES[0]), Line("$c$", x, 2 * x, INK, bold=True)]
    one, two = (line_chart('a "title"', lines, task, "step").svg for task in ("one", "two"))
    assert not set(re.findall(r'id="([^"]+)"', one)) & set(re.findall(r'id="([^"]+)"', two))
    assert "var(--series-0)" in one
    assert "currentColor" in one
    assert not re.search("#0[0-9]0[0-9]0[0-9]", one)
    assert {"a&lt;b", "$c$"} <= set(labels(one))
    assert 'aria-label="a &#34;title&#34;, one"' in one


@pytest.mark.parametrize("value", [0.0, 1e-12, 1e12, -3.0])
def test_flat_lines_of_any_height_can_be_drawn(value):
    line = Line("a", np.arange(3.0), np.full(3, value))
    assert "<path" in line_chart("t", [line], "n", "x", log=value > 0).svg


def test_numbers_beside_a_logarithmic_axis_are_plain_and_name_each_power_once():
    few, many = (
        labels(line_chart("t", [Line("a", np.arange(30.0), y)], "n", "x", log=True).svg)
        for y in (np.geomspace(0.02, 1, 30), np.geomspace(1e-6, 1, 30))
    )
    assert {"0.05", "0.1", "0.2"} <= set(few)
    assert "0.01" in many
    assert not {"0.02", "0.05"} & set(many)


def test_each_place_of_a_chart_shows_the_values_of_its_lines():
    x = np.arange(0.0, 5000, 10)
    lines = [Line("a<b", x, x / 1000), Line("late", x[400:], x[400:]), Line("behind", x, x, faint=True)]
    values = re.findall(r"<title>([^<]*)</title>", line_chart("t", lines, "n", "step").svg)
    assert len(values) == MAX_HOVER
    assert values[0] == "step 0\na&lt;b 0"
    assert values[-1] == "step 4,990\na&lt;b 4.99\nlate 4990"


def test_a_chart_may_begin_beyond_nought_and_mark_a_step():
    x = np.arange(3000.0, 5000, 100)
    svg = line_chart("t", [Line("a", x, x)], "n", "x", x_start=3000, mark=4000).svg
    assert "3,000" in labels(svg)
    assert "stroke-dasharray" in svg


def test_smoothing_keeps_a_level_and_calms_noise():
    x = np.arange(500.0)
    faint, smooth = with_smoothed(Line("a", x, np.full(500, 3.0)))
    assert faint.faint
    np.testing.assert_allclose(smooth.y, 3)
    noise = np.random.default_rng(0).normal(0, 1, 500)
    assert with_smoothed(Line("a", x, noise))[1].y.std() < 0.4
    assert len(with_smoothed(Line("a", x[:9], noise[:9]))) == 1


def test_long_lines_are_thinned_to_means():
    x, y = thinned(np.arange(1.0, 1001), np.tile([0.0, 1.0], 500))
    assert len(x) == len(y) == MAX_POINTS
    assert x[-1] == 1000
    assert y.mean() == pytest.approx(0.5, abs=0.02)
