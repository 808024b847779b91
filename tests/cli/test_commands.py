"""The commands themselves: help, version, info, wrong arguments, Ctrl-C."""

import subprocess
import sys

import pytest

import hotloops
from hotloops import cli
from hotloops._report import tour


def run_module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "hotloops", *arguments], capture_output=True, text=True, check=False
    )


def test_version_and_help_of_the_module():
    assert run_module("--version").stdout.strip() == f"hotloops {hotloops.__version__}"
    helped = run_module("--help")
    assert helped.returncode == 0
    assert all(command in helped.stdout for command in ("tour", "info", "bench"))


def test_info_prints_the_runtime(capsys):
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert hotloops.__version__ in printed
    assert "threads" in printed


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["tour", "--backend", "fortran"], ["tour", "--num-threads", "two"]],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: hotloops" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (hotloops.BackendUnavailable("run: no driver"), 2, "hotloops tour: run: no driver"),
        (ValueError("run: `num_threads` must be at least 1, got 0"), 2, "`num_threads`"),
        (PermissionError(13, "Permission denied", "x/index.html"), 2, "x/index.html"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_failures_become_one_line_and_a_status(error, status, words, capsys, monkeypatch):
    def fail(quick):
        raise error

    monkeypatch.setattr(tour, "experiments", fail)
    assert cli.main(["tour"]) == status
    captured = capsys.readouterr().err
    assert words in captured
    assert "Traceback" not in captured
