"""Pictures: well-formed, complete, and every mark inside the frame and at its value."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from hotloops._report.axes import Axis
from hotloops._report.svg import Chart

SPACE = "{http://www.w3.org/2000/svg}"


def drawn(chart):
    return ElementTree.fromstring(chart.svg())


def texts(root):
    return [element.text for element in root.iter(f"{SPACE}text")]


def circles(root):
    return [(float(e.get("cx")), float(e.get("cy"))) for e in root.iter(f"{SPACE}circle")]


def test_a_log_chart_puts_equal_ratios_at_equal_distances():
    chart = Chart("t", Axis("x", log=True), Axis("y", log=True))
    chart.points([0.01, 0.1, 1.0], [1.0, 10.0, 100.0])
    (x0, y0), (x1, y1), (x2, y2) = circles(drawn(chart))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y1 > y2


def test_ticks_stand_at_their_values():
    chart = Chart("t", Axis("x"), Axis("y"))
    chart.points([0.0, 2.0, 4.0], [0.0, 1.0, 2.0])
    root = drawn(chart)
    x_of_two = circles(root)[1][0]
    labels = {
        e.text: float(e.get("x"))
        for e in root.iter(f"{SPACE}text")
        if e.get("text-anchor") == "middle"
    }
    assert labels["2"] == pytest.approx(x_of_two, abs=0.2)


def test_marks_stay_inside_the_picture():
    chart = Chart("t", Axis("x", log=True), Axis("y", log=True), width=400, height=300)
    chart.points([1e-9, 1e9], [1e-3, 1e3], error=[1.0, 0.0], open_points=[False, True])
    for x, y in circles(drawn(chart)):
        assert 0 < x < 400
        assert 0 < y < 300


def test_unusable_values_are_left_out():
    chart = Chart("t", Axis("x"), Axis("y", log=True))
    chart.points([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, math.nan, 10.0])
    chart.line([1.0, 2.0], [math.nan, -1.0])
    assert len(circles(drawn(chart))) == 2


def test_text_is_escaped_and_notes_are_there():
    chart = Chart('a < b & "c"', Axis("<x>"), Axis("y"))
    chart.points([1.0], [1.0], "n & m", notes=["<note>"])
    root = drawn(chart)
    assert root.get("aria-label") == 'a < b & "c"'
    assert {'a < b & "c"', "<x>", "n & m"} <= set(texts(root))
    assert [e.text for e in root.iter(f"{SPACE}title")] == ["<note>"]


def test_bars_start_at_zero_and_carry_their_labels():
    across = Axis("speed", include=[0.0, 5.0])
    chart = Chart("t", across, Axis("", names=["first", "second"]))
    chart.bars([2.0, 4.0], "ours", 0, at=[0.0, 1.0], labels=["two", "four"])
    root = drawn(chart)
    bars = [e for e in root.iter(f"{SPACE}rect") if e.get("rx") and float(e.get("width")) > 20]
    first, second = ((float(e.get("x")), float(e.get("width")), float(e.get("y"))) for e in bars)
    assert second[1] == pytest.approx(2.0 * first[1], abs=0.2)
    assert first[0] == second[0]
    assert first[2] < second[2], "categories are read from the top"
    assert {"two", "four", "first", "second"} <= set(texts(root))


def test_spans_reach_from_low_to_high_around_their_marker():
    chart = Chart("t", Axis("x", include=[0.0, 4.0]), Axis("", names=["a", "b"]))
    chart.spans([1.0, 0.0], [3.0, 4.0], [0.0, 1.0], "interval", 0, notes=["<a>", "b"])
    root = drawn(chart)
    markers = circles(root)[1:]  # the first is in the legend
    lines = [e for e in root.iter(f"{SPACE}line") if e.get("stroke-width") == "2"]
    ends = [(float(e.get("x1")), float(e.get("x2")), float(e.get("y1"))) for e in lines]
    for (left, right, height), (x, y) in zip(ends, markers, strict=True):
        assert (left + right) / 2 == pytest.approx(x, abs=0.2)
        assert height == y
    assert ends[1][1] - ends[1][0] == pytest.approx(2 * (ends[0][1] - ends[0][0]), abs=0.4)
    assert [e.text for e in root.iter(f"{SPACE}title")] == ["<a>", "b"]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[], [3.0], [5.0, 5.0], [1e-300, 1e300], [-1e-12, 1e-12]])
def test_any_data_can_be_drawn(values, log):
    chart = Chart("t", Axis("x", log=log), Axis("y", log=log))
    chart.points(values, values)
    chart.line(values, values, fill=True)
    svg = chart.svg()
    assert ElementTree.fromstring(svg).tag == f"{SPACE}svg"
    assert not re.search(r'="(nan|-?inf)', svg)


def test_colours_exist_for_light_and_dark():
    svg = Chart("t", Axis("x"), Axis("y")).svg()
    assert "prefers-color-scheme:dark" in svg
    assert svg.count("--c0:") == 2


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, ["0", "2", "4", "6", "8", "10"]),
        (-0.02, 0.02, ["−0.02", "−0.01", "0.00", "0.01", "0.02"]),
        (0.0, 2500.0, ["0", "500", "1,000", "1,500", "2,000", "2,500"]),
    ],
)
def test_linear_ticks_are_round_numbers(low, high, expected):
    axis = Axis("x")
    axis.stretch([low, high])
    assert [text for _, text in axis.ticks(about=5)] == expected


def test_log_ticks_are_powers_over_many_decades_and_finer_over_few():
    wide, narrow = Axis("x", log=True), Axis("x", log=True)
    wide.stretch([1e-6, 1e6])
    narrow.stretch([0.018, 0.11])
    assert [text for _, text in wide.ticks(about=4)] == ["0.0001", "1", "10,000"]
    assert wide.ticks(about=8)[0][1] == "10⁻⁶"
    assert [text for _, text in narrow.ticks()] == ["0.02", "0.05", "0.1"]
