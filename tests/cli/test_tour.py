"""The tour: what it computes, prints and writes."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from hotloops import cli, sgd
from hotloops._report import tour, tour_page
from hotloops._report.tour_intervals import IntervalPlan, Intervals, picture


def tiny(plan):
    """Return an experiment of a second or less that is long enough for its ridge."""
    intervals = IntervalPlan(0.5, (0.05, 0.1), 4000, burn_in=400, num_chains=12)
    return replace(plan, l2=0.5, step_sizes=(0.05, 0.1), num_steps=300, num_chains=24,
                   ladder=(0.1, 0.2), ladder_steps=150, intervals=intervals)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes():
    plans = [tiny(plan) for plan in tour.experiments(quick=True)]
    return [tour.run_experiment(plan, num_threads=1, backend=None) for plan in plans]


def test_outcome_is_what_sgd_computes(outcomes):
    outcome = outcomes[0]
    X, y, names = outcome.experiment.load()
    problem = sgd.Logistic(X, y, l2=0.5)
    run = sgd.run(problem, [0.05, 0.1], num_steps=300, num_chains=24, seed=2025)
    np.testing.assert_array_equal(outcome.averages, run.mean)
    np.testing.assert_array_equal(outcome.extrapolated, run.extrapolated)
    np.testing.assert_array_equal(outcome.exact, problem.minimizer())
    assert outcome.shape == (569, 31)
    assert names[-1] == "intercept"
    assert (X[:, -1] == 1.0).all()
    assert outcome.updates_per_second == pytest.approx(24 * 600 * 2 * 31 / outcome.seconds)


def test_rungs_measure_a_bias_that_is_known():
    rng = np.random.default_rng(0)
    steps, exact = (0.1, 0.2, 0.4), np.array([1.0, -2.0, 0.5])
    direction = np.array([2.0, 0.0, -1.0])
    noise = 1e-4 * rng.standard_normal((200, 1, 3))
    averages = exact + noise + np.array(steps)[None, :, None] * direction
    found = tour.rungs(averages, steps, exact)
    for rung, step in zip(found, steps, strict=True):
        assert rung.step_size == step
        assert rung.averaging.value == pytest.approx(step * np.sqrt(5.0), rel=1e-3)
    assert found[0].extrapolation.bound, "a linear bias cancels"
    assert found[0].extrapolation.value < 1e-4
    assert found[2].extrapolation is None


@pytest.mark.parametrize("quick", [False, True])
def test_burn_in_is_long_and_steps_are_stable(quick):
    """With a shorter burn-in or larger steps `run` would warn, and the numbers would mislead."""
    for plan in tour.experiments(quick):
        X, y, _ = plan.load()
        mu, smoothness = sgd.Logistic(X, y, l2=plan.l2).curvature_bounds()
        intervals = plan.intervals
        assert intervals.step_sizes[0] * intervals.l2 * intervals.burn_in >= 5.0
        assert intervals.step_sizes[0] * intervals.l2 * intervals.num_steps >= 20.0 * 5
        for steps, count in ((plan.step_sizes, plan.num_steps), (plan.ladder, plan.ladder_steps)):
            assert min(steps) * mu * count >= 5.0
            assert max(steps) * smoothness < 1.0
        assert plan.step_sizes[1] == plan.ladder[0] == 2 * plan.step_sizes[0]
        assert all(b == 2 * a for a, b in zip(plan.ladder, plan.ladder[1:], strict=False))


def test_table_has_the_promised_rows(outcomes):
    cells = tour.table(outcomes)
    assert cells[0] == ["", "breast cancer", "a9a"]
    names = [row[0] for row in cells]
    for name in (
        "norm of the exact minimiser",
        "norm of the estimate",
        "bias of averaging",
        "bias after extrapolation",
        "95 % intervals that cover",
        "updates per second",
    ):
        assert name in names
    by_name = {row[0]: row[1:] for row in cells}
    assert all("±" in cell or "<" in cell for cell in by_name["bias of averaging"])
    assert by_name["norm of the exact minimiser"][0] == f"{np.linalg.norm(outcomes[0].exact):.4f}"
    assert "chains diverged" not in names
    diverged = [replace(outcomes[0], num_diverged=3), outcomes[1]]
    assert tour.table(diverged)[-1] == ["chains diverged", "3", "0"]


def test_page_is_self_contained_and_its_pictures_are_well_formed(outcomes):
    html = tour_page.build(outcomes, {"hotloops": "0.1.0", "environment": {}}, "hotloops tour")
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == 7
    for svg in svgs:
        ElementTree.fromstring(svg)
    assert not re.search(r"<script|<link|<img|src=|url\(|@import", html)
    assert set(re.findall(r'href="([^"]*)"', html)) == {
        "https://arxiv.org/abs/2410.05106",
        "https://doi.org/10.24432/C5DW2B",
        "https://doi.org/10.24432/C5XW20",
    }
    assert "nan" not in html.lower()


def test_code_on_the_page_gives_the_numbers_of_the_table(outcomes, capsys):
    outcome = outcomes[0]
    page = tour_page.build([outcome], {"hotloops": ""}, "")
    (code,) = re.findall(r"<pre>(.*?)</pre>", page, flags=re.DOTALL)
    names = {}
    exec(unescape(code).replace("progress=True", "progress=False"), names)
    np.testing.assert_array_equal(names["run"].mean, outcome.averages)
    np.testing.assert_array_equal(names["low"], outcome.intervals.low)
    np.testing.assert_array_equal(names["exact"], outcome.intervals.exact)


def test_intervals_are_those_of_the_run_and_cover(outcomes):
    for outcome in outcomes:
        low, high = outcome.intervals.low, outcome.intervals.high
        assert low.shape == (12, outcome.shape[1])
        assert (low <= high).all()  # equal where a rare feature was never drawn
        assert 0.85 < outcome.intervals.covered.mean() < 1.0


def test_share_of_intervals_has_its_error_between_chains():
    exact = np.zeros(2)
    low = np.array([[-1.0, -1.0], [-1.0, 0.5], [-1.0, -1.0], [-1.0, -1.0]])
    intervals = Intervals(IntervalPlan(0.1, (0.1, 0.2), 1, 1, 4), exact, low, low + 2.0)
    assert str(intervals) == "88 ± 12 %"  # 100, 50, 100, 100: deviation 25 between four
    chart = picture("t", ("first", "second"), intervals)
    assert chart.title == "t: 2 of 2 intervals of one run cover"


def test_picture_of_intervals_tells_hits_from_misses():
    exact = np.array([0.0, 1.0, 2.0])
    low = np.array([[-1.0, 1.5, 1.0], [-1.0, 0.0, 1.0]])
    intervals = Intervals(IntervalPlan(0.1, (0.1, 0.2), 1, 1, 2), exact, low, low + 2.0)
    chart = picture("t", ("a", "b", "c"), intervals)
    assert chart.title == "t: 2 of 3 intervals of one run cover"
    root = ElementTree.fromstring(chart.svg())
    notes = [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert notes == [
        "a: [-1.0000, 1.0000], exact 0.0000",
        "c: [1.0000, 3.0000], exact 2.0000",
        "b: [1.5000, 3.5000], exact 1.0000",
    ]


def test_command_prints_an_aligned_table_and_writes_the_page(
    outcomes, tmp_path, capsys, monkeypatch
):
    waiting = list(outcomes)
    monkeypatch.setattr(tour, "run_experiment", lambda plan, **_: waiting.pop(0))
    target = tmp_path / "deep" / "report"
    assert cli.main(["tour", "--quick", "--output", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("─"))
    width = len(lines[start])
    table = lines[start - 1 : lines.index("", start)]
    assert all(len(line) == width for line in table)
    assert width <= 100
    assert lines[-1].endswith("index.html")
    assert [path.name for path in target.iterdir()] == ["index.html"]
    assert "hotloops tour --quick" in (target / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_quick_tour_from_the_terminal_without_matplotlib(run_python, tmp_path):
    code = f"""
        import sys
        from hotloops.cli import main
        status = main(["tour", "--quick", "--output", {str(tmp_path)!r}])
        assert "matplotlib" not in sys.modules
        raise SystemExit(status)
    """
    printed = run_python(code, blocked=["matplotlib", "sklearn"])
    numbers = re.search(r"bias of averaging +(\S+) ± \S+ +(\S+) ±", printed)
    extrapolated = re.search(r"bias after extrapolation +(\S+) ± \S+ +(\S+) ±", printed)
    for averaging, better in zip(numbers.groups(), extrapolated.groups(), strict=True):
        assert float(better) < 0.7 * float(averaging)
    assert (tmp_path / "index.html").stat().st_size > 20_000


def test_unwritable_folder_is_one_line(outcomes, tmp_path, capsys, monkeypatch):
    waiting = list(outcomes)
    monkeypatch.setattr(tour, "run_experiment", lambda plan, **_: waiting.pop(0))
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["tour", "--output", str(tmp_path / "file")]) == 2
    assert "hotloops tour:" in capsys.readouterr().err
