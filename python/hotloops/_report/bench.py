"""Runs the benchmarks and reports them as ratios to the best peer.

A benchmark is a pytest-benchmark test in a file ``bench_<family>.py`` or
``bench_<family>_<part>.py``. Our backends and the peers are rows of one group. A row says what it
is in ``benchmark.extra_info``:

=========================== ===========================================================
``library``                 name of the row, for instance ``"hotloops cpp"`` or ``"NumPy"``
``ours``                    true for our backends
``elements``, ``unit``      work of one call, for instance 10**9 ``"updates"``
``limit``                   what bounds it on this machine, for instance ``"arithmetic"``
``limit_per_second``        elements a second at that limit, measured in the same run
=========================== ===========================================================

Only ``library`` and ``ours`` are needed. What else is there goes into the JSON file as it is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotloops._report import page, text
from hotloops._report.axes import Axis
from hotloops._report.svg import Chart
from hotloops._runtime.info import runtime_info

_NEEDED = ("pytest", "pytest_benchmark")
_SETTINGS = "[pytest]\npython_files = bench_*.py\naddopts = --import-mode=importlib\n"
_QUICK = ("--benchmark-max-time=0.2", "--benchmark-min-rounds=2", "--benchmark-warmup=off")
_OURS, _PEER = 0, 4
_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "_bench", _PACKAGE.parent.parent / "bench")  # in a wheel; in the source tree


@dataclass(frozen=True)
class Row:
    """One benchmark: what ran, how long one call took (median), and what it says of itself."""

    group: str
    library: str
    ours: bool
    seconds: float
    extra: dict[str, Any]

    @property
    def throughput(self) -> float | None:
        """Elements a second."""
        elements = self.extra.get("elements")
        return float(elements) / self.seconds if elements else None

    @property
    def share(self) -> float | None:
        """Part of the machine's limit that was reached."""
        limit = self.extra.get("limit_per_second")
        return self.throughput / float(limit) if limit and self.throughput else None


def run(family: str | None, json_file: Path | None, html_file: Path | None, *, quick: bool) -> int:
    """Run the benchmarks of one family or of all, print and write what came out.

    Parameters
    ----------
    family : str or None
        Name in ``bench_<family>.py`` and ``bench_<family>_<part>.py``.
    json_file, html_file : pathlib.Path or None
        Files to write.
    quick : bool
        Fewer repetitions.

    Returns
    -------
    int
        0, or 1 if a benchmark failed; the others are reported all the same.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise ValueError(f"{names} cannot be imported; python -m pip install 'hotloops[bench]'")
    files = benchmark_files(family)
    status, report = _run_pytest(files, quick)
    found = rows(report)
    if not found:
        raise ValueError("no benchmark ran; see the messages of pytest above")
    for group, members in by_group(found):
        text.show(f"\n{group}")
        text.show_table(table(members), rule_after=(0,))
    text.show("\nRatios are from this run on this machine; times elsewhere are not comparable.")
    if json_file is not None:
        page.write_text(json_file, json.dumps(as_json(found), indent=2) + "\n")
        text.show(f"JSON: {json_file}")
    if html_file is not None:
        page.write_text(html_file, as_html(found))
        text.show(f"HTML: {html_file}")
    return status


def benchmark_files(family: str | None) -> list[Path]:
    """Return the benchmark files, of one family or all."""
    folder = next((place for place in _PLACES if any(place.glob("bench_*.py"))), None)
    if folder is None:
        raise ValueError(f"no benchmarks in {_PLACES[0]}")
    families: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("bench_*.py"), key=lambda file: file.stem):
        families.setdefault(file.stem.split("_")[1], []).append(file)
    if family is None:
        return [file for files in families.values() for file in files]
    if family not in families:
        raise ValueError(f"family must be one of {', '.join(families)}, got {family!r}")
    return families[family]


def _run_pytest(files: Sequence[Path], quick: bool) -> tuple[int, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        settings, report = Path(folder, "pytest.ini"), Path(folder, "report.json")
        settings.write_text(_SETTINGS, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-c", str(settings), f"--rootdir={files[0].parent}"),
            *("--benchmark-only", "--benchmark-quiet", f"--benchmark-json={report}"),
            *(_QUICK if quick else ()),
            *(str(file) for file in files),
        ]
        # Not with the settings of a pytest that may run this: rows have the machine to themselves.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        status = subprocess.run(command, env=environment, check=False).returncode
        if not report.exists() or not report.stat().st_size:
            return 1, {}
        loaded: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return int(status != 0), loaded


def rows(report: dict[str, Any]) -> list[Row]:
    """Return the rows of a report of pytest-benchmark."""
    found = []
    for entry in report.get("benchmarks", []):
        extra = dict(entry["extra_info"])
        library = str(extra.pop("library", entry["name"]))
        ours = bool(extra.pop("ours", library.startswith("hotloops")))
        group = str(entry["group"] or entry["name"])
        found.append(Row(group, library, ours, float(entry["stats"]["median"]), extra))
    return found


def by_group(found: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Return groups in the order in which they ran, the fastest row of each first."""
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(row.group, []).append(row)
    return [(name, sorted(members, key=_slowness)) for name, members in groups.items()]


def ratio_to_best_peer(row: Row, group: Sequence[Row]) -> float | None:
    """Return how many times faster than the best peer a row is, for the same work."""
    peers = [_slowness(other) for other in group if not other.ours]
    return min(peers) / _slowness(row) if peers else None


def _slowness(row: Row) -> float:
    """Return seconds for one element, or for one call where rows don't say what they do."""
    return 1.0 / row.throughput if row.throughput else row.seconds


def table(group: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table of one group."""
    cells = [["", "time of a call", "throughput", "× best peer", "share of the limit"]]
    for row in group:
        ratio, share, speed = ratio_to_best_peer(row, group), row.share, row.throughput
        cells.append(
            [
                row.library,
                text.duration(row.seconds),
                text.rate(speed, str(row.extra.get("unit", "elements"))) if speed else "",
                f"{text.significant(ratio)} ×" if ratio is not None else "",
                f"{share:.0%} of {row.extra.get('limit', 'the limit')}" if share else "",
            ]
        )
    used = [number for number in range(5) if any(line[number] for line in cells[1:])]
    return [[line[number] for number in used] for line in cells]


def as_json(found: Sequence[Row]) -> dict[str, Any]:
    """Return everything as one object for a JSON file."""
    return {
        "runtime": {name: _plain(value) for name, value in runtime_info().items()},
        "rows": [
            {
                "group": row.group,
                "library": row.library,
                "ours": row.ours,
                "seconds": row.seconds,
                "throughput": row.throughput,
                "ratio_to_best_peer": ratio_to_best_peer(row, members),
                "share_of_limit": row.share,
                "extra_info": row.extra,
            }
            for _, members in by_group(found)
            for row in members
        ],
    }


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def as_html(found: Sequence[Row]) -> str:
    """Return a page with a picture and a table for each group."""
    sections = [
        (
            group,
            page.figures([(picture(group, members).svg(), _CAPTION)]) + page.table(table(members)),
        )
        for group, members in by_group(found)
    ]
    runtime = runtime_info()
    sections.append(("Where it ran", page.runtime_table(runtime)))
    return page.document("hotloops benchmarks", _LEAD, sections, f"hotloops {runtime['hotloops']}")


_LEAD = (
    "Our backends and their peers on the same input, in one process; every answer was checked "
    "before it was timed."
)
_CAPTION = "Longer is faster. Coloured: hotloops. Grey: peers."


def picture(group: str, members: Sequence[Row]) -> Chart:
    """Return bars of throughput, or of calls a second where rows don't say what they do."""
    counted = all(row.throughput for row in members)
    unit = str(members[0].extra.get("unit", "elements")) if counted else "calls"
    speeds = [1.0 / _slowness(row) for row in members]
    scale, prefix = text.prefix(max(speeds))
    across = Axis(f"{prefix}{unit} per second", include=[0.0, 1.2 * max(speeds) / scale])
    names = [row.library for row in members]
    chart = Chart(group, across, Axis("", names=names), height=120.0 + 28.0 * len(members))
    for colour, name, ours in ((_OURS, "hotloops", True), (_PEER, "peers", False)):
        chosen = [place for place, row in enumerate(members) if row.ours is ours]
        chart.bars(
            [speeds[place] / scale for place in chosen],
            name,
            colour,
            at=[float(place) for place in chosen],
            labels=[text.rate(speeds[place], unit) for place in chosen],
        )
    return chart
