"""The tile executor against the whole-batch executor, against differences, and against itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hotloops._runtime.blas import core_with_blas
from tests.nn.native import ACTIVATIONS, SEED, Operand, Run, Tables, Writer

Array = npt.NDArray[Any]


class Tile:
    """One program run in tiles of 64 rows."""

    def __init__(self, run: Run, output: Operand) -> None:
        self.run, self.output = run, output

    def __call__(
        self,
        training: bool,
        gradient: Array | None = None,
        *,
        rows: slice = slice(None),
        threads: int = 1,
    ) -> tuple[Array, Array, list[Array]]:
        """Return the output and, with the gradient of it, those of parameters and inputs."""
        run = self.run
        dense = [np.ascontiguousarray(table[rows]) for table in run.tables.dense]
        out = np.full((len(dense[0]), self.output.width), np.nan, run.dtype)
        parameter_gradient = np.full_like(run.parameters, np.nan)
        inputs = [np.full_like(table, np.nan) for table in dense]
        getattr(core_with_blas(), f"nn_tile_{run.dtype}")(
            run.program,
            run.parameters,
            run.buffers,
            dense,
            [np.ascontiguousarray(table[rows]) for table in run.tables.indices],
            *self.output,
            training,
            SEED,
            5,
            out,
            gradient,
            None if gradient is None else parameter_gradient,
            None if gradient is None else inputs,
            threads,
        )
        return out, parameter_gradient, inputs


def everything(activation: str, norm: str, rows: int, dtype: str = "float64") -> tuple[Run, Tile]:
    """A program with every instruction that runs in tiles."""
    w = Writer()
    x, t = w.input(5), w.input(1)
    e = w.dense(w.time_embedding(t, 6, scale=3.0), 19, activation="silu")
    e = w.embedding(0, 4, 19, addend=e)
    h = w.slot(30)
    w.dense(x, 11, addend=e.part(0, 11), activation=activation, output=h.part(0, 11))
    w.dense(x, 19, addend=e, bias=False, output=h.part(11, 30))
    if norm == "layer":
        h = w.layer_norm(h, activation=activation)
    elif norm == "batch":
        h = w.batch_norm(h, activation=activation)
    h = w.dropout(h, 0.25, layer=1)
    g = w.dense(w.activation(h, activation), 30, addend=h)
    y = w.dense(g, 7)
    generator = np.random.default_rng(rows)
    tables = Tables(
        [
            generator.normal(size=(rows, 5)).astype(dtype),
            generator.uniform(size=(rows, 1)).astype(dtype),
        ],
        [],
        [generator.integers(-1, 4, rows).astype(np.int32)],
    )
    run = Run(w, tables, rows, [y], dtype)
    return run, Tile(run, y)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 3, 64, 150])
def test_evaluation(activation: str, norm: str, rows: int) -> None:
    run, tile = everything(activation, norm, rows)
    run.forward(training=False)
    assert tile(False)[0] == pytest.approx(run.value(tile.output), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [3, 64, 150])
def test_training_passes_are_those_of_the_whole_batch(
    activation: str, norm: str, rows: int
) -> None:
    run, tile = everything(activation, norm, rows)
    gradient = np.random.default_rng(0).normal(size=(rows, 7))
    run.forward()
    parameters = run.backward([gradient])
    out, found, inputs = tile(True, gradient)
    assert out == pytest.approx(run.value(tile.output), rel=1e-12, abs=1e-12)
    assert found == pytest.approx(parameters, rel=1e-10, abs=1e-10)
    for s, got in enumerate(inputs):
        assert got == pytest.approx(run.workspace.gradient(s), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_gradients_by_differences(norm: str) -> None:
    run, tile = everything("silu", norm, 5)
    gradient = np.random.default_rng(1).normal(size=(5, 7))
    _, found, inputs = tile(True, gradient)
    for array, slopes in ((run.parameters, found), *zip(run.tables.dense, inputs, strict=True)):
        flat = array.reshape(-1)
        for i in np.random.default_rng(2).permutation(flat.size)[:80]:
            kept, values = flat[i], []
            for step in (1e-5, -1e-5):
                flat[i] = kept + step
                values.append(float((tile(True)[0] * gradient).sum()))
            flat[i] = kept
            slope = (values[0] - values[1]) / 2e-5
            assert slope == pytest.approx(slopes.reshape(-1)[i], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_alone_is_that_row_of_the_batch(dtype: str) -> None:
    _, tile = everything("silu", "layer", 150, dtype)
    whole = tile(False)[0]
    for r in (0, 63, 64, 149):
        assert np.array_equal(tile(False, rows=slice(r, r + 1))[0], whole[r : r + 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_nothing(dtype: str, threads: int) -> None:
    _, tile = everything("gelu", "layer", 400, dtype)
    gradient = np.random.default_rng(3).normal(size=(400, 7)).astype(dtype)
    one, more = tile(True, gradient), tile(True, gradient, threads=threads)
    assert np.array_equal(one[0], more[0])
    assert np.array_equal(one[1], more[1])


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (2, 13), (47, 5), (64, 64), (129, 70)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_any_size(inputs: int, outputs: int, dtype: str) -> None:
    w = Writer()
    y = w.dense(w.input(inputs), outputs)
    generator = np.random.default_rng(4)
    x = generator.normal(size=(70, inputs)).astype(dtype)
    run = Run(w, Tables([x]), 70, [y], dtype)
    gradient = generator.normal(size=(70, outputs)).astype(dtype)
    out, parameters, (dx,) = Tile(run, y)(True, gradient)
    weight = run.parameters[: inputs * outputs].reshape(outputs, inputs)
    near = {"rel": 1e-4, "abs": 1e-4} if dtype == "float32" else {"rel": 1e-11, "abs": 1e-11}
    assert out == pytest.approx(x @ weight.T + run.parameters[inputs * outputs :], **near)
    assert dx == pytest.approx(gradient @ weight, **near)
    assert parameters[: inputs * outputs].reshape(outputs, inputs) == pytest.approx(
        gradient.T @ x, **near
    )
    assert parameters[inputs * outputs :] == pytest.approx(gradient.sum(axis=0), **near)


def test_what_does_not_run_in_tiles() -> None:
    _, tile = everything("silu", "batch", 3)
    with pytest.raises(ValueError, match="does not run in tiles"):
        tile(True)


LEVELS = """
import numpy as np
from tests.nn.test_tile import everything
for dtype in ("float32", "float64"):
    run, tile = everything("silu", "layer", 100, dtype)
    whole = tile(False)[0]
    assert np.array_equal(tile(False, rows=slice(41, 77))[0], whole[41:77])
    gradient = np.random.default_rng(0).normal(size=(100, 7)).astype(dtype)
    run.forward()
    near = 1e-4 if dtype == "float32" else 1e-11
    assert np.allclose(tile(True, gradient)[1], run.backward([gradient]), rtol=near, atol=near)
print("good")
"""


def test_every_level(isa: Any) -> None:
    assert {answer.strip() for answer in isa.run_all(LEVELS).values()} == {"good"}
