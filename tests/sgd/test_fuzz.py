"""Random arguments for `sgd.run`: a right answer or a right refusal, and never anything else."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotloops import random, sgd

SETTINGS = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
REFUSALS = (TypeError, ValueError, OverflowError, MemoryError)

# Sizes that run at once, or that no counter and no memory can hold; nothing between.
STEPS = st.one_of(st.integers(-2, 40), st.sampled_from([2**49, 2**63, 2**64, 2**80]))
CHAINS = st.one_of(st.integers(-2, 40), st.sampled_from([2**33, 2**63, 2**80]))
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.floats(),
    st.complex_numbers(),
    st.binary(max_size=3),
    st.lists(st.one_of(st.floats(), st.none(), st.text(max_size=1)), max_size=4),
    hnp.arrays(
        hnp.scalar_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
)
FLOATS = st.floats(-1e3, 1e3)
STEP = st.one_of(st.floats(1e-3, 0.3), st.floats())


def attempt(call: Any, *given: Any, **options: Any) -> tuple[Any, str]:
    """Return the answer and "", or None and the text of the refusal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "[a-z_]+: ", RuntimeWarning)  # the package's own
        try:
            return call(*given, **options), ""
        except MemoryError:
            return None, "out of memory"
        except REFUSALS as refusal:
            return None, str(refusal) or repr(refusal)


def arrays_of(shape: tuple[int, ...]) -> Any:
    return hnp.arrays(st.sampled_from([np.float32, np.float64]), shape)


@st.composite
def problems(draw: Any) -> Any:
    """A problem of any kind whose parameters are often extreme; None where it was refused."""
    dim, rows = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    options: dict[str, Any] = {"divergence_limit": draw(st.sampled_from([1e-3, 1.0, 1e6, 1e30]))}
    build = draw(
        st.sampled_from([sgd.Quadratic, sgd.Cosine, sgd.LeastSquares, sgd.Logistic, sgd.Custom])
    )
    given: tuple[Any, ...]
    if build is sgd.Quadratic:
        if draw(st.booleans()):
            given = np.abs(draw(arrays_of((dim,)))) + 1e-3, draw(arrays_of((dim,)))
        else:
            given = np.diag(np.linspace(0.5, 2.0, dim)), 0.0
            options["cholesky"] = np.tril(draw(arrays_of((dim, dim))))
    elif build is sgd.Cosine:
        given = draw(FLOATS), abs(draw(FLOATS)), dim
    elif build is sgd.Custom:
        given = (lambda theta, noise, step, data, out: theta + noise), dim
        options["dtype"] = draw(st.sampled_from(["float32", "float64"]))
    else:
        given = draw(arrays_of((rows, dim))), draw(arrays_of((rows,)))
        if build is sgd.Logistic:
            given = given[0], np.arange(rows) % 2
        options["l2"] = abs(draw(FLOATS))
        options["batch_size"] = draw(st.integers(1, 12))
        options["sampling"] = draw(st.sampled_from(["iid", "reshuffle", "sequential"]))
    problem, refusal = attempt(build, *given, **options)
    assert problem is not None or refusal.startswith(f"{build.__name__}: ")
    return problem


OPTIONS: dict[str, Any] = {
    "burn_in": STEPS,
    "num_chains": CHAINS,
    "seed": st.integers(-1, 2**64),
    "chain_offset": st.one_of(st.integers(0, 5), st.sampled_from([2**32 - 20, 2**32, 2**70])),
    "step_offset": st.one_of(st.integers(0, 5), st.sampled_from([2**32 - 9, 2**48 - 40, 2**48])),
    "dtype": st.sampled_from(["float32", "float64", "f4", np.float64, "int8", float]),
    "checkpoints": st.one_of(st.lists(st.integers(-1, 45), max_size=4), st.just(range(1, 9, 3))),
    "num_threads": st.integers(-1, 4),
    "progress": st.sampled_from([False, None]),
    "max_seconds": st.sampled_from([None, 60.0, -1.0, float("nan")]),
}


@SETTINGS
@given(data=st.data())
def test_run(data: st.DataObject) -> None:
    problem = data.draw(problems())
    if problem is None:
        return
    chosen = data.draw(st.sets(st.sampled_from(sorted(OPTIONS)), max_size=5))
    options = {name: data.draw(OPTIONS[name], label=name) for name in chosen}
    if data.draw(st.integers(0, 3)) == 0:
        names = sorted({*OPTIONS, "theta0", "out", "state", "backend", "executor"})
        name = data.draw(st.sampled_from(names))
        options[name] = data.draw(JUNK, label=name)
    elif data.draw(st.booleans()):
        chains = options.get("num_chains", 1)
        shape = data.draw(st.sampled_from([(problem.dim,), (chains, problem.dim)]))
        if max(shape) <= 40 and min(shape) >= 0:
            options["theta0"] = data.draw(arrays_of(shape))
    step_sizes = data.draw(st.one_of(STEP, st.lists(STEP, max_size=3), JUNK))
    num_steps = data.draw(STEPS)
    held = [value for value in options.values() if type(value) is np.ndarray]
    before = [array.tobytes() for array in held]
    result, refusal = attempt(sgd.run, problem, step_sizes, num_steps, **options)
    if result is None:
        named = ("run: `", "run: chain", "run: step", "run: the size", type(problem).__name__)
        assert refusal.startswith((*named, "out of memory")), refusal
        assert [array.tobytes() for array in held] == before
        return
    shape = (options.get("num_chains", 1), len(np.atleast_1d(step_sizes)), problem.dim)
    assert result.mean.shape == result.last.shape == shape
    assert result.num_steps == num_steps
    assert (np.abs(result.last) <= problem.divergence_limit).all()
    assert np.isfinite(result.mean).all()
    assert np.isfinite(result.checkpoint_mean).all()
    assert ((result.flags == 1) == (result.diverged_at >= 0)).all()
    assert all(
        array.tobytes() == bytes_
        for array, bytes_ in zip(held, before, strict=True)
        if array is not options.get("out")
    )


@SETTINGS
@given(data=st.data())
def test_random(data: st.DataObject) -> None:
    index = st.one_of(
        st.integers(-1, 20),
        st.lists(st.integers(-1, 2**49), max_size=4),
        st.builds(range, st.integers(-2, 9), st.integers(-2, 12), st.sampled_from([-3, 1, 2])),
        st.sampled_from([2**31, 2**50, 2**64, range(2**70)]),
        JUNK,
    )
    law = data.draw(st.sampled_from([random.normals, random.uniforms]))
    arguments = [data.draw(index) for _ in range(3)]
    sizes = [
        value
        if isinstance(value, int)
        else len(value)
        if isinstance(value, range) and value.stop < 100
        else 1
        for value in arguments
    ]
    if 2**20 < np.prod([float(max(size, 1)) for size in sizes]) < 2**62:
        return  # it would work, for a long time
    seed, stream = data.draw(st.integers(-1, 2**64)), data.draw(st.integers(-1, 2**16))
    drawn, refusal = attempt(law, seed, *arguments, stream)
    if drawn is None:
        assert refusal.startswith((f"{law.__name__}: ", "out of memory")), refusal
    else:
        assert drawn.ndim == 3
        assert np.isfinite(drawn).all()


@SETTINGS
@given(counter=st.one_of(JUNK, hnp.arrays(np.int64, hnp.array_shapes(max_side=4))), key=JUNK)
def test_philox(counter: Any, key: Any) -> None:
    for second in (key, [1, 2]):
        words, refusal = attempt(random.philox, counter, second)
        if words is None:
            assert refusal.startswith("philox: `"), refusal
        else:
            assert words.dtype == np.uint32
            assert words.shape[-1] == 4


@SETTINGS
@given(means=JUNK, steps=st.one_of(JUNK, st.lists(STEP, max_size=4)))
def test_extrapolate(means: Any, steps: Any) -> None:
    weights, refusal = attempt(sgd.richardson_romberg_weights, steps)
    if weights is None:
        assert refusal.startswith("richardson_romberg_weights: `step_sizes` must"), refusal
        return
    assert np.isfinite(weights).all()
    combined, refusal = attempt(sgd.extrapolate, means, steps)
    if combined is None:
        assert refusal.startswith("extrapolate: `means` must"), refusal
    else:
        assert combined.shape == np.shape(means)[:-2] + np.shape(means)[-1:]
