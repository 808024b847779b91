"""Published and independently computed numbers: Philox, uniforms, normals and the counter map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotloops import random
from tests.random import reference

SEED = 0x0123456789ABCDEF

# kat_vectors of Random123 for philox4x32_10.
PHILOX = [
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]

# (step, chain, block, stream), words, normals; computed in 50 digits.
NORMALS = [
    (
        (0, 0, 0, 0),
        "b850222e c58cb04b 14a7a020 7a84fff9",
        [0.110069135129481, -0.803099397133493, -2.223492573237459, 0.300901046239445],
    ),
    (
        (1, 0, 0, 0),
        "adca1466 523e0d85 65401425 b299da3f",
        [-0.381040087416092, 0.793394731372063, -0.439893211622161, -1.289052895364894],
    ),
    (
        (0, 1, 0, 0),
        "fa9dff5e 6c10844b 6979c717 0590ff83",
        [-0.181970057678586, 0.096894854749017, 1.319279655447116, 0.181369791722031],
    ),
    (
        (0, 0, 1, 0),
        "d0e1fe69 fee38b5f e81334ee 6ad4edf0",
        [0.637578115248239, -0.017392238701953, -0.384528381468349, 0.219934977945431],
    ),
    (
        (12345678901, 77, 3, 2),
        "adefcf5a d9ab14bf 30e6ff16 cb71f245",
        [0.517965032359557, -0.710410846448543, 0.504421061649273, -1.748217435322848],
    ),
]


@pytest.fixture
def draw(backend: str, to_device: Any, to_host: Any) -> Callable[..., Any]:
    """Call a function on each backend in turn, with and for NumPy arrays."""

    def call(function: Any, *given: Any, **options: Any) -> Any:
        if function is random.philox:
            given = tuple(to_device(np.asarray(words, np.uint32)) for words in given)
        return to_host(function(*given, backend=backend, **options))

    return call


def hexadecimal(values: Any) -> str:
    return " ".join(f"{int(value):08x}" for value in values)


@pytest.mark.parametrize(("counter", "key", "expected"), PHILOX)
def test_philox(
    draw: Callable[..., Any], counter: list[int], key: list[int], expected: str
) -> None:
    assert hexadecimal(draw(random.philox, counter, key)) == expected


@pytest.mark.parametrize(("counter", "key", "expected"), PHILOX)
def test_reference_philox(counter: list[int], key: list[int], expected: str) -> None:
    assert hexadecimal(reference.philox(counter, key)) == expected


def test_philox_in_bulk(draw: Callable[..., Any], threads: int) -> None:
    generator = np.random.default_rng(5)
    counters = generator.integers(0, 2**32, (7, 3001, 4), dtype=np.uint32)
    keys = generator.integers(0, 2**32, (3001, 2), dtype=np.uint32)
    words = draw(random.philox, counters, keys, num_threads=threads)
    assert words.dtype == np.uint32
    assert words.shape == (7, 3001, 4)
    np.testing.assert_array_equal(words, reference.philox(counters, keys))


@pytest.mark.parametrize(("index", "words", "expected"), NORMALS)
def test_normals(
    draw: Callable[..., Any], index: tuple[int, int, int, int], words: str, expected: list[float]
) -> None:
    step, chain, block, stream = index
    assert hexadecimal(reference.words(SEED, step, chain, block, stream)) == words
    coordinates = range(4 * block, 4 * block + 4)
    drawn = draw(random.normals, SEED, [step], [chain], coordinates, stream)
    np.testing.assert_allclose(drawn.ravel(), expected, rtol=0, atol=1e-13)
    single = draw(random.normals, SEED, [step], [chain], coordinates, stream, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.ravel(), expected, rtol=2e-6, atol=2e-7)


# Every edge of the counter map: both ends of step, chain and coordinate, and the step's 33rd bit.
STEPS = [0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**48 - 1]
CHAINS = [0, 1, 17, 2**31, 2**32 - 1]
COORDINATES = [0, 1, 2, 3, 4, 5, 11, 2**32 - 1, 2**32, 2**34 - 1]
STREAMS = [0, 1, 5, 16, 2**16 - 1]


def reference_words(seed: int, stream: int) -> reference.Words:
    coordinates = np.array(COORDINATES)
    block = reference.words(
        seed,
        np.array(STEPS)[:, None, None],
        np.array(CHAINS)[None, :, None],
        coordinates[None, None, :] // 4,
        stream,
    )
    index = np.broadcast_to(coordinates % 4, block.shape[:3])[..., None]
    return np.take_along_axis(block, index, axis=3)[..., 0]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("seed", [0, 1, SEED, 2**64 - 1])
def test_uniforms_read_the_counter_map(draw: Callable[..., Any], seed: int, stream: int) -> None:
    words = reference_words(seed, stream).astype(np.float64)
    drawn = draw(random.uniforms, seed, STEPS, CHAINS, COORDINATES, stream)
    np.testing.assert_array_equal(drawn, (2 * words + 1) * 2.0**-33)
    single = draw(random.uniforms, seed, STEPS, CHAINS, COORDINATES, stream, dtype="float32")
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, (np.floor(words / 512) + 0.5) * 2.0**-23)


# Words that give the largest and the smallest radii and angles at and beside every quarter turn.
RADII = [0, 1, 255, 511, 512, 2**31, 2**32 - 513, 2**32 - 512, 2**32 - 2, 2**32 - 1]
QUARTERS = [q * 2**29 + shift for q in range(8) for shift in (-1, 0, 1)]


def extreme_blocks() -> reference.Words:
    first, second = np.meshgrid(RADII, [quarter % 2**32 for quarter in QUARTERS])
    pairs = np.stack([first.ravel(), second.ravel()], axis=1).astype(np.uint64)
    return np.concatenate([pairs, pairs[::-1]], axis=1)


def draw_blocks(draw: Any, law: Any, blocks: reference.Words, **options: Any) -> Any:
    """Draw the numbers of given words, at the counters that lead to them."""
    key = [SEED & 0xFFFFFFFF, SEED >> 32]
    counters = reference.counter_of(blocks, key)
    np.testing.assert_array_equal(reference.philox(counters, key), blocks)
    rows = []
    for low, high, chain, block in counters.astype(np.int64).tolist():
        step, stream = low | (high & 0xFFFF) << 32, high >> 16
        coordinates = range(4 * block, 4 * block + 4)
        rows.append(draw(law, SEED, [step], [chain], coordinates, stream, **options).ravel())
    return np.stack(rows)


def test_uniforms_never_reach_the_ends(draw: Callable[..., Any]) -> None:
    blocks = extreme_blocks()
    double = draw_blocks(draw, random.uniforms, blocks)
    assert double.min() == 2.0**-33
    assert double.max() == 1 - 2.0**-33
    single = draw_blocks(draw, random.uniforms, blocks, dtype="float32")
    assert single.min() == 2.0**-24
    assert single.max() == 1 - 2.0**-24


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs an extended precision")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_of_extreme_words(draw: Callable[..., Any], dtype: Any) -> None:
    """Within 4 units in the last place of the exact value of the words, also near zero."""
    blocks = extreme_blocks()
    exact = reference.box_muller(blocks)
    if dtype is np.float32:  # the radius reads (x >> 9) + 1/2, in units of 2^-23
        cut = blocks.copy()
        cut[:, ::2] = (blocks[:, ::2] >> np.uint64(9) << np.uint64(9)) + np.uint64(256)
        exact = reference.box_muller(cut, offset=0)
    drawn = draw_blocks(draw, random.normals, blocks, dtype=dtype)
    error = np.abs(drawn.astype(np.longdouble) - exact)
    assert (error <= 4 * np.spacing(np.abs(exact).astype(dtype))).all()


def test_largest_normals(draw: Callable[..., Any]) -> None:
    largest = {np.float64: 6.7637, np.float32: 5.768}
    for dtype, expected in largest.items():
        drawn = draw_blocks(draw, random.normals, extreme_blocks(), dtype=dtype)
        assert np.abs(drawn).max() == pytest.approx(
            expected, abs=1e-4 if dtype == np.float64 else 1e-3
        )
        assert np.isfinite(drawn).all()


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs an extended precision")
def test_accuracy_of_normals(draw: Callable[..., Any]) -> None:
    """A million normals within 4 units in the last place of the exact value of their words."""
    steps, chains = np.arange(500)[:, None], np.arange(500)[None, :]
    exact = reference.box_muller(reference.words(SEED, steps, chains, 0, 16))
    drawn = draw(random.normals, SEED, 500, 500, 4, 16)
    error = np.abs(drawn.astype(np.longdouble) - exact)
    assert (error <= 4 * np.spacing(np.abs(drawn))).all()


def test_every_selection_gives_the_same_numbers(draw: Callable[..., Any]) -> None:
    whole = draw(random.normals, 3, 6, 5, 23)
    assert whole.shape == (6, 5, 23)
    steps, chains, coordinates = [4, 0, 4], np.array([3, 1], np.uint8), [22, 5, 6, 7, 0, 0]
    chosen = draw(random.normals, 3, steps, chains, coordinates)
    expected = whole[np.ix_(steps, chains, coordinates)]
    np.testing.assert_array_equal(chosen, expected)
    for first in range(9):
        for last in range(first + 1, 24):
            part = draw(random.normals, 3, range(2, 4), range(1, 5), range(first, last))
            np.testing.assert_array_equal(part, whole[2:4, 1:5, first:last])
    backwards = draw(random.normals, 3, range(5, -1, -1), 5, range(22, -1, -1))
    np.testing.assert_array_equal(backwards, whole[::-1, :, ::-1])


def test_out(backend: str, to_device: Any, to_host: Any) -> None:
    for law in (random.normals, random.uniforms):
        for dtype in (np.float32, np.float64):
            out = to_device(np.zeros((3, 4, 5), dtype))
            assert law(1, 3, 4, 5, dtype=dtype, out=out, backend=backend) is out
            np.testing.assert_array_equal(
                to_host(out), to_host(law(1, 3, 4, 5, dtype=dtype, backend=backend))
            )
    words = to_device(np.zeros((2, 4), np.uint32))
    counters = to_device(np.arange(8, dtype=np.uint32).reshape(2, 4))
    key = to_device(np.array([1, 2], np.uint32))
    assert random.philox(counters, key, out=words, backend=backend) is words
    np.testing.assert_array_equal(
        to_host(words), reference.philox(np.arange(8).reshape(2, 4), [1, 2])
    )
