"""The portfolio of the tour: stuck without noise, across with it; the code on the page."""

import html as entities
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hotloops._report import tour_portfolio


@pytest.fixture(scope="module")
def found():
    return tour_portfolio.run(True, num_threads=1, backend=None)


def test_noise_finds_the_better_well(found):
    assert found.plain.value == pytest.approx(2.930630, abs=1e-6)
    assert found.noisy.value == pytest.approx(1.995946, abs=1e-6)
    assert found.plain.kkt_residual < 1e-10
    assert found.noisy.kkt_residual < 1e-10
    assert found.convex.kkt_residual < 1e-10
    assert found.convex.value == pytest.approx(-0.033379924961 / 100, abs=1e-12)
    assert found.values.shape == (100, 64)
    np.testing.assert_allclose(found.plain_values[-1], found.plain.value, rtol=1e-6)


def test_table_compares_both(found):
    cells = tour_portfolio.table(found)
    assert all(len(row) == 3 for row in cells)
    by_name = {row[0]: row[1:] for row in cells}
    assert by_name["objective"] == ["2.93063", "1.99595"]
    assert by_name["weight of AMD"] == ["0.7126", "0.0090"]
    assert by_name["chains that saw the better well"][0] == "0 %"
    assert float(by_name["chains that saw the better well"][1].split()[0]) > 90


def test_section_is_self_contained_and_its_code_gives_the_numbers(found):
    heading, html = tour_portfolio.section(found)
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == 2
    for svg in svgs:
        ElementTree.fromstring(svg)
    assert not re.search(r"<script|<link|<img|src=|url\(|@import", html)
    (code,) = re.findall(r"<pre>(.*?)</pre>", html, flags=re.DOTALL)
    names = {}
    exec(entities.unescape(code), names)
    np.testing.assert_array_equal(names["noisy"].x, found.noisy.x)
    np.testing.assert_array_equal(names["plain"].x, found.plain.x)
    assert heading == "A portfolio with two wells"


def test_way_of_a_chain_ends_across(found):
    trace = np.asarray(found.noisy.trace)
    way = tour_portfolio._crossing(trace)
    assert way[-1, 0] < 0.1
    assert (way[:-1, 0] >= 0.1).all()
