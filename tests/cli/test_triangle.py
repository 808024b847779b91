"""Pictures on the triangle: where things lie, level lines, valid SVG."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hotloops._report.triangle import triangle

SVG = "{http://www.w3.org/2000/svg}"


def markers(picture):
    root = ElementTree.fromstring(picture.svg())
    return [(float(e.get("cx")), float(e.get("cy"))) for e in root.iter(f"{SVG}circle")]


def test_corners_and_the_middle_are_where_they_should_be():
    picture = triangle("t", ("left", "right", "top"))
    picture.cloud(np.concatenate([np.eye(3), np.full((1, 3), 1 / 3)]))
    left, right, top, middle = markers(picture)
    assert left[1] == right[1] > top[1]
    assert left[0] < top[0] < right[0]
    sides = [np.hypot(a[0] - b[0], a[1] - b[1]) for a, b in ((left, right), (left, top))]
    assert sides[0] == pytest.approx(sides[1], rel=1e-3)
    np.testing.assert_allclose(middle, np.mean([left, right, top], axis=0), atol=0.1)
    assert all(0 < x < 560 and 0 < y < 480 for x, y in (left, right, top))
    text = picture.svg()
    assert all(f">{name}<" in text for name in ("left", "right", "top"))


def test_level_lines_of_a_weight_are_straight():
    picture = triangle("t", ("a", "b", "c"))
    picture.contours(lambda x: x[:, 2], [0.25])
    (path,) = re.findall(r'<path d="([^"]+)"', picture.svg())
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    picture.cloud(np.array([[0.75, 0.0, 0.25]]))
    assert max(heights) - min(heights) < 0.2
    assert markers(picture)[0][1] == pytest.approx(heights[0], abs=0.2)


def test_levels_that_are_not_met_draw_nothing():
    picture = triangle("t", ("a", "b", "c"))
    picture.contours(lambda x: x[:, 0], [2.0])
    assert "<path" not in picture.svg()


def test_names_and_notes_are_escaped():
    picture = triangle("a < b", ("<", "&", ">"))
    picture.path(np.eye(3), "way")
    picture.cloud(np.eye(3)[:1], notes=["1 < 2"])
    ElementTree.fromstring(picture.svg())
