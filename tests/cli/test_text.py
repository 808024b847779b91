"""Numbers and tables for the terminal."""

import io

import pytest

from hotloops._report import text

ROWS = [["", "left", "right"], ["a", "1.5 ± 0.1", "2"], ["long name", "3", "4.25"]]


def test_columns_are_aligned():
    lines = text.aligned(ROWS, rule_after=(0,)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "─" * len(lines[0])
    assert [line[-4:] for line in (lines[2], lines[3])] == ["   2", "4.25"]
    assert lines[3].startswith("long name")
    assert lines[2].index("1.5") == len("long name") + 3


def test_a_ragged_table_is_refused():
    with pytest.raises(ValueError, match="zip"):
        text.aligned([["a", "b"], ["c", "d", "e"]])


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_table_fits_the_encoding_of_the_terminal(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    text.show_table(ROWS, rule_after=(0,), stream=stream)
    stream.flush()
    lines = raw.getvalue().decode(encoding).splitlines()
    assert len({len(line) for line in lines}) == 1
    mark = "±" if encoding == "utf-8" else "+/-"
    assert f"1.5 {mark} 0.1" in lines[2]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.4123, "3.41 s"), (0.01234, "12.3 ms"), (2.5e-6, "2.50 µs"), (5e-12, "0.00500 ns")],
)
def test_duration(seconds, words):
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("speed", "words"),
    [
        (1.2345e9, "1.23 Gupdates/s"),
        (12_345.0, "12.3 kupdates/s"),
        (999.0, "999 updates/s"),
        (0.5, "0.500 updates/s"),
    ],
)
def test_rate(speed, words):
    assert text.rate(speed, "updates") == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (1.0, "1.00"), (0.012345, "0.0123"), (98765.0, "98,765"), (-2.0, "-2.00")],
)
def test_significant(value, words):
    assert text.significant(value) == words
