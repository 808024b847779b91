"""The report of benchmarks, from a report of pytest-benchmark to tables, JSON and HTML."""

import json

import pytest

from hotloops import cli
from hotloops._report import bench

pytest.importorskip("pytest_benchmark")

BENCH = """
import time
import pytest

ROWS = {"hotloops cpp": 0.001, "NumPy": 0.004, "slow": 0.012}

@pytest.mark.benchmark(group="sleeping")
@pytest.mark.parametrize("library", ROWS)
def test_sleep(benchmark, library):
    benchmark.extra_info.update(
        library=library, ours=library.startswith("hotloops"), elements=1000, unit="naps",
        limit="sleep", limit_per_second=2_000_000.0, threads=1,
    )
    benchmark(time.sleep, ROWS[library])
"""
FAILING = "\ndef test_wrong_answer(benchmark):\n    assert 1 == 2\n"


def entry(name, seconds, **extra):
    return {"name": name, "group": "g", "stats": {"median": seconds}, "extra_info": extra}


@pytest.fixture
def group():
    report = {
        "benchmarks": [
            entry("test_peer", 0.004, library="NumPy", elements=1000),
            entry("test_ours", 0.001, library="hotloops cpp", elements=2000, unit="updates",
                  limit="arithmetic", limit_per_second=4e6),
            entry("test_other", 0.002, library="JAX", elements=1000),
        ]
    }  # fmt: skip
    return bench.rows(report)


def test_ratio_is_of_work_done_per_second_to_the_best_peer(group):
    ((name, members),) = bench.by_group(group)
    assert name == "g"
    assert [row.library for row in members] == ["hotloops cpp", "JAX", "NumPy"]
    ratios = [bench.ratio_to_best_peer(row, members) for row in members]
    assert ratios == pytest.approx([4.0, 1.0, 0.5])
    assert members[0].share == pytest.approx(0.5)
    assert members[1].share is None


def test_table_names_units_and_leaves_out_what_nobody_has(group):
    cells = bench.table(group)
    assert cells[2] == ["hotloops cpp", "1.00 ms", "2.00 Mupdates/s", "4.00 ×", "50% of arithmetic"]
    bare = bench.rows({"benchmarks": [entry("hotloops a", 2.0)]})
    assert bench.table(bare) == [["", "time of a call"], ["hotloops a", "2.00 s"]]
    assert bench.ratio_to_best_peer(bare[0], bare) is None


def test_page_has_a_picture_and_a_table_for_each_group(group):
    html = bench.as_html(group)
    assert html.count("<svg") == 1
    assert "4.00 ×" in html
    assert "hotloops cpp" in html


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "bench"
    place.mkdir()
    (place / "bench_sleep.py").write_text(BENCH)
    monkeypatch.setattr(bench, "_PLACES", (tmp_path / "nothing", place))
    return place


def test_command_runs_reports_and_writes(folder, tmp_path, capfd):
    out = [f"--json={tmp_path}/r/bench.json", f"--html={tmp_path}/r/bench.html"]
    assert cli.main(["bench", "sleep", "--quick", *out]) == 0
    printed = capfd.readouterr().out
    assert "sleeping" in printed
    assert "× best peer" in printed
    written = json.loads((tmp_path / "r" / "bench.json").read_text())
    best = written["rows"][0]
    assert best["library"] == "hotloops cpp"
    assert best["ratio_to_best_peer"] > 1.0
    assert 0.0 < best["share_of_limit"] <= 1.0
    assert best["extra_info"]["threads"] == 1
    assert written["runtime"]["hotloops"]
    assert "<svg" in (tmp_path / "r" / "bench.html").read_text()


def test_a_failing_benchmark_is_told_by_the_exit_status(folder, capfd):
    (folder / "bench_wrong.py").write_text(BENCH + FAILING)
    assert cli.main(["bench", "wrong", "--quick"]) == 1
    assert "sleeping" in capfd.readouterr().out


def test_a_family_may_have_several_files(folder):
    (folder / "bench_sleep_more.py").write_text(BENCH)
    (folder / "bench_wake.py").write_text(BENCH)
    names = [file.name for file in bench.benchmark_files("sleep")]
    assert names == ["bench_sleep.py", "bench_sleep_more.py"]
    assert len(bench.benchmark_files(None)) == 3


def test_unknown_family_names_those_that_exist(folder, capfd):
    assert cli.main(["bench", "no_such"]) == 2
    assert "must be one of sleep, got 'no_such'" in capfd.readouterr().err


def test_nothing_that_runs_is_an_error(folder, capfd):
    (folder / "bench_sleep.py").write_text("def test_nothing():\n    pass\n")
    assert cli.main(["bench"]) == 2
    assert "no benchmark ran" in capfd.readouterr().err


def test_missing_plugin_says_how_to_get_it(folder, capfd, monkeypatch):
    monkeypatch.setattr(bench, "_NEEDED", ("pytest", "no_such_plugin"))
    assert cli.main(["bench"]) == 2
    assert "no_such_plugin cannot be imported; python -m pip install" in capfd.readouterr().err
